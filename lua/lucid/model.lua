-- A vision-language model: weights, tokenizer, picture processor and prompt template of one folder.
--
--   local m = lucid.model("checkpoints/llava", { device = "cpu", dtype = "f32", adapter = "runs/a" })
--   print(m:generate { image = "cat.jpg", prompt = "Describe this image in detail." })
--   local logps = m:logps(lucid.forest { ... })          -- one sum per scored segment
--
-- m:base() is the same weights with the adapters off: the reference model of preference training.
local ffi = require "ffi"
local native = require "lucid.native"
local adapter = require "lucid.adapter"
local cache = require "lucid.cache"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local forest = require "lucid.forest"
local generate = require "lucid.generate"
local image = require "lucid.image"
local json = require "lucid.json"
local layout = require "lucid.layout"
local logps = require "lucid.logps"
local options = require "lucid.options"
local prompt = require "lucid.prompt"
local tokenizer = require "lucid.tokenizer"
local tower = require "lucid.features"

local C = native.C
local M = {}
local Model = {}
Model.__index = Model

local OPENED = options "device dtype adapter template init seed vision bridge cache bert quant"
local ADAPTED = options "rank alpha targets seed"

-- ---- opening --------------------------------------------------------------------------------

---@class lucid.ModelOptions
---@field device string|nil     "auto" (default: a GPU where there is one), "cpu", "cuda:0"
---@field dtype string|nil      "f32", "bf16", "f16"; "auto" (default): bf16 for files of 16 bits where the device
---   multiplies it fast, else f32
---@field adapter string|nil    an adapter folder, a checkpoint or a run
---@field template string|nil   a template's name, or a .lua file
---@field init boolean|nil      new weights from config.json
---@field seed integer|nil      of the new weights
---@field vision string|nil     the vision tower's weights, where they are separate
---@field bridge string|nil     the bridge's weights, where they are separate
---@field cache string|nil      folder of features kept between runs; "": the usual one; nil, "none": there is none
---@field bert string|nil       BERT's vocab.txt, or its folder, for a bridge that reads the question
---@field quant string|nil      "q8_0", "nf4", "fp4": quantises the decoder blocks' linear layers; "none"

-- The rows of the Q-Former's word embeddings.
local function question_rows(self)
  for _, p in ipairs(self:all_parameters()) do
    if p.name:find("%.word_embeddings%.weight$") then return p.tensor:size(1) end
  end
end

-- Whether most of a folder's weights have 16 bits. What is wrong with them is for the model to say.
local function is_short(dir)
  local opened, weights = pcall(checkpoint.open, dir)
  if not opened then return false end
  local bytes, short = 0, 0
  for _, name in ipairs(weights:names()) do
    local size, word = weights:bytes(name), weights:dtype(name)
    bytes = bytes + size
    if word == "F16" or word == "BF16" then short = short + size end
  end
  return 2 * short > bytes
end

-- What was asked for. Else 16 bits where the file has no more and the device is faster with them; new weights
-- and what was trained in f32 stay f32.
local function dtype_of(dir, opt, device)
  if opt.dtype and opt.dtype ~= "auto" then return native.dtype(opt.dtype) end
  local fast = C.lc_fast_dtype(device)
  return fast ~= C.LC_F32 and not opt.init and is_short(dir) and fast or C.LC_F32
end

--- Opens a model folder. Raises one line when something is missing or does not fit.
---@param dir string
---@param opt lucid.ModelOptions|nil
---@return lucid.Model
function M.open(dir, opt)
  OPENED:check("model", opt)
  opt = opt or {}
  if type(dir) ~= "string" then native.bad_argument("model", 1, dir, "a folder's path") end
  if dir == "" then error("model: no folder is named; give --model", 0) end
  local device = native.device(opt.device or "auto")
  local dtype = dtype_of(dir, opt, device)
  local vision = layout.vision(dir, opt.vision)
  local quant, handle = opt.quant or "none", nil
  if opt.init and quant ~= "none" then
    error(("%s: new weights are there to be trained; only those of a file are quantised (%s)"):format(dir, quant), 0)
  elseif opt.init then
    handle = native.check(C.lc_model_init(dir, dtype, device, opt.seed or 0))
  else
    handle = native.check(C.lc_model_open_parts(dir, vision, opt.bridge, dtype, device, native.quant(quant)))
  end
  ffi.gc(handle, C.lc_model_free)        -- at once: what is read next may fail
  if C.lc_model_shortened(handle) > 0 then
    io.stderr:write(dir, ": its f16 weights were converted to bf16, which has three bits of mantissa fewer\n")
  end
  local config, generation = json.read(dir .. "/config.json"), dir .. "/generation_config.json"
  local self = setmetatable({
    dir = dir,
    config = config,
    dtype = ffi.string(C.lc_dtype_name(dtype)),
    device = native.device_name(device),
    sources = opt.init and {} or { dir, vision, (opt.bridge or "") ~= "" and opt.bridge or nil },
    generation = file.exists(generation) and json.read_object(generation) or {},
    kind = ffi.string(C.lc_model_kind(handle)),
    handle = handle,
    adapters = 1,
    quant = quant ~= "none" and quant or nil,
    beside = {},
    size = tonumber(C.lc_model_image_size(handle)),
    image_rows = tonumber(C.lc_model_image_rows(handle)),
    positions = tonumber(C.lc_model_max_positions(handle)),
    tower = layout.tower(vision),
  }, Model)
  if file.exists(dir .. "/tokenizer.model") then
    self.tokenizer = tokenizer(dir)
    self.tokenizer:check_rows(dir .. "/tokenizer.model", self:word_embeddings():size(1), "the model's vocabulary")
  end
  local settings, name = layout.processor(dir, config, self.kind, self.size, vision)
  if settings then self.processor, self.processing = image.processor(settings, name), settings end
  self.seen = tower.new(self, opt.cache and cache.folder(opt.cache))
  local bert = (opt.bert or "") ~= "" and opt.bert or dir .. "/qformer_tokenizer"
  if self.kind == "instructblip" and (opt.bert == bert or file.exists(bert .. "/vocab.txt")) then
    self.reader, self.reader_path = tokenizer.bert(bert), bert
    self.reader:check_rows(bert, question_rows(self), "the Q-Former's vocabulary")
  end
  -- A folder may name its template; else it is the usual one of its kind of model.
  self.template = prompt.template((opt.template or "") ~= "" and opt.template or config.lucid_template
    or prompt.default(self.kind) or "llava_v1")
  if (opt.adapter or "") ~= "" then self:load_adapter(opt.adapter) end
  return self
end

--- The same weights with the adapters off.
---@return lucid.Model
function Model:base()
  local base = {}
  for k, v in pairs(self) do base[k] = v end
  base.adapters = 0
  return setmetatable(base, Model)
end

local QUANTS = {
  q8_0 = "q8_0: 8 bits, blocks of 32, as ggml does",
  nf4 = "nf4: 4 bits, blocks of 64, as QLoRA does",
  fp4 = "fp4: 4 bits, blocks of 64, as bitsandbytes does",
}

--- How the base is quantised, in words; nil: it is not.
---@return string|nil
function Model:quantised()
  return self.quant and ("the decoder blocks' linear layers are quantised (%s)"):format(QUANTS[self.quant])
end

function Model.__tostring(self)
  local count = 0
  for _, p in ipairs(self:all_parameters()) do count = count + p.tensor:count() end
  local quantised = self:quantised()
  return ("%s model %s: %.0f parameters, %s%s"):format(self.kind, self.dir, count, self:word_embeddings():dtype(),
    quantised and "; " .. quantised or "")
end

-- ---- parameters ------------------------------------------------------------------------------

--- Every parameter: a list of { name, part, tensor }, adapters last.
---@return table[]
function Model:all_parameters()
  local list = {}
  for i = 0, C.lc_model_parameters(self.handle) - 1 do
    list[#list + 1] = {
      name = ffi.string(C.lc_model_parameter_name(self.handle, i)),
      part = ffi.string(C.lc_model_parameter_part(self.handle, i)),
      tensor = native.borrow(C.lc_model_parameter(self.handle, i)),
    }
  end
  return list
end

--- The parameters that are trained now: a list of { name, part, tensor }.
---@return table[]
function Model:parameters()
  local list = {}
  for _, p in ipairs(self:all_parameters()) do
    if C.lc_tensor_wants_grad(p.tensor) ~= 0 then list[#list + 1] = p end
  end
  return list
end

--- Switches gradients of a part on or off: "vision", "projector", "language" or "adapter".
---@param part string
---@param on boolean|nil     default: true
---@return lucid.Model
function Model:train(part, on)
  native.check(C.lc_model_train(self.handle, part, on == false and 0 or 1))
  if part == "vision" and on ~= false then self.seen:forget() end
  return self
end

--- The linears of a block: what an adapter may be attached to.
M.TARGETS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"

---@class lucid.LoraOptions
---@field rank integer
---@field alpha number
---@field targets string|string[]|nil   default: all of M.TARGETS
---@field seed integer|nil

--- Attaches a new adapter and trains it alone.
---@param opt lucid.LoraOptions
---@return lucid.Model
function Model:lora(opt)
  ADAPTED:check("lora", opt)
  if type(opt.rank) ~= "number" or type(opt.alpha) ~= "number" then native.raise("lora: rank and alpha are numbers") end
  local targets = opt.targets or M.TARGETS:gsub(" ", ",")
  if type(targets) == "table" then targets = table.concat(targets, ",") end
  for _, part in ipairs { "vision", "projector", "language" } do self:train(part, false) end
  native.check(C.lc_model_lora(self.handle, opt.rank, opt.alpha, targets, opt.seed or 0))
  self.lora_config = { r = opt.rank, lora_alpha = opt.alpha, target_modules = targets }
  return self
end

--- Trains some of the base's own tensors beside the adapter: those whose names match. The reference is the same weights
--- with the adapter off, so it sees what becomes of them.
---@param pattern string
---@param saved boolean|nil      they are written with the adapter, as whole modules
---@return lucid.Model
function Model:train_beside(pattern, saved)
  local found = false
  for _, p in ipairs(self:all_parameters()) do
    if p.name:find(pattern) then
      native.check(C.lc_tensor_requires_grad(p.tensor, 1))
      found, self.beside[p.name] = true, saved or nil
    end
  end
  if not found then error(("%s: there are no tensors '%s' to train"):format(self.dir, pattern), 2) end
  return self
end

--- Recomputes each decoder block in the backward pass: less memory, a third more time.
---@param on boolean|nil     default: true
---@return lucid.Model
function Model:recompute(on)
  native.check(C.lc_model_recompute(self.handle, on == false and 0 or 1))
  return self
end

--- Loads an adapter: a PEFT folder, a checkpoint or a run that holds one.
---@param dir string
---@return lucid.Model
function Model:load_adapter(dir)
  dir = adapter.folder(dir)
  local loaded = adapter.load(dir)
  self:lora { rank = loaded.rank, alpha = loaded.scale * loaded.rank, targets = loaded.targets }
  local own = {}
  for _, p in ipairs(self:all_parameters()) do own[p.name] = p.tensor end
  adapter.assign(loaded, own, dir)
  for name in pairs(own) do
    if not name:find("%.lora_[AB]%.weight$") and loaded.tensors[adapter.canonical(name)] then self.beside[name] = true end
  end
  return self
end

--- Writes the adapter in PEFT's format; what of the base was trained or loaded with it is one of its modules_to_save.
---@param dir string
function Model:save_adapter(dir)
  if not self.lora_config then error("save_adapter: the model has no adapter", 2) end
  local tensors = {}
  for _, p in ipairs(self:all_parameters()) do
    if p.name:find("%.lora_[AB]%.weight$") or self.beside[p.name] then tensors[p.name] = p.tensor end
  end
  adapter.save(dir, {
    base_model_name_or_path = self.dir,
    r = self.lora_config.r,
    lora_alpha = self.lora_config.lora_alpha,
    target_modules = self.lora_config.target_modules,
  }, tensors)
end

local TOKENIZER = { "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json" }

local function copy_files(names, from, to)
  for _, name in ipairs(from ~= to and names or {}) do
    local path = from .. "/" .. name
    if file.exists(path) then file.write(to .. "/" .. name, file.read(path)) end
  end
end

-- The vocabulary that the Q-Former reads with, a folder or vocab.txt alone, where Hugging Face's folder has it.
local function copy_reader(from, to)
  if from == to then return end
  native.check(C.lc_make_folder(to))
  copy_files(TOKENIZER, from, to)
  local words = file.kind(from) == "folder" and from .. "/vocab.txt" or from
  file.write(to .. "/vocab.txt", file.read(words))
end

--- Writes a whole model folder: weights, config.json, tokenizers and processor.
---@param dir string
function Model:save(dir)
  if self.quant then
    error(("save: the weights of %s are quantised (%s) and not what its files hold; open it without quant to save "
      .. "or merge it, or save the adapter alone"):format(self.dir, self.quant), 2)
  end
  native.check(C.lc_make_folder(dir))
  copy_files({ "config.json", "preprocessor_config.json", "tokenizer.model", "generation_config.json", unpack(TOKENIZER) },
    self.dir, dir)
  if self.reader then copy_reader(self.reader_path, dir .. "/qformer_tokenizer") end
  for name, value in pairs(layout.beside(self)) do json.write(dir .. "/" .. name, value, layout.STYLE) end
  local tensors = {}
  for _, p in ipairs(self:all_parameters()) do
    if not p.name:find("%.lora_[AB]%.weight$") then tensors[p.name] = p.tensor end
  end
  checkpoint.save(dir .. "/model.safetensors", tensors)
end

-- ---- pictures ---------------------------------------------------------------------------------

--- The tower's features of a picture (path, u8 tensor [H, W, 3], features already, or a table with one
--- of these as its picture): [rows, width], without gradients. Those of files are kept: lucid.features.
---@param picture lucid.Tensor|string|table
---@return lucid.Tensor
function Model:features(picture)
  if type(picture) == "table" then
    return picture.crop and self.seen:part(picture) or self:features(picture.picture)
  end
  if type(picture) ~= "string" then
    if picture:dtype() == "u8" then return self:vision { picture } end
    return picture
  end
  return self.seen:get(picture)
end

local QUESTION_MAX = 128            -- ids that InstructBLIP's Q-Former was trained with

--- A picture as this model's batches take it: where the bridge reads the question, together with its ids.
---@param seen any           a path, a u8 tensor or features; nil: there is none
---@param question string
---@param part lucid.Crop|nil    a random part of it
---@return string|table|nil
function Model:picture(seen, question, part)
  if seen == nil or self.kind ~= "instructblip" then return part and { picture = seen, crop = part } or seen end
  if not self.reader then
    error(self.dir .. ": the Q-Former reads the question with BERT's vocabulary; give --bert, the folder of vocab.txt", 0)
  end
  local text = self.reader:encode(question, { bos = true, eos = true, max = QUESTION_MAX, truncate = "left" })
  return { picture = seen, text = text, crop = part }
end

--- Features of one u8 picture, outside the tape.
---@param pictures table
---@return lucid.Tensor
function Model:vision(pictures)
  if not self.processor then
    error(self.dir .. ": there is no preprocessor_config.json, so pictures cannot be read", 2)
  end
  return native.no_grad(function()
    local pixels = self.processor(pictures[1])
    local s = self.size
    if pixels:size(2) ~= s or pixels:size(3) ~= s then
      error(("%s: its preprocessor_config.json makes pictures of %d x %d, its vision tower takes %d x %d"):format(
        self.dir, pixels:size(3), pixels:size(2), s, s), 0)
    end
    local out = native.adopt(C.lc_model_vision(self.handle, pixels:view(1, 3, s, s)))
    return out:view(out:size(2), out:size(3))
  end)
end

--- Lets the kept features go (after training the tower).
function Model:forget_features() self.seen:forget() end

-- A list of ids as C takes it, and its length.
local function id_array(list)
  local ids = ffi.new("int32_t[?]", math.max(#list, 1))
  for i = 1, #list do ids[i - 1] = list[i] end
  return ids, #list
end

--- Token rows of one picture's features: [rows, W] -> [image_rows, D] (LLaVA's projector takes any
--- rows); differentiable.
---@param features any
---@param text integer[]|nil    the question, for a bridge that reads it: ids of its own vocabulary
---@return lucid.Tensor
function Model:project(features, text)
  local ids, n = id_array(text or {})
  return native.adopt(C.lc_model_bridge(self.handle, features, ids, n))
end

--- The word embeddings [V, D].
---@return lucid.Tensor
function Model:word_embeddings()
  return native.borrow(C.lc_model_word_embeddings(self.handle))
end

-- ---- passes over a forest -----------------------------------------------------------------------

--- The C side of a forest: segments and pictures, each picture once.
---@param f table
---@return ffi.cdata*
function Model:batch(f)
  if not forest.is(f) then native.raise("a forest is expected, as lucid.forest makes it from a list") end
  local b = ffi.gc(native.check(C.lc_batch_new()), C.lc_batch_free)
  local index, paths = {}, {}
  for _, s in ipairs(f.segments) do
    local picture = forest.picture(s.image)
    if type(picture) == "string" then paths[#paths + 1] = picture end
  end
  self.seen:ahead(paths)
  for _, s in ipairs(f.segments) do
    local picture = -1
    if s.image ~= nil then
      local key = forest.image_key(s.image)
      picture = index[key]
      if not picture then
        local text, n = id_array(type(s.image) == "table" and s.image.text or {})
        picture = native.check(C.lc_batch_picture(b, self.handle, self:features(s.image), text, n))
        index[key] = picture
      end
    end
    local ids, n = id_array(s.tokens)
    native.check(C.lc_batch_segment(b, (s.parent or 0) - 1, ids, n, picture, s.score and 1 or 0))
  end
  return b
end

--- Log-probabilities of every scored token, on the host whatever the model's device (losses are small and may mix
--- them with anything), and where each scored segment's values begin (a Lua list from 1, one longer than there are
--- scored segments; and as a tensor, from 0). With opt.log_squares also the log of the sum of p^2 over the vocabulary at each token, without gradient.
---@param f table
---@param opt table|nil
---@return lucid.Tensor, number[], lucid.Tensor, lucid.Tensor|nil
function Model:token_logps(f, opt)
  local b = self:batch(f)
  if opt and opt.log_squares then C.lc_batch_want_log_squares(b) end
  local tokens = native.adopt(C.lc_to(C.lc_model_token_logps(self.handle, b, self.adapters), C.LC_HOST))
  local first = native.adopt(C.lc_batch_scored(b))
  local list = first:tolist()
  for i = 1, #list do list[i] = list[i] + 1 end
  local squares = C.lc_batch_log_squares(b)
  return tokens, list, first, squares ~= nil and native.adopt(C.lc_to(squares, C.LC_HOST)) or nil
end

--- One log-probability per scored segment: the sum over its tokens.
---@param f table
---@return lucid.Tensor
function Model:logps(f)
  local tokens, _, first = self:token_logps(f)
  return tokens:segment_sum(first)
end

--- The logits f32 [rows, V] of a forest, rows in packed (depth-first) order.
---@param f table
---@return lucid.Tensor
function Model:logits(f)
  return native.adopt(C.lc_model_logits(self.handle, self:batch(f), self.adapters))
end

--- Scores the pairs of lucid.forest.pairs.
---@param f table
---@param opt table|nil         { log_squares = true }: with them, which WPO's weights need
---@return lucid.PairLogps
function Model:pairs(f, opt)
  if not f.pairs then error("pairs: the forest was not made by lucid.forest.pairs", 2) end
  local tokens, first, index, log_squares = self:token_logps(f, opt)
  local scored = logps.of_pairs(tokens, first, index)
  scored.log_squares = log_squares
  return scored
end

-- ---- generation ------------------------------------------------------------------------------------

--- Answers many requests { image=, prompt= (a question) or ids= }, in order. An answer does not depend on
--- the others of its batch.
---@param requests table[]
---@param opt lucid.GenerateOptions|nil
---@return lucid.Answer[]
---@return { prefills: integer } counts      of lucid.generate.all
function Model:generate_all(requests, opt) return generate.all(self, requests, opt) end

--- Answers one request { image=, prompt=, ...GenerateOptions }: the text and its details.
---@param request table
---@return string, lucid.Answer
function Model:generate(request)
  local opt = {}
  for name, value in pairs(request) do
    if name ~= "image" and name ~= "prompt" and name ~= "ids" then opt[name] = value end
  end
  local answer = generate.all(self, { request }, opt)[1]
  return answer.text, answer
end

return setmetatable(M, { __call = function(_, ...) return M.open(...) end })
