-- Whether a model's folder or file of weights is whole: every file that its index names, every file's own structure,
-- the small files beside them; and, once all parts of a model are there, every name and shape against config.json.
local catalogue = require "lucid.doctor.catalogue"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local inspect = require "lucid.inspect"
local json = require "lucid.json"
local tokenizer = require "lucid.tokenizer"

local M = {}

-- In the order in which the loader looks; an index names its parts.
local FORMS = {
  { "model.safetensors" }, { "model.safetensors.index.json", index = true },
  { "pytorch_model.bin" }, { "pytorch_model.bin.index.json", index = true },
}

-- ---- weights of a folder ---------------------------------------------------------------------------------------

-- The files that an index names, sorted; nil: it cannot be read, which is noted.
local function named_by(part, index)
  local map = part:try(index, function(path)
    local object = json.read_object(path).weight_map
    if not json.is_object(object) then error("there is no weight_map in it", 0) end
    return object
  end)
  local names, seen = {}, {}
  for _, name in pairs(map or {}) do
    if not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  table.sort(names)
  return map and names
end

-- The files of weights that a folder should have, as far as it says so itself.
local function weights_of(part)
  for _, form in ipairs(FORMS) do
    if file.kind(part:at(form[1])) == "file" then
      return form.index and named_by(part, form[1]) or { form[1] }, form.index
    end
  end
  for _, name in ipairs(file.list(part.path) or {}) do
    local stem, count, suffix = name:match "^(%a[%w_]-)%-%d+%-of%-(%d+)%.(%w+)$"
    if stem then
      part:lacks(suffix == "bin" and "pytorch_model.bin.index.json" or "model.safetensors.index.json")
      local names = {}
      for i = 1, tonumber(count) do names[i] = ("%s-%05d-of-%s.%s"):format(stem, i, count, suffix) end
      return names, true
    end
  end
  part:lacks "model.safetensors (or pytorch_model.bin, or an index with its parts)"
  return {}
end

local function open_and_close(path) checkpoint.open(path) end

local function check_weights(part)
  local names, several = weights_of(part)
  local good = 0
  for _, name in ipairs(names or {}) do
    if file.kind(part:at(name)) ~= "file" then part:lacks(name)
    elseif part:try(name, open_and_close) then good = good + 1 end
  end
  part.files = names or {}
  if good < #part.files or not part:is_whole() then return end
  if several then part:has("%d files of weights", good) else part:has("%s", names[1]) end
  local ok, found = pcall(inspect.look, part.path)
  if not ok then return part:spoils("weights", found) end
  part.found = found
end

-- ---- small files --------------------------------------------------------------------------------------------------

local READ = { json = json.read, model = tokenizer.open, txt = tokenizer.bert }

-- What is known of a file that many have: its size tells enough to ask for its hash.
local function tell_common(part, name)
  local known = catalogue.COMMON[name:match "[^/]+$"]
  if not known or (known.bytes and file.size(part:at(name)) ~= known.bytes) then return end
  local path = part:at(name)
  if file.hash(path) == known.sha256 then part:note("%s is %s, by its SHA-256", name, known.what) end
end

--- Reads the small files that a part must have.
---@param part lucid.Part
function M.small_files(part)
  for _, name in ipairs(part:entry().files or {}) do
    if file.kind(part:at(name)) ~= "file" then part:lacks(name)
    elseif part:try(name, READ[name:match "%w+$"]) then
      part:has("%s", name)
      tell_common(part, name)
    end
  end
end

-- How many blocks the decoder has and how wide it is, by config.json and by its tensors.
local function check_decoder(part)
  local ok, config = pcall(json.read_object, part:at "config.json")
  if not ok then return end
  config = config.text_config or config
  part.width = config.hidden_size
  if not part.found or part.kind == "clip" then return end
  local blocks, seen = 0, {}
  for _, name in ipairs(part.found.checkpoint:names()) do
    local i = name:match "layers%.(%d+)%.mlp%.gate_proj%.weight$"
    if i and not seen[i] then
      seen[i], blocks = true, blocks + 1
    end
    local shape = name:find "embed_tokens%.weight$" and part.found.checkpoint:shape(name)
    if shape and part.width and shape[2] ~= part.width then
      part:spoils("config.json", ("hidden_size is %s, and %s is %d wide"):format(tostring(part.width), name, shape[2]))
    end
  end
  local said = config.num_hidden_layers
  if said and blocks ~= said then
    part:spoils("config.json",
      ("num_hidden_layers is %s, and the weights have %d blocks"):format(tostring(said), blocks))
  end
end

--- Looks at a folder of a model: its small files and its weights.
---@param part lucid.Part
function M.folder(part)
  M.small_files(part)
  check_weights(part)
  check_decoder(part)
end

-- ---- a file of weights ----------------------------------------------------------------------------------------------

local KINDS = { eva = "EVA vision tower", joined = "MiniGPT-4 projection",
  qformer = "InstructBLIP, LAVIS layout (trained parts)" }

-- What of a file's tensors the decoder beside it has to fit: the rows of the projection.
local WIDTH = { joined = "llama_proj%.weight$", qformer = "llm_proj%.weight$" }

--- Looks at a file of weights that is a part by itself.
---@param part lucid.Part
function M.file(part)
  local name = part.path:match "[^/]+$"
  local known = catalogue.KNOWN[name]
  part.files = { name }
  local ok, found = pcall(inspect.look, part.path)
  local fault
  if not ok then fault = tostring(found):gsub("^inspect: " .. part.path:gsub("%p", "%%%0") .. ": ", "")
  elseif found.kind ~= KINDS[part.kind] then fault = ("it holds %s, not %s"):format(found.kind, part:entry().title)
  elseif known and known.bytes and file.size(part.path) ~= known.bytes then
    fault = ("it has %d bytes, and the published file of this name %d"):format(file.size(part.path), known.bytes)
  end
  if fault then
    part:spoils(name, fault)
    return
  end
  part.found = found
  for _, tensor in ipairs(WIDTH[part.kind] and found.checkpoint:names() or {}) do
    if tensor:find(WIDTH[part.kind]) then part.width = found.checkpoint:shape(tensor)[1] end
  end
  part:has("%s, %s", name, inspect.size(found.bytes))
end

--- Looks at an adapter's folder.
---@param part lucid.Part
function M.adapter(part)
  if file.kind(part:at "adapter_config.json") ~= "file" then part:lacks "adapter_config.json" end
  local at
  for _, name in ipairs { "adapter_model.safetensors", "adapter_model.bin" } do
    if file.kind(part:at(name)) == "file" then at = at or name end
  end
  part.files = { at }
  if not at then
    part:lacks "adapter_model.safetensors or adapter_model.bin"
    return
  end
  part:try("adapter_config.json", json.read_object)
  if not part:try(at, open_and_close) or not part:is_whole() then return end
  part:has("%s", at)
  for _, fact in ipairs(inspect.look(part.path).facts) do part:note("%s", fact) end
end

-- ---- more than structure --------------------------------------------------------------------------------------------

--- Reads every byte of a part's weights: the sums of PyTorch's zips, numbers that are none.
---@param part lucid.Part
function M.read_whole(part)
  if not part.found then return end
  local ok, reason = pcall(inspect.check, part.found)
  if not ok then part:spoils("weights", (tostring(reason):gsub("^inspect: ", ""))) end
  for name, n in pairs(part.found.nonfinite or {}) do
    part:spoils("weights", ("%s: %d numbers are NaN or infinite"):format(name, n))
  end
end

--- Compares every name and shape of a model's parts with what config.json asks for.
---@param parts table<string, lucid.Part>      by kind
---@param main lucid.Part                      the one with config.json, where a fault is noted
---@return boolean fits
function M.fit(parts, main)
  local tower, bridge = parts.eva or parts.clip, parts.joined or parts.qformer
  local ok, reason = pcall(inspect.fit, main.found, { vision = tower and tower.path, bridge = bridge and bridge.path })
  if not ok then
    local text = tostring(reason):gsub("^inspect: ", "")
    local own = text:sub(1, #main.path + 1) == main.path .. "/" and text:sub(#main.path + 2):match "^([^:]+): "
    main:spoils(own or "config.json", text)
  end
  return ok
end

return M
