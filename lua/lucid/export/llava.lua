-- LLaVA-1.5: its own folder with CLIP's, and Hugging Face's one folder. The language model of Hugging Face's has
-- rows for <image> and <pad> behind the vocabulary, padded to a multiple of 64; LLaVA's own has none. Pictures are treated as the source
-- treats them: a folder of Hugging Face's that does not pad them to a square becomes one that does not.
local export = require "lucid.export"
local json = require "lucid.json"
local layout = require "lucid.layout"

local M = {}

local TO_HF = {
  { "^vision_model%.", "vision_tower.vision_model." },
  { "^model%.vision_tower%.vision_tower%.", "vision_tower." },
  { "^model%.mm_projector%.0%.", "multi_modal_projector.linear_1." },
  { "^model%.mm_projector%.2%.", "multi_modal_projector.linear_2." },
  { "^lm_head%.", "language_model.lm_head." },
  { "^model%.", "language_model.model." },
}

-- Of all the names that transformers has given them.
local TO_ORIGINAL = {
  { "^vision_tower%.vision_model%.", "vision_model." },
  { "^vision_tower%.", "vision_model." },
  { "^model%.vision_tower%.vision_model%.", "vision_model." },
  { "^model%.vision_tower%.", "vision_model." },
  { "^multi_modal_projector%.linear_1%.", "model.mm_projector.0." },
  { "^multi_modal_projector%.linear_2%.", "model.mm_projector.2." },
  { "^model%.multi_modal_projector%.linear_1%.", "model.mm_projector.0." },
  { "^model%.multi_modal_projector%.linear_2%.", "model.mm_projector.2." },
  { "^language_model%.model%.", "model." },
  { "^model%.language_model%.", "model." },
  { "^language_model%.lm_head%.", "lm_head." },
  { "^lm_head%.", "lm_head." },
}

-- Keys of a config.json that are not the language model's settings.
local NOT_LANGUAGE = { "^mm_", "^image_", "^tune_", "^freeze_", "^unfreeze_", "^use_mm", "^architectures$",
  "^model_type$", "^transformers_version$", "^_name_or_path$", "^tokenizer_", "^vision_config$" }

local function no_skip() return false end

-- ---- to Hugging Face's ------------------------------------------------------------------------------------

-- The copy of the tower in LLaVA's own folder is passed over where --vision names another.
local function copied_tower(name) return name:find("^model%.vision_tower%.") ~= nil end

local function beside_tower(name) return not name:find("^vision_model%.") end

local function vision_config(source)
  local config = layout.vision_config(source.config, source.vision)
  if next(config) == nil then
    error((source.vision or source.dir) .. ": there is no config.json that says the tower's sizes; give --vision, CLIP's folder", 0)
  end
  config = export.without(config, { "^architectures$", "^transformers_version$" })
  config.model_type = "clip_vision_model"
  return config
end

local function hf_config(source, words, rows)
  local config, vision = source.config, vision_config(source)
  local text = export.without(config, NOT_LANGUAGE)
  text.model_type, text.architectures = "llama", json.array { "LlamaForCausalLM" }
  text.vocab_size, text.pad_token_id = rows, words + 1
  local side = math.floor((vision.image_size or 224) / (vision.patch_size or 32))
  return {
    architectures = json.array { "LlavaForConditionalGeneration" }, model_type = "llava", text_config = text,
    vision_config = vision, image_token_index = words, pad_token_id = words + 1, projector_hidden_act = "gelu",
    image_seq_length = side * side + (layout.keeps_class(config) and 1 or 0),
    vision_feature_layer = config.mm_vision_select_layer or -2, torch_dtype = config.torch_dtype, ignore_index = -100,
    vision_feature_select_strategy = layout.keeps_class(config) and "full" or "default", tie_word_embeddings = false,
  }, vision
end

local function hf_processor(source, size)
  local own = layout.processor(source.dir, source.config, "llava", size, source.vision)
  local p = export.without(own, { "^image_aspect_ratio$", "^feature_extractor_type$" })
  local pads = own.image_aspect_ratio == "pad"
  p.processor_class, p.image_processor_type = "LlavaProcessor", pads and "LlavaImageProcessor" or "CLIPImageProcessor"
  p.do_pad = pads or nil
  if type(p.size) == "number" then p.size = { shortest_edge = p.size } end
  if type(p.crop_size) == "number" then p.crop_size = { height = p.crop_size, width = p.crop_size } end
  return p
end

local function added(content) return { content = content, lstrip = false, normalized = false, rstrip = false,
  single_word = false, special = true } end

-- <image> and <pad> are the two words behind the vocabulary.
local function hf_tokenizer(source, words)
  local config = source.read "tokenizer_config.json"
  config.added_tokens_decoder = { ["0"] = added "<unk>", ["1"] = added "<s>", ["2"] = added "</s>",
    [tostring(words)] = added "<image>", [tostring(words + 1)] = added "<pad>" }
  config.tokenizer_class, config.processor_class = "LlamaTokenizer", "LlavaProcessor"
  config.bos_token, config.eos_token, config.unk_token = "<s>", "</s>", "<unk>"
  config.pad_token, config.image_token = "<pad>", "<image>"
  return config
end

--- LLaVA's own folder and CLIP's, or a language model, a projector and CLIP's, as one folder.
---@param source table
---@return table[]
function M.hf(source)
  local skip = source.tower and copied_tower or no_skip
  local list = export.planned(source.weights, TO_HF, skip)
  local function add(from, skipped)
    for _, t in ipairs(export.planned(from, TO_HF, skipped)) do list[#list + 1] = t end
  end
  if source.tower then add(source.tower, beside_tower) end
  if source.connector then add(source.connector, no_skip) end
  local words, rows = export.extend(list, function(n) return 64 * math.ceil((n + 2) / 64) end)
  local config, vision = hf_config(source, words, rows)
  local files = { ["config.json"] = config, ["preprocessor_config.json"] = hf_processor(source, vision.image_size),
    ["tokenizer.model"] = source.files["tokenizer.model"], ["tokenizer_config.json"] = hf_tokenizer(source, words),
    ["added_tokens.json"] = { ["<image>"] = words, ["<pad>"] = words + 1 },
    ["special_tokens_map.json"] = { bos_token = "<s>", eos_token = "</s>", unk_token = "<unk>", pad_token = "<pad>" },
    ["generation_config.json"] = source.files["generation_config.json"],
    ["processor_config.json"] = { processor_class = "LlavaProcessor", image_token = "<image>", patch_size = vision.patch_size,
      num_additional_image_tokens = 1, vision_feature_select_strategy = config.vision_feature_select_strategy } }
  return { { name = "", shards = export.shards(list), files = files } }
end

-- ---- to LLaVA's own ---------------------------------------------------------------------------------------

local function original_config(source, words)
  local config = source.config
  local act = config.projector_hidden_act or "gelu"
  if act ~= "gelu" or config.multimodal_projector_bias == false then
    error(source.dir .. "/config.json: LLaVA's own layout has a projector with gelu and biases alone", 0)
  end
  local out = export.without(config.text_config, NOT_LANGUAGE)
  if type(out.rope_parameters) == "table" then
    out.rope_theta, out.rope_parameters = out.rope_theta or out.rope_parameters.rope_theta, nil
  end
  local processor = source.read "preprocessor_config.json"
  out.model_type, out.architectures = "llava", json.array { "LlavaLlamaForCausalLM" }
  out.vocab_size, out.pad_token_id, out.torch_dtype = words, 0, config.torch_dtype or config.dtype or out.torch_dtype
  out.image_aspect_ratio = processor.do_pad == true and "pad" or "square"
  out.mm_hidden_size, out.mm_projector_type = config.vision_config.hidden_size, "mlp2x_gelu"
  out.mm_use_im_patch_token, out.mm_use_im_start_end, out.use_mm_proj = false, false, true
  out.mm_vision_select_feature = layout.keeps_class(config) and "cls_patch" or "patch"
  out.mm_vision_select_layer, out.mm_vision_tower = config.vision_feature_layer or -2, source.out .. "/vision_tower"
  return out
end

-- Without what is said about <image> and <pad>.
local function original_tokenizer(source)
  local config = export.without(source.read "tokenizer_config.json", { "^processor_class$", "^image_token$",
    "^extra_special_tokens$", "^added_tokens_decoder$", "^chat_template$" })
  config.bos_token, config.eos_token, config.unk_token, config.pad_token = "<s>", "</s>", "<unk>", "<unk>"
  config.tokenizer_class = "LlamaTokenizer"
  return config
end

--- Hugging Face's folder as LLaVA's own, with CLIP's in vision_tower/.
---@param source table
---@return table[]
function M.original(source)
  local main, tower = {}, {}
  for _, t in ipairs(export.planned(source.weights, TO_ORIGINAL, no_skip)) do
    table.insert(t.name:find("^vision_model%.") and tower or main, t)
  end
  local words = export.crop(main, source)
  local vision = export.without(source.config.vision_config, {})
  vision.architectures = json.array { "CLIPVisionModel" }
  local processor = export.without(source.read "preprocessor_config.json", { "^processor_class$", "^do_pad$" })
  processor.image_processor_type = "CLIPImageProcessor"
  return {
    { name = "", shards = export.shards(main), files = {
      ["config.json"] = original_config(source, words), ["tokenizer.model"] = source.files["tokenizer.model"],
      ["tokenizer_config.json"] = original_tokenizer(source),
      ["special_tokens_map.json"] = { bos_token = "<s>", eos_token = "</s>", unk_token = "<unk>", pad_token = "<unk>" },
      ["generation_config.json"] = source.files["generation_config.json"] } },
    { name = "vision_tower", shards = export.shards(tower),
      files = { ["config.json"] = vision, ["preprocessor_config.json"] = processor } },
  }
end

return M
