-- The published layouts of the three models: names, shapes and dtypes of their tensors, and the texts
-- beside them. Written from what the files are known to hold, not from the loader.
--   for _, part in ipairs(published["llava-hf"](published.LLAVA_7B)) do ... end
-- A part is { file = "eva_vit_g.pth" } or { shards = folder, kind =, limit = bytes }, with its tensors
-- { name =, shape =, ones = true, dtype = "f32" where the file is not of one dtype }, or { file =, json = }.
local json = require "lucid.json"

local M = {}

-- ---- sizes ----------------------------------------------------------------------------------------------

local CLIP_L = { width = 1024, mlp = 4096, layers = 24, heads = 16, size = 336, patch = 14 }
local EVA_G = { width = 1408, mlp = 6144, layers = 39, heads = 16, size = 224, patch = 14 }
local QFORMER = { width = 768, mlp = 3072, layers = 12, heads = 12, queries = 32, words = 30523, positions = 512 }

M.LLAVA_7B = { vision = CLIP_L,
  language = { width = 4096, mlp = 11008, layers = 32, heads = 32, words = 32000, positions = 4096, eps = 1e-5 } }
M.VICUNA_13B = { vision = EVA_G, qformer = QFORMER,
  language = { width = 5120, mlp = 13824, layers = 40, heads = 40, words = 32000, positions = 2048, eps = 1e-6 } }

-- ---- tensors --------------------------------------------------------------------------------------------

local function add(list, name, shape, dtype) list[#list + 1] = { name = name, shape = shape, dtype = dtype } end

local function linear(list, name, n, k, biased)
  add(list, name .. ".weight", { n, k })
  if biased then add(list, name .. ".bias", { n }) end
end

local function norm(list, name, width, biased, dtype)
  list[#list + 1] = { name = name .. ".weight", shape = { width }, ones = true, dtype = dtype }
  if biased then add(list, name .. ".bias", { width }, dtype) end
end

local function llama(list, s, root, head)
  add(list, root .. ".embed_tokens.weight", { s.words, s.width })
  for i = 0, s.layers - 1 do
    local layer = ("%s.layers.%d."):format(root, i)
    for _, name in ipairs { "q", "k", "v", "o" } do
      linear(list, ("%sself_attn.%s_proj"):format(layer, name), s.width, s.width)
    end
    linear(list, layer .. "mlp.gate_proj", s.mlp, s.width)
    linear(list, layer .. "mlp.up_proj", s.mlp, s.width)
    linear(list, layer .. "mlp.down_proj", s.width, s.mlp)
    norm(list, layer .. "input_layernorm", s.width)
    norm(list, layer .. "post_attention_layernorm", s.width)
  end
  norm(list, root .. ".norm", s.width)
  linear(list, head, s.words, s.width)
  return list
end

local function patches(s) return (s.size / s.patch) ^ 2 end

local function clip(list, s, root)
  add(list, root .. ".embeddings.class_embedding", { s.width })
  add(list, root .. ".embeddings.patch_embedding.weight", { s.width, 3, s.patch, s.patch })
  add(list, root .. ".embeddings.position_embedding.weight", { patches(s) + 1, s.width })
  norm(list, root .. ".pre_layrnorm", s.width, true)
  for i = 0, s.layers - 1 do
    local layer = ("%s.encoder.layers.%d."):format(root, i)
    for _, name in ipairs { "q_proj", "k_proj", "v_proj", "out_proj" } do
      linear(list, layer .. "self_attn." .. name, s.width, s.width, true)
    end
    linear(list, layer .. "mlp.fc1", s.mlp, s.width, true)
    linear(list, layer .. "mlp.fc2", s.width, s.mlp, true)
    norm(list, layer .. "layer_norm1", s.width, true)
    norm(list, layer .. "layer_norm2", s.width, true)
  end
  norm(list, root .. ".post_layernorm", s.width, true)
end

-- EVA's own file keeps norms, positions and the biases of queries and values in f32.
local function eva(list, s)
  add(list, "cls_token", { 1, 1, s.width }, "f32")
  add(list, "pos_embed", { 1, patches(s) + 1, s.width }, "f32")
  add(list, "patch_embed.proj.weight", { s.width, 3, s.patch, s.patch })
  add(list, "patch_embed.proj.bias", { s.width })
  for i = 0, s.layers - 1 do
    local block = ("blocks.%d."):format(i)
    norm(list, block .. "norm1", s.width, true, "f32")
    add(list, block .. "attn.q_bias", { s.width }, "f32")
    add(list, block .. "attn.v_bias", { s.width }, "f32")
    linear(list, block .. "attn.qkv", 3 * s.width, s.width)
    linear(list, block .. "attn.proj", s.width, s.width, true)
    norm(list, block .. "norm2", s.width, true, "f32")
    linear(list, block .. "mlp.fc1", s.mlp, s.width, true)
    linear(list, block .. "mlp.fc2", s.width, s.mlp, true)
  end
  return list
end

local function hf_eva(list, s, root)
  add(list, root .. ".embeddings.class_embedding", { 1, 1, s.width })
  add(list, root .. ".embeddings.position_embedding", { 1, patches(s) + 1, s.width })
  add(list, root .. ".embeddings.patch_embedding.weight", { s.width, 3, s.patch, s.patch })
  add(list, root .. ".embeddings.patch_embedding.bias", { s.width })
  for i = 0, s.layers - 1 do
    local layer = ("%s.encoder.layers.%d."):format(root, i)
    linear(list, layer .. "self_attn.qkv", 3 * s.width, s.width, true)
    linear(list, layer .. "self_attn.projection", s.width, s.width, true)
    norm(list, layer .. "layer_norm1", s.width, true)
    norm(list, layer .. "layer_norm2", s.width, true)
    linear(list, layer .. "mlp.fc1", s.mlp, s.width, true)
    linear(list, layer .. "mlp.fc2", s.width, s.mlp, true)
  end
  norm(list, root .. ".post_layernorm", s.width, true)
end

-- spelling: { root, the embeddings' norm, what queries, keys and values are below }
local function qformer(list, s, seen, spelling)
  local root, embeddings_norm, inner = unpack(spelling)
  add(list, "query_tokens", { 1, s.queries, s.width })
  add(list, root .. ".embeddings.word_embeddings.weight", { s.words, s.width })
  add(list, root .. ".embeddings.position_embeddings.weight", { s.positions, s.width })
  norm(list, root .. ".embeddings." .. embeddings_norm, s.width, true)
  for i = 0, s.layers - 1 do
    local layer = ("%s.encoder.layer.%d."):format(root, i)
    for _, kind in ipairs(i % 2 == 0 and { "attention", "crossattention" } or { "attention" }) do
      local from = kind == "crossattention" and seen or s.width
      linear(list, ("%s%s.%s.query"):format(layer, kind, inner), s.width, s.width, true)
      linear(list, ("%s%s.%s.key"):format(layer, kind, inner), s.width, from, true)
      linear(list, ("%s%s.%s.value"):format(layer, kind, inner), s.width, from, true)
      linear(list, layer .. kind .. ".output.dense", s.width, s.width, true)
      norm(list, layer .. kind .. ".output.LayerNorm", s.width, true)
    end
    for _, which in ipairs { "", "_query" } do
      linear(list, ("%sintermediate%s.dense"):format(layer, which), s.mlp, s.width, true)
      linear(list, ("%soutput%s.dense"):format(layer, which), s.width, s.mlp, true)
      norm(list, ("%soutput%s.LayerNorm"):format(layer, which), s.width, true)
    end
  end
end

-- ---- texts ----------------------------------------------------------------------------------------------

local function llama_config(s)
  return { architectures = json.array { "LlamaForCausalLM" }, model_type = "llama", hidden_size = s.width,
    intermediate_size = s.mlp, num_hidden_layers = s.layers, num_attention_heads = s.heads, vocab_size = s.words,
    max_position_embeddings = s.positions, rms_norm_eps = s.eps, hidden_act = "silu", bos_token_id = 1,
    eos_token_id = 2, tie_word_embeddings = false }
end

local function vision_config(s, kind, act, eps)
  return { model_type = kind, hidden_size = s.width, intermediate_size = s.mlp, num_hidden_layers = s.layers,
    num_attention_heads = s.heads, image_size = s.size, patch_size = s.patch, hidden_act = act,
    layer_norm_eps = eps }
end

local CLIP_COLOURS = { mean = { 0.48145466, 0.4578275, 0.40821073 }, std = { 0.26862954, 0.26130258, 0.27577711 } }

local function processor(s, kind)
  local square = { height = s.size, width = s.size }
  return { image_processor_type = kind, do_convert_rgb = true, do_resize = true, resample = 3, do_rescale = true,
    size = kind == "CLIPImageProcessor" and { shortest_edge = s.size } or square,
    do_center_crop = kind == "CLIPImageProcessor", crop_size = square, rescale_factor = 1 / 255,
    do_normalize = true, image_mean = CLIP_COLOURS.mean, image_std = CLIP_COLOURS.std }
end

-- ---- layouts --------------------------------------------------------------------------------------------

-- How large the shards of transformers are, of either kind.
local SAFETENSORS_SHARD, TORCH_SHARD = 5e9, 10e9

-- The same language model with more words.
local function padded(s, more)
  local copy = {}
  for key, value in pairs(s) do copy[key] = value end
  copy.words = s.words + more
  return copy
end

--- llava-hf/llava-1.5-7b-hf
M["llava-hf"] = function(s)
  local list, language = {}, padded(s.language, 64) -- <image>, <pad> and rows that nothing uses
  clip(list, s.vision, "vision_tower.vision_model")
  linear(list, "multi_modal_projector.linear_1", language.width, s.vision.width, true)
  linear(list, "multi_modal_projector.linear_2", language.width, language.width, true)
  llama(list, language, "language_model.model", "language_model.lm_head")
  return {
    { shards = ".", kind = "safetensors", limit = SAFETENSORS_SHARD, tensors = list },
    { file = "config.json", json = { architectures = json.array { "LlavaForConditionalGeneration" },
      model_type = "llava", image_token_index = 32000, projector_hidden_act = "gelu", vision_feature_layer = -2,
      vision_feature_select_strategy = "default", text_config = llama_config(language),
      vision_config = vision_config(s.vision, "clip_vision_model", "quick_gelu", 1e-5) } },
    { file = "preprocessor_config.json", json = processor(s.vision, "CLIPImageProcessor") },
  }
end

--- liuhaotian/llava-v1.5-7b, with its tower in it, as pickles
M.llava = function(s)
  local list = llama({}, s.language, "model", "lm_head")
  clip(list, s.vision, "model.vision_tower.vision_tower.vision_model")
  linear(list, "model.mm_projector.0", s.language.width, s.vision.width, true)
  linear(list, "model.mm_projector.2", s.language.width, s.language.width, true)
  local config = llama_config(s.language)
  config.architectures, config.model_type = json.array { "LlavaLlamaForCausalLM" }, "llava"
  config.mm_vision_tower, config.mm_projector_type = "openai/clip-vit-large-patch14-336", "mlp2x_gelu"
  config.mm_hidden_size, config.mm_vision_select_layer = s.vision.width, -2
  config.mm_vision_select_feature = "patch"
  return { { shards = ".", kind = "torch", limit = TORCH_SHARD, tensors = list },
    { file = "config.json", json = config } }
end

--- Salesforce/instructblip-vicuna-13b
M["instructblip-hf"] = function(s)
  local list, language = {}, padded(s.language, 1) -- [PAD]
  hf_eva(list, s.vision, "vision_model")
  qformer(list, s.qformer, s.vision.width, { "qformer", "layernorm", "attention" })
  linear(list, "language_projection", language.width, s.qformer.width, true)
  llama(list, language, "language_model.model", "language_model.lm_head")
  local q = s.qformer
  return {
    { shards = ".", kind = "safetensors", limit = SAFETENSORS_SHARD, tensors = list },
    { file = "config.json", json = { architectures = json.array { "InstructBlipForConditionalGeneration" },
      model_type = "instructblip", num_query_tokens = q.queries, text_config = llama_config(language),
      vision_config = vision_config(s.vision, "instructblip_vision_model", "gelu", 1e-6),
      qformer_config = { model_type = "instructblip_qformer", hidden_size = q.width, intermediate_size = q.mlp,
        num_hidden_layers = q.layers, num_attention_heads = q.heads, vocab_size = q.words,
        max_position_embeddings = q.positions, cross_attention_frequency = 2, layer_norm_eps = 1e-12,
        encoder_hidden_size = s.vision.width } } },
    { file = "preprocessor_config.json", json = processor(s.vision, "BlipImageProcessor") },
  }
end

--- A Vicuna folder in pickles, EVA's file, and LAVIS's file of what was trained between them
M.instructblip = function(s)
  local bridge, width = {}, s.vision.width
  qformer(bridge, s.qformer, width, { "Qformer.bert", "LayerNorm", "self" })
  norm(bridge, "ln_vision", width, true)
  linear(bridge, "llm_proj", s.language.width, s.qformer.width, true)
  for _, t in ipairs(bridge) do t.dtype = "f32" end
  return {
    { shards = "vicuna", kind = "torch", limit = TORCH_SHARD, tensors = llama({}, s.language, "model", "lm_head") },
    { file = "vicuna/config.json", json = llama_config(s.language) },
    { file = "eva_vit_g.pth", tensors = eva({}, s.vision) },
    { file = "instruct_blip_vicuna13b_trimmed.pth", under = "model", tensors = bridge },
  }
end

return M
