-- LoRA adapters in PEFT's format: a folder of adapter_config.json and adapter_model.safetensors.
local ffi = require "ffi"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"

local C = native.C

local M = {}

local PREFIX = "base_model.model."

-- ---- writing ------------------------------------------------------------------------------------

-- The keys of PEFT 0.4, whose readers refuse the ones that came later.
local function config_of(settings)
  local targets = settings.target_modules
  if type(targets) == "string" then
    local list = {}
    for word in targets:gmatch("[^,%s]+") do list[#list + 1] = word end
    targets = list
  end
  return {
    auto_mapping = json.null,
    base_model_name_or_path = settings.base_model_name_or_path or json.null,
    bias = "none",
    fan_in_fan_out = false,
    inference_mode = true,
    init_lora_weights = true,
    layers_pattern = json.null,
    layers_to_transform = json.null,
    lora_alpha = settings.lora_alpha,
    lora_dropout = 0,
    modules_to_save = json.null,
    peft_type = "LORA",
    r = settings.r,
    revision = json.null,
    target_modules = json.array(targets),
    task_type = "CAUSAL_LM",
  }
end

local function write_tensors(path, tensors)
  local writer = native.check(C.lc_writer_new(path))
  local failed = C.lc_writer_metadata(writer, "format", "pt") ~= 0
  for name, tensor in pairs(tensors) do
    failed = failed or C.lc_writer_add(writer, PREFIX .. name, tensor) ~= 0
  end
  if failed then
    local reason = ffi.string(C.lc_error())
    C.lc_writer_drop(writer)
    error(reason, 0)
  end
  native.check(C.lc_writer_finish(writer))
end

--- Writes an adapter.
---@param dir string
---@param settings table     r, lora_alpha, target_modules ("q_proj,v_proj" or a list),
---  base_model_name_or_path
---@param tensors table      the model's names, "....q_proj.lora_A.weight", and their tensors
function M.save(dir, settings, tensors)
  file.mkdir(dir)
  write_tensors(dir .. "/adapter_model.safetensors", tensors)
  json.write(dir .. "/adapter_config.json", config_of(settings), { indent = 2 })
end

-- ---- reading ------------------------------------------------------------------------------------------

local function given(v) return v ~= nil and v ~= json.null and v ~= false end

local function filled(v) return given(v) and not (type(v) == "table" and next(v) == nil) end

-- What changes the arithmetic and is not computed here: key -> whether a value asks for it.
local REFUSED = {
  { "use_dora", given },
  { "fan_in_fan_out", given },
  { "lora_bias", given },
  { "bias", function(v) return given(v) and v ~= "none" end },
  { "rank_pattern", filled },
  { "alpha_pattern", filled },
  { "modules_to_save", filled },
  { "layers_to_transform", given },
}

local function targets_of(config, path)
  local targets = config.target_modules
  if type(targets) == "string" then targets = { targets } end
  if type(targets) ~= "table" or #targets == 0 then error(path .. ": it has no target_modules", 0) end
  for _, word in ipairs(targets) do
    if type(word) ~= "string" or not word:match("^[%w_.]+$") then
      error(("%s: the target_modules %s are no plain names"):format(path, json.encode(word)), 0)
    end
  end
  return table.concat(targets, ",")
end

local function positive(config, key, path)
  local v = config[key]
  if type(v) ~= "number" or v <= 0 then
    error(("%s: %s is %s; a number above 0 is expected"):format(path, key, tostring(v)), 0)
  end
  return v
end

--- What an adapter's folder says: { rank, alpha, scale, targets (words and commas), base }.
---@param dir string
function M.load(dir)
  local path = dir .. "/adapter_config.json"
  if not file.exists(path) then error(dir .. ": there is no adapter_config.json, so this is no adapter", 0) end
  local config = json.read(path)
  if type(config) ~= "table" or config.peft_type ~= "LORA" then
    error(("%s: its peft_type is %s; LORA is read"):format(path,
      tostring(type(config) == "table" and config.peft_type)), 0)
  end
  for _, rule in ipairs(REFUSED) do
    local value = config[rule[1]]
    if rule[2](value) then
      error(("%s: %s is %s, which is not computed here"):format(path, rule[1], json.encode(value)), 0)
    end
  end
  local rank, alpha = positive(config, "r", path), positive(config, "lora_alpha", path)
  if rank ~= math.floor(rank) then error(("%s: r is %g, no integer"):format(path, rank), 0) end
  return {
    rank = rank,
    alpha = alpha,
    scale = alpha / (given(config.use_rslora) and math.sqrt(rank) or rank),
    targets = targets_of(config, path),
    base = type(config.base_model_name_or_path) == "string" and config.base_model_name_or_path or nil,
  }
end

-- ---- assigning -----------------------------------------------------------------------------------------

-- What names have in common when only their prefixes differ. The picture tower's blocks are numbered
-- like the language model's, so its names stay apart.
local function suffix_of(name)
  local at = name:find("layers.", 1, true)
  if not at then return nil end
  return (name:sub(1, at):find("vision", 1, true) and "vision:" or "") .. name:sub(at)
end

-- The model's adapter names, by themselves and by their suffixes (false: two names share it).
local function index(own)
  local names, by_suffix = {}, {}
  for name in pairs(own) do
    if name:find("%.lora_[AB]%.weight$") then
      names[name] = true
      local suffix = suffix_of(name)
      if suffix then by_suffix[suffix] = by_suffix[suffix] == nil and name end
    end
  end
  return names, by_suffix
end

local function names_of(checkpoint)
  local list = {}
  for i = 0, C.lc_checkpoint_count(checkpoint) - 1 do
    list[i + 1] = ffi.string(C.lc_checkpoint_name(checkpoint, i))
  end
  return list
end

-- Which tensor of the file goes where: own name -> the file's name, and what does not fit.
local function match(list, own)
  local names, by_suffix = index(own)
  local found, wrong = {}, {}
  for _, full in ipairs(list) do
    local name = full:gsub("^base_model%.model%.", ""):gsub("(%.lora_[AB])%.default%.", "%1.")
    local target = names[name] and name or by_suffix[suffix_of(name) or ""]
    if not target or found[target] then wrong[#wrong + 1] = full .. " (not part of this adapter)"
    else found[target] = full end
  end
  for name in pairs(names) do
    if not found[name] then wrong[#wrong + 1] = name .. " (missing)" end
  end
  table.sort(wrong)
  return found, wrong
end

--- Copies the adapter's tensors into the model's; names that do not fit are one error that lists them.
---@param loaded table      what load gave
---@param own table         the model's parameters: name -> tensor
---@param dir string
function M.assign(loaded, own, dir)
  local path = dir .. "/adapter_model.safetensors"
  if not file.exists(path) and file.exists(dir .. "/adapter_model.bin") then
    error(dir .. ": its adapter_model.bin is not read; save it as adapter_model.safetensors", 0)
  end
  local checkpoint = ffi.gc(native.check(C.lc_checkpoint_open(path)), C.lc_checkpoint_close)
  local found, wrong = match(names_of(checkpoint), own)
  if #wrong > 0 then
    error(("%s: the adapter (rank %d of %s) does not fit the model: %s"):format(path, loaded.rank,
      loaded.targets, table.concat(wrong, ", ")), 0)
  end
  for name, full in pairs(found) do
    local tensor = native.adopt(C.lc_checkpoint_tensor(checkpoint, full))
    if C.lc_tensor_copy(own[name], tensor) ~= 0 then
      error(("%s: %s: %s"):format(path, full, ffi.string(C.lc_error())), 0)
    end
  end
end

return M
