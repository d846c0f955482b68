-- LLaVAs of random weights and any size, made in memory: what decoding, training and questions are timed on.
--   local m = models.new(models.LAYERS_OF_7B, { device = "cpu", dtype = "bf16", seed = 1 })
local json = require "lucid.json"
local model = require "lucid.model"
local scratch = require "lucid.bench.scratch"

local M = {}

local CLIP_L = { width = 1024, mlp = 4096, layers = 24, heads = 16, size = 336, patch = 14 }

-- LLaVA-1.5-7B of so many decoder layers.
local function llava_7b(layers)
  return { vision = CLIP_L,
    language = { width = 4096, mlp = 11008, layers = layers, heads = 32, words = 32064, positions = 4096 } }
end

M.LLAVA_7B = llava_7b(32)
--- The same widths, and the few layers that a small machine has room and time for.
M.LAYERS_OF_7B = llava_7b(2)
--- A small model of as many rows a picture as LLaVA-1.5's: 576.
M.SMALL = { vision = { width = 256, mlp = 1024, layers = 5, heads = 4, size = 336, patch = 14 },
  language = { width = 512, mlp = 1376, layers = 6, heads = 8, words = 512, positions = 2048 } }
--- Nothing to measure: for tests of the bench.
M.TINY = { vision = { width = 32, mlp = 64, layers = 2, heads = 2, size = 56, patch = 14 },
  language = { width = 64, mlp = 96, layers = 2, heads = 2, words = 512, positions = 256 } }

--- Writes config.json and preprocessor_config.json as Hugging Face's LLaVA folders have them.
---@param dir string
---@param sizes table       { vision = { width, mlp, layers, heads, size, patch }, language = { width, mlp, layers, heads, words, positions } }
function M.write(dir, sizes)
  local v, l = sizes.vision, sizes.language
  json.write(dir .. "/config.json", {
    architectures = json.array { "LlavaForConditionalGeneration" }, model_type = "llava",
    image_token_index = l.words - 1, projector_hidden_act = "gelu", tie_word_embeddings = false,
    vision_feature_layer = -2, vision_feature_select_strategy = "default",
    vision_config = { model_type = "clip_vision_model", hidden_size = v.width, intermediate_size = v.mlp,
      num_hidden_layers = v.layers, num_attention_heads = v.heads, image_size = v.size, patch_size = v.patch,
      hidden_act = "quick_gelu", layer_norm_eps = 1e-5, projection_dim = v.width },
    text_config = { model_type = "llama", hidden_size = l.width, intermediate_size = l.mlp, num_hidden_layers = l.layers,
      num_attention_heads = l.heads, num_key_value_heads = l.heads, vocab_size = l.words, rms_norm_eps = 1e-5,
      max_position_embeddings = l.positions, rope_theta = 10000, tie_word_embeddings = false,
      bos_token_id = 1, eos_token_id = 2 },
  }, { indent = 2 })
  json.write(dir .. "/preprocessor_config.json", {
    image_processor_type = "CLIPImageProcessor", do_convert_rgb = true, do_resize = true, resample = 3,
    size = { shortest_edge = v.size }, do_center_crop = true, crop_size = { height = v.size, width = v.size },
    do_rescale = true, rescale_factor = 1 / 255, do_normalize = true,
    image_mean = { 0.48145466, 0.4578275, 0.40821073 }, image_std = { 0.26862954, 0.26130258, 0.27577711 },
  }, { indent = 2 })
end

--- The opened model; its folder is gone. With quant its weights were written and are read packed.
---@param sizes table
---@param opt { device: string, dtype: string, seed: integer, quant: string|nil }
---@return lucid.Model
function M.new(sizes, opt)
  local dir = scratch.new()
  local ok, m = pcall(function()
    M.write(dir, sizes)
    local new = model.open(dir, { init = true, device = opt.device, dtype = opt.dtype, seed = opt.seed })
    if not opt.quant then return new end
    new:save(dir)
    return model.open(dir, { device = opt.device, dtype = opt.dtype, quant = opt.quant })
  end)
  scratch.remove(dir)
  return ok and m or error(m, 0)
end

return M
