-- The tiny world's model before it has seen a caption: a folder like any LLaVA's (config.json,
-- preprocessor_config.json, tokenizer.model), new weights, and a tower that is aligned with the words.
local file = require "lucid.file"
local image = require "lucid.image"
local json = require "lucid.json"
local native = require "lucid.native"
local rng = require "lucid.rng"
local tensor = require "lucid.tensor"
local tokenizer = require "lucid.tokenizer"
local train = require "lucid.train"
local vg = require "lucid.data.vg"
local captions = require "lucid.tinyworld.captions"
local files = require "lucid.tinyworld.files"
local world = require "lucid.tinyworld.world"

local C = native.C
local M = {}

local PATCH, WIDTH, PIECES = 16, 128, 512
local CORPUS_REPEATS = 20       -- so that every word is frequent enough to become one piece

local CONFIG = {
  architectures = json.array { "LlavaForConditionalGeneration" },
  model_type = "llava",
  lucid_template = "tiny_v1",
  image_token_index = PIECES - 1,
  vision_feature_layer = -1,
  vision_feature_select_strategy = "default",
  projector_hidden_act = "gelu",
  vision_config = {
    model_type = "clip_vision_model", hidden_size = WIDTH, intermediate_size = 512,
    num_hidden_layers = 2, num_attention_heads = 4, image_size = world.SIDE, patch_size = PATCH,
    hidden_act = "quick_gelu", layer_norm_eps = 1e-5, projection_dim = WIDTH,
  },
  text_config = {
    model_type = "llama", hidden_size = WIDTH, intermediate_size = 352, num_hidden_layers = 3,
    num_attention_heads = 4, num_key_value_heads = 4, vocab_size = PIECES, rms_norm_eps = 1e-5,
    max_position_embeddings = 512, rope_theta = 10000, tie_word_embeddings = false,
    bos_token_id = 1, eos_token_id = 2,
  },
}

local PROCESSOR = {
  image_processor_type = "CLIPImageProcessor", do_resize = true, size = { shortest_edge = world.SIDE },
  resample = 3, do_center_crop = true, crop_size = { height = world.SIDE, width = world.SIDE },
  do_rescale = true, rescale_factor = 1 / 255, do_normalize = true,
  image_mean = { 0.5, 0.5, 0.5 }, image_std = { 0.25, 0.25, 0.25 }, do_convert_rgb = true,
}

--- Every word that must be one piece.
---@return string[]
function M.words()
  local list, seen = {}, {}
  for _, line in ipairs(captions.corpus()) do
    for word in line:gmatch("%a+") do
      if not seen[word] then
        seen[word] = true
        list[#list + 1] = word
      end
    end
  end
  return list
end

--- Writes the folder: configuration, processor, and a tokenizer trained on the world's sentences.
---@param dir string
function M.write(dir)
  native.check(C.lc_make_folder(dir))
  json.write(dir .. "/config.json", CONFIG, { indent = 2 })
  json.write(dir .. "/preprocessor_config.json", PROCESSOR, { indent = 2 })
  local lines = {}
  for _ = 1, CORPUS_REPEATS do
    for _, line in ipairs(captions.corpus()) do
      lines[#lines + 1] = line
      lines[#lines + 1] = "USER: " .. line .. " ASSISTANT: " .. line
    end
    for _, word in ipairs(M.words()) do lines[#lines + 1] = word .. " " .. word end
  end
  file.write(dir .. "/corpus.txt", table.concat(lines, "\n") .. "\n")
  tokenizer.train(dir .. "/corpus.txt", dir .. "/tokenizer.model", { pieces = PIECES, words = M.words() })
  native.check(C.lc_remove(dir .. "/corpus.txt"))
end

-- ---- alignment ---------------------------------------------------------------------------------------

-- What each of a picture's cells should say: ids of four words, with "image" where there is nothing.
local function labels(tk, objects)
  local function id(word) return tk:encode(word)[1] end
  local nothing = id("image")
  local cells = {}
  for cell = 1, world.CELLS * world.CELLS do
    local row, column = math.ceil(cell / world.CELLS), (cell - 1) % world.CELLS + 1
    local vertical, horizontal = world.position(row, column):match("(%a+) (%a+)")
    cells[cell] = { nothing, nothing, id(vertical), id(horizontal) }
  end
  for _, o in ipairs(files.cells(objects)) do
    cells[o.cell][1], cells[o.cell][2] = id(o.name), id(o.colour)
  end
  return cells
end

local function read(model, root)
  local annotations, ids = vg.annotations(root)
  local list = {}
  for i, id in ipairs(ids) do
    local a = annotations[id]
    list[i] = { path = a.path, cells = labels(model.tokenizer, a.objects) }
  end
  return list
end

-- A picture's pixels [1, 3, S, S]; kept, for it is seen many times.
local function pixels(model, picture)
  if not picture.pixels then
    local side = model.size
    picture.pixels = model.processor(image.load(picture.path)):view(1, 3, side, side):keep()
  end
  return picture.pixels
end

--- The loss of one batch: every cell's projected feature z, compared with the word embeddings E by
--- z . E / sqrt(D), should name the cell's thing, colour and place.
local function align_loss(model, batch)
  local stack, targets = {}, { {}, {}, {}, {} }
  for i, picture in ipairs(batch) do
    stack[i] = pixels(model, picture)
    for _, cell in ipairs(picture.cells) do
      for k = 1, 4 do table.insert(targets[k], cell[k]) end
    end
  end
  local features = native.adopt(C.lc_model_vision(model.handle, tensor.cat(stack, 1)))
  local z = model:project(features:view(-1, features:size(3)))
  local logits = z:linear(model:word_embeddings()) * (1 / math.sqrt(z:size(2)))
  local loss
  for k = 1, 4 do
    local part = logits:cross_entropy(tensor(targets[k], { dtype = "i32" }))
    loss = loss and loss + part or part
  end
  return loss, { loss = loss, count = #batch }
end

--- Trains tower and projector against the language model's own word embeddings, which stay as they
--- are: what CLIP's pre-training and LLaVA's first stage do for the big models.
---@param model table
---@param root string      Visual Genome root with objects
---@param opt table        out, steps, seed, quiet
function M.align(model, root, opt)
  local pictures, batch_size = read(model, root), 64
  model:train("vision", true):train("projector", true):train("language", false)
  train.run {
    model = model, out = opt.out, steps = opt.steps, label = "align", quiet = opt.quiet, unit = "pictures",
    lr = 2e-3, schedule = "cosine", warmup = 20, betas = { 0.9, 0.95 }, weight_decay = 0.05,
    draw = function(step)
      local r, batch = rng(opt.seed, "align:" .. step), {}
      for i = 1, batch_size do batch[i] = r:pick(pictures) end
      return batch
    end,
    loss = function(batch) return align_loss(model, batch) end,
  }
  model:forget_features()
end

return M
