-- An adapter into the weights: W' = W + scale B A of every layer that has one, computed in f32 and rounded
-- once; modules that were trained whole take the base's place. The folder has the base's own layout: its
-- names, its shards, its small files.
local adapter = require "lucid.adapter"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local folder = require "lucid.folder"
local json = require "lucid.json"
local layout = require "lucid.layout"

local M = {}

---@class lucid.MergeOptions
---@field model string            the base's folder; of a model in parts that of its language model
---@field adapter string          a PEFT folder, a checkpoint or a run
---@field out string              a folder that is not there yet
---@field dtype string|nil        "f32", "bf16" or "f16" for all of them; default: each tensor's own
---@field progress boolean|nil    with a progress line
---@field published boolean|nil   the base in bf16 first, and the result: as MiniGPT-4's and InstructBLIP's tool

-- Where the adapter has something for a tensor of the base: its keys of A and B, or of the whole.
local function keys_of(name)
  local layer = name:match("^(.*)%.weight$") or name
  return adapter.canonical(name), adapter.canonical(layer .. ".lora_A.weight"), adapter.canonical(layer .. ".lora_B.weight")
end

local function tensor_of(loaded, key)
  return loaded.sources[key]:tensor(loaded.tensors[key])
end

local function shape_of(loaded, key)
  return loaded.sources[key]:shape(loaded.tensors[key]) or {}
end

-- Whether a layer of the language model should have an adapter, going by its last name.
local function is_target(loaded, a)
  local last = a:match("^layers%.%d+%..*%.([%w_]+)%.lora_A%.weight$")
  for _, target in ipairs(last and loaded.targets or {}) do
    if target == last then return true end
  end
  return false
end

local function same(a, b)
  return table.concat(a, ",") == table.concat(b, ",")
end

-- What is to be done with each tensor: a list of { name, how = "whole"|"lora"|nil }, or an error that lists
-- what does not fit.
local function match(base, loaded)
  local plan, used, wrong = {}, {}, {}
  local function bad(name, what) wrong[#wrong + 1] = name .. " (" .. what .. ")" end
  for _, name in ipairs(base:names()) do
    local whole, a, b = keys_of(name)
    local shape, entry = base:shape(name) or {}, { name = name }
    if name:find("%.lora_[AB]%.") then
      bad(name, "the base is an adapter itself")
    elseif loaded.tensors[whole] then
      entry.how, used[whole] = "whole", true
      if not same(shape, shape_of(loaded, whole)) then
        bad(name, ("[%s], in the adapter [%s]"):format(table.concat(shape, ", "), table.concat(shape_of(loaded, whole), ", ")))
      end
    elseif loaded.tensors[a] then
      entry.how, used[a], used[b] = "lora", true, true
      if not same(shape, { shape_of(loaded, b)[1], shape_of(loaded, a)[2] }) then
        bad(name, ("[%s], in the adapter [%d, %d]"):format(table.concat(shape, ", "), shape_of(loaded, b)[1], shape_of(loaded, a)[2]))
      end
    elseif is_target(loaded, a) then
      bad(name, "the adapter has nothing for it")
    end
    plan[#plan + 1] = entry
  end
  for key, name in pairs(loaded.tensors) do
    if not used[key] then bad(name, "not in the model") end
  end
  table.sort(wrong)
  if wrong[1] then
    error(("%s: the adapter does not fit %s: %s"):format(loaded.dir, base.path, table.concat(wrong, ", ")), 0)
  end
  return plan
end

local function merged(base, loaded, entry, dtype, published)
  if entry.how == "whole" then return tensor_of(loaded, (keys_of(entry.name))):to(dtype) end
  local w = base:tensor(entry.name)
  if published then w = w:to("bf16") end
  if entry.how == "lora" then
    local _, a, b = keys_of(entry.name)
    w = w:to("f32") + tensor_of(loaded, b):to("f32"):matmul(tensor_of(loaded, a):to("f32")) * loaded.scale
  end
  return w:to(dtype)
end

-- The small files; a dtype for all is said in config.json, too.
local function small_files(dir, dtype)
  local files = folder.small_files(dir)
  if dtype and files["config.json"] then
    local config, word = json.read_object(dir .. "/config.json"), ({ f32 = "float32", bf16 = "bfloat16", f16 = "float16" })[dtype]
    config[config.dtype and "dtype" or "torch_dtype"] = word
    files["config.json"] = config
  end
  return files
end

-- Puts a tensor into the shard that it comes from.
local function add(shards, base, name, dtype, make)
  local shard = folder.shard_name((base:file(name)))
  shards[shard] = shards[shard] or {}
  table.insert(shards[shard], { name = name, shape = base:shape(name), dtype = dtype, make = make,
    finished = function() base:forget(name) end })
end

-- A tower beside the language model, as lucid export puts it there: it stays as it is.
local function tower_part(dir)
  local from, shards = checkpoint(dir), {}
  for _, name in ipairs(from:names()) do
    local dtype = folder.dtype(from:dtype(name))
    if dtype then add(shards, from, name, dtype, function() return from:tensor(name) end) end
  end
  return { name = "vision_tower", shards = shards, files = folder.small_files(dir) }
end

-- Packed weights are not what an adapter is added to; PEFT refuses them, too.
local function refuse_quantised(dir)
  local path = dir .. "/config.json"
  local config = file.exists(path) and json.read(path) or {}
  if type(config.quantization_config) == "table" then
    error(("%s: the weights are stored quantised (quantization_config); give the folder that they were made from"):format(
      path), 0)
  end
end

--- Merges an adapter into a base and writes the result.
---@param opt lucid.MergeOptions
---@return table      { tensors=, merged=, replaced=, left_out=, bytes=, converted= (files of PyTorch's were read) }
function M.run(opt)
  refuse_quantised(opt.model)
  local base = checkpoint(opt.model)
  local dir = opt.adapter
  if file.exists(dir .. "/adapter/adapter_config.json") then dir = dir .. "/adapter" end
  local loaded = adapter.load(dir)
  local all = opt.published and "bf16" or (opt.dtype or "") ~= "" and opt.dtype or nil
  local done = { tensors = 0, merged = 0, replaced = 0, left_out = 0, converted = false }
  local shards = {}
  for _, entry in ipairs(match(base, loaded)) do
    local own, _, format = folder.dtype(base:dtype(entry.name)), base:file(entry.name)
    done.converted = done.converted or format ~= "safetensors"
    if not own then
      done.left_out = done.left_out + 1
    else
      local dtype = all or own
      done.tensors = done.tensors + 1
      if entry.how == "lora" then done.merged = done.merged + 1 end
      if entry.how == "whole" then done.replaced = done.replaced + 1 end
      add(shards, base, entry.name, dtype, function() return merged(base, loaded, entry, dtype, opt.published) end)
    end
  end
  local parts = { { name = "", shards = shards, files = small_files(opt.model, all) } }
  local tower = layout.vision(opt.model)
  if tower then parts[2] = tower_part(tower) end
  done.bytes = folder.write(opt.out, parts, opt.progress)
  return done
end

return setmetatable(M, { __call = function(_, ...) return M.run(...) end })
