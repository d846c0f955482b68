-- LoRA adapters in PEFT's format: adapter_config.json and adapter_model.safetensors, or adapter_model.bin
-- of PEFT 0.4. LLaVA's trainer leaves the projector beside it, in non_lora_trainables.bin.
--
-- A tensor is called base_model.model.PATH.lora_A.weight there, PATH being the layer's in the base
-- model. How the same layer is called depends on who saved the base (model.layers.0...,
-- language_model.model.layers.0..., llm_model.model.layers.0...), so paths are compared from "layers."
-- on, and the projector by one of its names.
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local json = require "lucid.json"
local keys = require "lucid.keys"
local native = require "lucid.native"

local C = native.C

local M = {}

local ROOT = "base_model.model."

-- The projector's layers in LLaVA's original layout and in Hugging Face's.
local PROJECTOR = { ["0"] = "linear_1", ["2"] = "linear_2" }

--- What a tensor is called whatever its base model's layout, and whatever stage of PEFT wrote it: in
--- memory it has the adapter's name inside (lora_A.default.weight). The picture tower has layers, too.
---@param name string
---@return string
function M.canonical(name)
  name = name:gsub("^base_model%.model%.", "")
  name = name:gsub("^model%.", ""):gsub("^language_model%.", ""):gsub("^model%.", "")
  name = name:gsub("%.modules_to_save%.default%.", ".")
  name = name:gsub("%.(lora_[AB])%.default%.weight$", ".%1.weight")
  local root, layer = name:match("^(.-)(layers%.%d+%.%a[%w_]*%.[%w_]+_proj%.lora_[AB]%.weight)$")
  if layer and not root:find("vision", 1, true) then return layer end
  return (name:gsub("^mm_projector%.(%d)%.", function(i)
    return PROJECTOR[i] and "multi_modal_projector." .. PROJECTOR[i] .. "."
  end))
end

local canonical = M.canonical

local function is_lora(name) return name:find("%.lora_[AB]%.weight$") ~= nil end

-- ---- the configuration ------------------------------------------------------------------------------

-- Keys that change nothing about what a finished adapter computes. exclude_modules is among them: the
-- tensors say which layers have an adapter. The *_config keys but those missing here are about the start.
local WITHOUT_EFFECT = {}
for key in ([[auto_mapping base_model_name_or_path corda_config ensure_weight_tying
  eva_config exclude_modules inference_mode layers_pattern loftq_config lora_alpha lora_dropout
  lora_ga_config megatron_core modules_to_save peft_type peft_version qalora_group_size r revision
  runtime_config target_modules task_type use_rslora init_lora_weights]]):gmatch("%S+") do
  WITHOUT_EFFECT[key] = true
end

-- Starts that change the base weights, so that the adapter fits no published base.
local CHANGES_BASE = { pissa = true, olora = true, corda = true, loftq = true, lora_ga = true }

local function is_off(value)
  return value == nil or value == json.null or value == false or value == "none"
    or (type(value) == "table" and next(value) == nil)
end

local function refuse(path, what, ...)
  error(("%s: "):format(path) .. what:format(...), 0)
end

local function check_config(config, path)
  if config.peft_type ~= "LORA" then
    refuse(path, "peft_type is %s; LORA alone is supported", tostring(config.peft_type))
  end
  local unknown = {}
  for key, value in pairs(config) do
    if not WITHOUT_EFFECT[key] and not is_off(value) then
      unknown[#unknown + 1] = key .. " = " .. json.encode(value)
    end
  end
  table.sort(unknown)
  if unknown[1] then refuse(path, "not supported: %s", table.concat(unknown, ", ")) end
  local init = config.init_lora_weights
  if type(init) == "string" and CHANGES_BASE[init:gsub("_niter.*", "")] then
    refuse(path, "init_lora_weights = \"%s\" has changed the base weights; save the adapter as plain "
      .. "LoRA first", init)
  end
  if type(config.r) ~= "number" or config.r < 1 or config.r % 1 ~= 0 then
    refuse(path, "r is %s, not a rank", tostring(config.r))
  end
  local alpha = config.lora_alpha
  if type(alpha) ~= "number" or alpha ~= alpha or math.abs(alpha) == math.huge then
    refuse(path, "lora_alpha is %s, not a number", tostring(alpha))
  end
end

-- ---- reading --------------------------------------------------------------------------------------------

---@class lucid.Adapter
---@field dir string
---@field config table              adapter_config.json
---@field rank integer
---@field scale number              of B A x: alpha / rank, or alpha / sqrt(rank) with use_rslora
---@field targets string[]          the last names of the layers: "q_proj" ...
---@field tensors table<string, string>   canonical name -> name in the file
---@field sources table<string, table>    canonical name -> the checkpoint that holds it

-- Adds what a file holds to an adapter's tensors.
local function add_names(adapter, path)
  local source = checkpoint(path)
  for _, name in ipairs(source:names()) do
    local key = canonical(name)
    if adapter.tensors[key] then
      refuse(path, "'%s' and '%s' are the same tensor", adapter.tensors[key], name)
    end
    adapter.tensors[key], adapter.sources[key] = name, source
  end
end

-- The layers that have an adapter, by their last names; every one with A and B of the right rank.
local function targets_of(adapter, path)
  local seen, targets, broken = {}, {}, {}
  for key, name in pairs(adapter.tensors) do
    local layer, which = key:match("^(.*)%.lora_([AB])%.weight$")
    if layer then
      local other = layer .. ".lora_" .. (which == "A" and "B" or "A") .. ".weight"
      if not adapter.tensors[other] then broken[#broken + 1] = name .. " (without its other half)" end
      local shape = adapter.sources[key]:shape(name) or {}
      local rank = shape[which == "A" and 1 or 2]
      if #shape ~= 2 or rank ~= adapter.rank then
        broken[#broken + 1] = ("%s ([%s] at rank %d)"):format(name, table.concat(shape, ", "), adapter.rank)
      end
      local last = layer:match("[^.]+$")
      if not seen[last] then targets[#targets + 1] = last end
      seen[last] = true
    elseif key:find("lora_", 1, true) then
      broken[#broken + 1] = name .. " (no plain LoRA)"
    end
  end
  table.sort(broken)
  table.sort(targets)
  if broken[1] then refuse(path, "%s", table.concat(broken, ", ")) end
  if not targets[1] then refuse(path, "there is no lora_A.weight in it") end
  return targets
end

-- A number that is none would make every answer of the model none.
local function check_numbers(adapter)
  local broken = {}
  for key, name in pairs(adapter.tensors) do
    local source = adapter.sources[key]
    local n = source:nonfinite(name)
    if n > 0 then broken[#broken + 1] = ("%s: %s: %d of its numbers are NaN or infinite"):format(source.path, name, n) end
  end
  table.sort(broken)
  if broken[1] then
    error(broken[1] .. (#broken > 1 and (", and %d tensors more hold such"):format(#broken - 1) or "")
      .. "; the training that made it went wrong: take an earlier checkpoint", 0)
  end
end

--- The adapter's own folder, where a run or a checkpoint that holds one may be named; of an unfinished run its last
--- checkpoint's.
---@param dir string
---@return string
function M.folder(dir)
  for _, name in ipairs { "adapter", "last" } do
    if file.exists(("%s/%s/adapter_config.json"):format(dir, name)) then return dir .. "/" .. name end
  end
  return dir
end

--- Opens an adapter folder; a safetensors file in it goes before a pickle.
---@param dir string
---@return lucid.Adapter
function M.load(dir)
  local path = dir .. "/adapter_config.json"
  if not file.exists(path) then
    error(dir .. ": there is no adapter_config.json; a PEFT adapter folder is expected", 2)
  end
  local config = json.read_object(path)
  check_config(config, path)
  local weights = dir
  for _, name in ipairs { "adapter_model.bin", "adapter_model.safetensors" } do
    if file.exists(dir .. "/" .. name) then weights = dir .. "/" .. name end
  end
  local adapter = { config = config, rank = config.r, dir = dir, tensors = {}, sources = {} }
  adapter.scale = config.lora_alpha / (config.use_rslora == true and math.sqrt(config.r) or config.r)
  add_names(adapter, weights)
  adapter.targets = targets_of(adapter, weights)
  local others = dir .. "/non_lora_trainables.bin"
  if file.exists(others) then add_names(adapter, others) end
  check_numbers(adapter)
  return adapter
end

--- Copies an adapter's values into a model's tensors. Every lora_A and lora_B of the model must be in
--- the adapter and every tensor of the adapter in the model; else an error lists those that are not.
---@param adapter lucid.Adapter
---@param own table<string, lucid.Tensor>    the model's tensors, by its own names
---@param dir string|nil                     what errors call the adapter
function M.assign(adapter, own, dir)
  local targets, missing, extra = {}, {}, {}
  for name, t in pairs(own) do
    local key = canonical(name)
    targets[key] = t
    if is_lora(key) and not adapter.tensors[key] then missing[#missing + 1] = name end
  end
  for key, name in pairs(adapter.tensors) do
    if not targets[key] then extra[#extra + 1] = name end
  end
  if missing[1] or extra[1] then
    table.sort(missing)
    table.sort(extra)
    error(("%s: the adapter does not fit the model%s%s"):format(dir or adapter.dir,
      missing[1] and "; missing: " .. table.concat(missing, ", ") or "",
      extra[1] and "; not in the model: " .. table.concat(extra, ", ") or ""), 2)
  end
  native.scope(function()
    for key, name in pairs(adapter.tensors) do
      local ok, reason = pcall(native.check,
        C.lc_tensor_copy(targets[key], adapter.sources[key]:tensor(name)))
      if not ok then error(("%s: %s: %s"):format(adapter.sources[key].path, name, reason), 0) end
    end
  end)
end

-- ---- writing --------------------------------------------------------------------------------------------

-- What the tensors say: target_modules and modules_to_save. Inside a vision-language model the layers
-- are told by a pattern: by their last names alone PEFT would adapt the picture tower's, too.
local function describe(tensors)
  local targets, whole, nested = {}, {}, false
  for name in pairs(tensors) do
    local layer = name:match("^(.*)%.lora_[AB]%.weight$")
    if layer then
      targets[layer:match("[^.]+$")] = true
      nested = nested or layer:find("language_model.", 1, true) ~= nil
    else
      whole[name:gsub("%.[^.]+$", "")] = true
    end
  end
  targets, whole = json.array(keys(targets)), json.array(keys(whole))
  if nested then targets = ".*language_model.*\\.(" .. table.concat(targets, "|") .. ")" end
  return targets, whole[1] and whole or json.null
end

-- Since transformers 4.52 LLaVA's projector lies under "model.", also where its folder does not say so. Of a folder's older
-- names PEFT translates those of LoRA's tensors, but not those of whole modules.
local function where_peft_looks(name)
  return (name:gsub("^multi_modal_projector%.", "model.multi_modal_projector."))
end

--- Writes an adapter folder that PEFT reads. The keys are those of PEFT 0.4: many a reader refuses a key
--- that is younger than itself.
---@param dir string
---@param config table       r, lora_alpha, and any other key of adapter_config.json
---@param tensors table<string, lucid.Tensor>   PATH.lora_A.weight, PATH.lora_B.weight, and the tensors
---                                             of modules that were trained whole
function M.save(dir, config, tensors)
  local targets, whole = describe(tensors)
  local all = {
    auto_mapping = json.null, base_model_name_or_path = json.null, bias = "none", fan_in_fan_out = false,
    inference_mode = true, init_lora_weights = true, layers_pattern = json.null,
    layers_to_transform = json.null, lora_dropout = 0, modules_to_save = whole,
    peft_type = "LORA", revision = json.null, task_type = "CAUSAL_LM",
  }
  for key, value in pairs(config) do all[key] = value end
  all.target_modules = targets
  check_config(all, dir .. "/adapter_config.json")
  local named = {}
  for name, t in pairs(tensors) do named[ROOT .. where_peft_looks(name)] = t end
  file.mkdir(dir)
  checkpoint.save(dir .. "/adapter_model.safetensors", named)
  json.write(dir .. "/adapter_config.json", all, { indent = 2 })
end

return M
