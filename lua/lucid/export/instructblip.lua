-- InstructBLIP: LAVIS's parts (a LLaMA folder, EVA's file, a file of what was trained between them, BERT's
-- vocabulary) and Hugging Face's one folder. EVA's keys have no bias; Hugging Face has one bias for queries, keys
-- and values, the keys' third of it zero. Its language model has one word more, <image>. LAVIS's norm of the
-- tower's rows has an epsilon of 1e-5, Hugging Face's that of the tower, 1e-6: the last digits differ.
local export = require "lucid.export"
local file = require "lucid.file"
local json = require "lucid.json"
local tensor = require "lucid.tensor"

local M = {}

local LANGUAGE_TO_HF = { { "^model%.", "language_model.model." }, { "^lm_head%.", "language_model.lm_head." } }
local LAYER = "vision_model.encoder.layers."
local TOWER_TO_HF = {
  { "^cls_token$", "vision_model.embeddings.class_embedding" },
  { "^pos_embed$", "vision_model.embeddings.position_embedding" },
  { "^patch_embed%.proj%.", "vision_model.embeddings.patch_embedding." },
  { "^blocks%.(%d+)%.norm([12])%.", LAYER .. "%1.layer_norm%2." },
  { "^blocks%.(%d+)%.attn%.qkv%.", LAYER .. "%1.self_attn.qkv." },
  { "^blocks%.(%d+)%.attn%.proj%.", LAYER .. "%1.self_attn.projection." },
  { "^blocks%.(%d+)%.mlp%.", LAYER .. "%1.mlp." },
}
local BRIDGE_TO_HF = {
  { "^query_tokens$", "query_tokens" },
  { "^ln_vision%.", "vision_model.post_layernorm." },
  { "^llm_proj%.", "language_projection." },
  { "^Qformer%.bert%.embeddings%.LayerNorm%.", "qformer.embeddings.layernorm." },
  { "^Qformer%.bert%.(.*%.)(%a*attention)%.self%.", "qformer.%1%2.attention." },
  { "^Qformer%.bert%.", "qformer." },
}

local TO_LANGUAGE = { { "^language_model%.model%.", "model." }, { "^language_model%.lm_head%.", "lm_head." } }
local TO_TOWER = {
  { "^vision_model%.embeddings%.class_embedding$", "cls_token" },
  { "^vision_model%.embeddings%.position_embedding$", "pos_embed" },
  { "^vision_model%.embeddings%.patch_embedding%.", "patch_embed.proj." },
  { "^vision_model%.encoder%.layers%.(%d+)%.layer_norm([12])%.", "blocks.%1.norm%2." },
  { "^vision_model%.encoder%.layers%.(%d+)%.self_attn%.qkv%.", "blocks.%1.attn.qkv." },
  { "^vision_model%.encoder%.layers%.(%d+)%.self_attn%.projection%.", "blocks.%1.attn.proj." },
  { "^vision_model%.encoder%.layers%.(%d+)%.mlp%.", "blocks.%1.mlp." },
}
local TO_BRIDGE = {
  { "^query_tokens$", "query_tokens" },
  { "^vision_model%.post_layernorm%.", "ln_vision." },
  { "^language_projection%.", "llm_proj." },
  { "^qformer%.embeddings%.layernorm%.", "Qformer.bert.embeddings.LayerNorm." },
  { "^qformer%.(.*%.)(%a*attention)%.attention%.", "Qformer.bert.%1%2.self." },
  { "^qformer%.", "Qformer.bert." },
}

local EVA_LAYERS = 39 -- the file of EVA's own authors goes on behind the last one in use

-- ---- the one bias and the three ----------------------------------------------------------------------------

-- The bias of a block: queries', zeros, values'.
local function joined_bias(tower, i)
  local function of(letter) return ("blocks.%d.attn.%s_bias"):format(i, letter) end
  local width = tower:shape(of "q")[1]
  return { name = LAYER .. i .. ".self_attn.qkv.bias", shape = { 3 * width }, dtype = tower:dtype(of "q"):lower(),
    file = (tower:file(of "q")), make = function()
      local q, v = tower:tensor(of "q"), tower:tensor(of "v")
      return tensor.cat({ q, tensor.zeros({ width }, { dtype = q:dtype() }), v:to(q:dtype()) }, 1)
    end }
end

-- Queries' and values' bias out of the one, whose keys' third has to be zero.
local function split_bias(weights, name)
  local i, width = name:match("layers%.(%d+)%."), weights:shape(name)[1] / 3
  local function part(letter, first)
    return { name = ("blocks.%d.attn.%s_bias"):format(i, letter), shape = { width }, dtype = weights:dtype(name):lower(),
      file = (weights:file(name)), make = function()
        local keys = weights:tensor(name):slice(1, width + 1, 2 * width):to("f32"):abs():sum():item()
        if keys ~= 0 then
          error(("%s: %s: its keys' third is not zero, which LAVIS's layout has no place for"):format(weights.path, name), 0)
        end
        return weights:tensor(name):slice(1, first, first + width - 1):contiguous()
      end }
  end
  return part("q", 1), part("v", 2 * width + 1)
end

-- ---- to Hugging Face's ---------------------------------------------------------------------------------------

-- What stands before the names in a training run's checkpoint: the entry beside the optimizer's, the wrapper of a run
-- on several devices, or both; as native/nn/param.c has it.
local ROOTS = { "^model%.module%.", "^module%.", "^model%." }

-- The rules for the bridge's names as they stand in a file, and what in it is not of the bridge.
local function in_run(from)
  for _, root in ipairs(ROOTS) do
    for _, name in ipairs(from:names()) do
      if name:find(root) then
        local rules = {}
        for i, rule in ipairs(BRIDGE_TO_HF) do rules[i] = { root .. rule[1]:sub(2), rule[2] } end
        return rules, function(other) return not other:find(root) end
      end
    end
  end
  return BRIDGE_TO_HF, function() return false end
end

local function beyond(name)
  local block = tonumber(name:match("^blocks%.(%d+)%."))
  return block and block >= EVA_LAYERS or name:find("^norm%.") or name:find("^head%.") or name:find("^fc_norm%.")
    or name:find("%.attn%.[qv]_bias$")
end

-- How many there are of a name with a number in it.
local function count(by_name, format)
  local n = 0
  while by_name[format:format(n)] do n = n + 1 end
  return n
end

-- Settings as the tensors tell them; heads and the rest are those of the published models unless the language
-- model's config.json has sections that say otherwise.
local function hf_config(source, list, words)
  local by_name = {}
  for _, t in ipairs(list) do by_name[t.name] = t.shape end
  local patches, config = by_name["vision_model.embeddings.patch_embedding.weight"], source.config
  local places = by_name["vision_model.embeddings.position_embedding"][2]
  local queries = by_name.query_tokens
  local q = "qformer.encoder.layer.%d."
  local vision = { model_type = "instructblip_vision_model", hidden_size = patches[1], patch_size = patches[4],
    image_size = patches[4] * math.floor(math.sqrt(places - 1) + 0.5), num_attention_heads = 16, hidden_act = "gelu",
    intermediate_size = by_name[LAYER .. "0.mlp.fc1.weight"][1], layer_norm_eps = 1e-6, qkv_bias = true,
    num_hidden_layers = count(by_name, LAYER .. "%d.layer_norm1.weight") }
  local qformer = { model_type = "instructblip_qformer", hidden_size = queries[3], encoder_hidden_size = patches[1],
    num_attention_heads = 12, num_hidden_layers = count(by_name, q .. "attention.output.dense.weight"), hidden_act = "gelu",
    intermediate_size = by_name[q:format(0) .. "intermediate_query.dense.weight"][1], layer_norm_eps = 1e-12,
    cross_attention_frequency = 2, vocab_size = by_name["qformer.embeddings.word_embeddings.weight"][1],
    max_position_embeddings = by_name["qformer.embeddings.position_embeddings.weight"][1] }
  for section, own in pairs { vision_config = vision, qformer_config = qformer } do
    for key, value in pairs(config[section] or {}) do own[key] = value end
  end
  local text = export.without(config, { "^vision_config$", "^qformer_config$", "^num_query_tokens$", "^transformers_version$" })
  text.vocab_size = words + 1
  return { architectures = json.array { "InstructBlipForConditionalGeneration" }, model_type = "instructblip",
    vision_config = vision, qformer_config = qformer, text_config = text, num_query_tokens = queries[2],
    image_token_index = words, torch_dtype = config.torch_dtype or config.dtype, use_decoder_only_language_model = true }
end

local function vocabulary(path)
  return file.kind(path) == "folder" and path .. "/vocab.txt" or path
end

--- LAVIS's parts as one folder.
---@param source table
---@return table[]
function M.hf(source)
  if not source.tower or not source.connector then
    error("export: InstructBLIP's parts are named by --model (the language model), --vision and --bridge", 0)
  end
  local list = export.planned(source.weights, LANGUAGE_TO_HF, function() return false end)
  local words = export.extend(list, function(n) return n + 1 end)
  for _, t in ipairs(export.planned(source.tower, TOWER_TO_HF, beyond)) do list[#list + 1] = t end
  for i = 0, EVA_LAYERS - 1 do
    if source.tower:has(("blocks.%d.attn.q_bias"):format(i)) then list[#list + 1] = joined_bias(source.tower, i) end
  end
  for _, t in ipairs(export.planned(source.connector, in_run(source.connector))) do list[#list + 1] = t end
  local config = hf_config(source, list, words)
  local size, files = config.vision_config.image_size, export.without(source.files, { "^config%.json$" })
  files["config.json"] = config
  files["added_tokens.json"] = source.read "added_tokens.json"
  files["added_tokens.json"]["<image>"] = words
  files["preprocessor_config.json"] = { image_processor_type = "BlipImageProcessor", processor_class = "InstructBlipProcessor",
    size = { height = size, width = size }, do_resize = true, do_rescale = true, do_normalize = true, resample = 3,
    image_mean = { 0.48145466, 0.4578275, 0.40821073 }, image_std = { 0.26862954, 0.26130258, 0.27577711 } }
  if (source.bert or "") ~= "" then
    files["qformer_tokenizer/vocab.txt"] = file.read(vocabulary(source.bert))
    files["qformer_tokenizer/added_tokens.json"] = { ["[DEC]"] = 30522 }
  end
  return { { name = "", shards = export.shards(list), files = files } }
end

-- ---- to LAVIS's parts ----------------------------------------------------------------------------------------

local function belongs(rules)
  return function(name) return not export.rename(rules, name) end
end

--- Hugging Face's folder as parts: language/, eva_vit_g.safetensors, instructblip.safetensors, bert/.
---@param source table
---@return table[]
function M.original(source)
  local weights, config = source.weights, source.config
  local language = export.planned(weights, TO_LANGUAGE, belongs(TO_LANGUAGE))
  local tower = export.planned(weights, TO_TOWER, function(name)
    return belongs(TO_TOWER)(name) or name:find("qkv%.bias$")
  end)
  for _, name in ipairs(weights:names()) do
    if name:find("^vision_model.*qkv%.bias$") then
      tower[#tower + 1], tower[#tower + 2] = split_bias(weights, name)
    end
  end
  -- What is neither of these has to be the bridge's.
  local bridge = export.planned(weights, TO_BRIDGE, function(name)
    return (export.rename(TO_LANGUAGE, name) or export.rename(TO_TOWER, name)) ~= nil
  end)
  local words = export.crop(language, source)
  local text = export.without(config.text_config, {})
  text.model_type, text.architectures, text.vocab_size = "llama", json.array { "LlamaForCausalLM" }, words
  -- LAVIS's parts have no file for these; what reads a language model passes them over.
  text.vision_config, text.qformer_config, text.num_query_tokens = config.vision_config, config.qformer_config,
    config.num_query_tokens
  local parts = {
    { name = "language", shards = export.shards(language), files = { ["config.json"] = text,
      ["tokenizer.model"] = source.files["tokenizer.model"], ["generation_config.json"] = source.files["generation_config.json"] } },
    { name = "", apart = true, files = {}, shards = { ["eva_vit_g.safetensors"] = tower, ["instructblip.safetensors"] = bridge } },
  }
  local vocab = source.files["qformer_tokenizer/vocab.txt"]
  if vocab then parts[#parts + 1] = { name = "bert", shards = {}, files = { ["vocab.txt"] = vocab } } end
  return parts
end

return M
