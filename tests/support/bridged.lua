-- Tiny MiniGPT-4 and InstructBLIP folders for specs of training: EVA's tower and both bridges around the tiny world's
-- decoder and tokenizer.
local base = require "lucid.tinyworld.base"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local json = require "lucid.json"
local lucid = require "lucid"
local model = require "lucid.model"
local native = require "lucid.native"
local tiny = require "tests.support.tiny"

local M = {}

M.TOWER = native.root .. "tests/golden/bridges/tower.pth"        -- 16/4, width 32

local WORDS = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "describe", "this", "image", "in", "detail", "is", "there",
  "a", "car", "the", "picture", "please", "take", "look", "could", "you", "contents", "of", "me", "?", "." }

--- MiniGPT-4 in parts: DIR/language and DIR/bridge.safetensors beside TOWER; the words that name them.
---@param dir string
function M.minigpt4(dir)
  tiny.model(dir .. "/whole", 3)
  local from, tensors = checkpoint(dir .. "/whole"), {}
  for _, name in ipairs(from:names()) do
    local own = name:match "^language_model%.(.*)$"
    if own then tensors[own] = from:tensor(name) end
  end
  local config = json.read(dir .. "/whole/config.json").text_config
  config.model_type = "llama"
  file.mkdir(dir .. "/language")
  json.write(dir .. "/language/config.json", config)
  file.write(dir .. "/language/tokenizer.model", file.read(dir .. "/whole/tokenizer.model"))
  checkpoint.save(dir .. "/language/model.safetensors", tensors)
  checkpoint.save(dir .. "/bridge.safetensors", {
    ["llama_proj.weight"] = lucid.randn({ config.hidden_size, 4 * 32 }, { seed = 5 }) * 0.05,
    ["llama_proj.bias"] = lucid.zeros { config.hidden_size },
  })
  return ("--model %s/language --vision %s --bridge %s/bridge.safetensors"):format(dir, M.TOWER, dir)
end

--- InstructBLIP in Hugging Face's layout, BERT's vocabulary with it; the words that name it.
function M.instructblip(dir)
  local folder = dir .. "/instructblip"
  base.write(folder)
  local text = json.read(folder .. "/config.json").text_config
  json.write(folder .. "/config.json", {
    model_type = "instructblip", num_query_tokens = 4, text_config = text,
    qformer_config = { hidden_size = 20, intermediate_size = 28, num_hidden_layers = 3, num_attention_heads = 2,
      vocab_size = #WORDS, max_position_embeddings = 128, encoder_hidden_size = 24, cross_attention_frequency = 2,
      hidden_act = "gelu", layer_norm_eps = 1e-12, model_type = "instructblip_qformer" },
    vision_config = { hidden_size = 24, intermediate_size = 28, num_hidden_layers = 2, num_attention_heads = 3,
      image_size = 15, patch_size = 5, hidden_act = "gelu", qkv_bias = true, layer_norm_eps = 1e-6,
      model_type = "instructblip_vision_model" },
  })
  json.write(folder .. "/preprocessor_config.json", { image_processor_type = "BlipImageProcessor",
    size = { height = 15, width = 15 } })
  model.open(folder, { init = true, seed = 3 }):save(folder)
  file.mkdir(folder .. "/qformer_tokenizer")
  file.write(folder .. "/qformer_tokenizer/vocab.txt", table.concat(WORDS, "\n") .. "\n")
  return "--model " .. folder
end

return M
