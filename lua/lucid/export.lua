-- The other layout of the same model: Hugging Face's, or the original. Tensors keep their bytes; their names
-- change by rules, and the small files are written anew. lucid/export/KIND.lua knows one kind of model:
-- { hf = function(source) -> parts, original = function(source) -> parts }, parts as lucid.folder writes them.
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local folder = require "lucid.folder"
local inspect = require "lucid.inspect"
local json = require "lucid.json"
local layout = require "lucid.layout"
local tensor = require "lucid.tensor"
local tokenizer = require "lucid.tokenizer"

local M = {}

-- ---- what the kinds of models share ---------------------------------------------------------------------

--- A tensor's name by the first rule { pattern, replacement } that fits; nil: the layout has none.
---@param rules string[][]
---@param name string
---@return string|nil
function M.rename(rules, name)
  for _, rule in ipairs(rules) do
    if name:find(rule[1]) then return (name:gsub(rule[1], rule[2])) end
  end
end

--- A checkpoint's tensors under their new names. Every tensor must have one, but for buffers and what
--- skip(name) says; an error lists the others.
---@param from lucid.Checkpoint
---@param rules string[][]
---@param skip fun(name: string): boolean
---@return lucid.Planned[]
function M.planned(from, rules, skip)
  local list, strange = {}, {}
  for _, name in ipairs(from:names()) do
    local new, dtype = M.rename(rules, name), folder.dtype(from:dtype(name))
    local buffer = not dtype or name:find("rotary_emb.inv_freq", 1, true) or name:find("position_ids", 1, true)
    if not buffer and not skip(name) then
      if not new then strange[#strange + 1] = name end
      list[#list + 1] = { name = new, shape = from:shape(name), dtype = dtype, file = (from:file(name)),
        make = function() return from:tensor(name) end, finished = function() from:forget(name) end }
    end
  end
  if strange[1] then
    error(("%s: the other layout has no place for %s"):format(from.path, table.concat(strange, ", ")), 0)
  end
  return list
end

--- Gives a table of word rows another length: rows are left out at the end, or added there, each the mean of
--- all, which is never the likeliest word.
---@param t lucid.Planned
---@param rows integer
function M.resize(t, rows)
  local had, width, make = t.shape[1], t.shape[2], t.make
  if rows == had then return end
  t.shape = { rows, width }
  if rows < had then
    t.make = function() return make():slice(1, 1, rows):contiguous() end
    return
  end
  t.make = function()
    local words = make()
    local mean = words:to("f32"):mean_dim(1):view(1, width)
    return tensor.cat({ words, (tensor.zeros { rows - had, width } + mean):to(t.dtype) }, 1)
  end
end

--- Whether a tensor has a row for each word.
---@param name string
---@return boolean
function M.is_words(name) return (name:find("embed_tokens%.weight$") or name:find("lm_head%.weight$")) ~= nil end

--- Leaves the rows out of a language model that Hugging Face's folder has behind the vocabulary: it ends where
--- the tokenizer does, or before <image>. Returns how many words are left.
---@param list lucid.Planned[]
---@param source table
---@return integer|nil
function M.crop(list, source)
  local words = source.config.image_token_index or source.config.image_token_id
  if source.files["tokenizer.model"] then words = tokenizer(source.dir .. "/tokenizer.model"):size() end
  for _, t in ipairs(list) do
    if M.is_words(t.name) then
      words = math.min(words or t.shape[1], t.shape[1])
      M.resize(t, words)
    end
  end
  return words
end

--- Gives a language model more rows; rows(words) is how many for so many words. Returns both.
---@param list lucid.Planned[]
---@param rows fun(words: integer): integer
---@return integer, integer
function M.extend(list, rows)
  local words
  for _, t in ipairs(list) do
    if M.is_words(t.name) then
      words = t.shape[1]
      M.resize(t, rows(words))
    end
  end
  if not words then error("export: the language model has no embed_tokens.weight", 0) end
  return words, rows(words)
end

--- Puts tensors into shards as their files were, numbered anew.
---@param list lucid.Planned[]
---@return table<string, lucid.Planned[]>
function M.shards(list)
  local order, of = {}, {}
  for _, t in ipairs(list) do
    if not of[t.file] then
      of[t.file] = {}
      order[#order + 1] = t.file
    end
    table.insert(of[t.file], t)
  end
  table.sort(order)
  local shards = {}
  for i, path in ipairs(order) do
    shards[#order == 1 and "model.safetensors" or ("model-%05d-of-%05d.safetensors"):format(i, #order)] = of[path]
  end
  return shards
end

--- Some keys of a table: all but those that a pattern of the list fits.
---@param t table
---@param patterns string[]
---@return table
function M.without(t, patterns)
  local copy = {}
  for key, value in pairs(t) do
    local keep = true
    for _, pattern in ipairs(patterns) do keep = keep and not key:find(pattern) end
    if keep then copy[key] = value end
  end
  return copy
end

-- ---- exporting --------------------------------------------------------------------------------------------

local BRIDGES = { ["LLaVA projector (non-LoRA trainables)"] = "llava",
  ["InstructBLIP, LAVIS layout (trained parts)"] = "instructblip", ["MiniGPT-4 projection"] = "minigpt4" }

local function kind_of(config, opt)
  if config.model_type ~= "llama" then return layout.kind(config) end
  if (opt.bridge or "") == "" then
    error(opt.model .. ": a language model alone has no other layout; name the bridge beside it (--bridge)", 0)
  end
  return BRIDGES[inspect(opt.bridge).kind]
end

---@class lucid.ExportOptions
---@field model string
---@field out string            a folder that is not there yet
---@field layout string         "hf" or "original": the one that is written
---@field progress boolean|nil  with a progress line
---@field vision string|nil     parts, where they are separate
---@field bridge string|nil
---@field bert string|nil

--- Writes the other layout of a model.
---@param opt lucid.ExportOptions
---@return table      { kind =, bytes = }
function M.run(opt)
  local config = json.read_object(opt.model .. "/config.json")
  local kind = kind_of(config, opt)
  if kind == "minigpt4" then
    error("export: MiniGPT-4 has one layout alone, its own; lucid merge writes an adapter into its language model", 0)
  end
  if kind ~= "llava" and kind ~= "instructblip" then
    error(("%s: model_type \"%s\" has no other layout here; LLaVA's and InstructBLIP's are known"):format(opt.model,
      tostring(config.model_type)), 0)
  end
  if (config.text_config ~= nil) == (opt.layout == "hf") then
    error(("%s: it has that layout already"):format(opt.model), 0)
  end
  local vision = layout.vision(opt.model, opt.vision)
  local source = { dir = opt.model, out = opt.out, config = config, kind = kind, vision = vision, bridge = opt.bridge,
    bert = opt.bert, weights = checkpoint(opt.model), files = folder.small_files(opt.model),
    tower = vision and checkpoint(vision), connector = (opt.bridge or "") ~= "" and checkpoint(opt.bridge) or nil,
    read = function(name) -- a small file's object, or an empty one
      local path = opt.model .. "/" .. name
      return file.exists(path) and json.read_object(path) or {}
    end }
  local parts = require("lucid.export." .. kind)[opt.layout](source)
  return { kind = kind, bytes = folder.write(opt.out, parts, opt.progress) }
end

--- Writes an adapter alone as the published ones are: lucid.export.adapter(dir, out).
---@param dir string
---@param out string
---@return integer, integer
function M.adapter(dir, out) return require "lucid.export.adapter"(dir, out) end

return setmetatable(M, { __call = function(_, ...) return M.run(...) end })
