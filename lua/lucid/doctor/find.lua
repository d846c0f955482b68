-- Which published parts lie in folders, told by the names and the configuration in them; what is loose (a file of
-- weights beside others) is told by its tensors.
local catalogue = require "lucid.doctor.catalogue"
local file = require "lucid.file"
local inspect = require "lucid.inspect"
local json = require "lucid.json"
local layout = require "lucid.layout"
local native = require "lucid.native"
local part = require "lucid.doctor.part"

local C = native.C
local M = {}

local DEEPEST = 5                         -- folders below the one that is named: Hugging Face's cache has four
local WEIGHTS = { "%.safetensors$", "%.bin$", "%.pth$", "%.pt$" }
-- Folders that belong to the part around them.
local INSIDE = { VG_100K = true, VG_100K_2 = true, vision_tower = true, qformer_tokenizer = true, adapter = true,
  blobs = true, refs = true, [".git"] = true }

local function is_weights(name)
  for _, pattern in ipairs(WEIGHTS) do
    if name:find(pattern) then return true end
  end
  return false
end

-- Whether a folder's weights are a model's: their usual names, or an index.
local function is_model(names)
  for _, name in ipairs(names) do
    if name:find "^pytorch_model.*%.bin" or name:find "^model.*%.safetensors" then return true end
  end
  return false
end

-- ---- folders of a model --------------------------------------------------------------------------------------

local BY_TYPE = { llama = "llama", clip = "clip", clip_vision_model = "clip", instructblip = "instructblip_hf" }

-- What config.json calls itself; nil: it is no such thing, or cannot be read.
local function by_config(path)
  local ok, config = pcall(json.read_object, path .. "/config.json")
  if not ok then return nil end
  if layout.kind(config) == "llava" then return config.text_config and "llava_hf" or "llava" end
  return BY_TYPE[config.model_type]
end

-- Kinds of lucid.inspect, where config.json is missing or damaged.
local BY_TENSORS = {
  ["LLaVA, Hugging Face layout"] = "llava_hf", ["LLaVA, original layout"] = "llava", ["Llama"] = "llama",
  ["CLIP vision tower"] = "clip", ["InstructBLIP, Hugging Face layout"] = "instructblip_hf",
  ["EVA vision tower"] = "eva", ["MiniGPT-4 projection"] = "joined",
  ["InstructBLIP, LAVIS layout (trained parts)"] = "qformer", ["LLaVA projector (non-LoRA trainables)"] = "projector",
}

-- What its tensors say it is; nil when they say nothing, and why where they cannot be read.
local function by_tensors(path)
  local ok, found = pcall(inspect.look, path)
  if not ok then return nil, (found:gsub("^inspect: ", "")) end
  if found.tensors == 0 then found = found.others[1] or found end      -- parts whose index is not there
  return BY_TENSORS[found.kind]
end

-- Of a folder or file that nothing in it tells: what its name says.
local function by_name(path)
  local name = path:lower()
  if name:find "llava" then return name:find "%-hf" and "llava_hf" or "llava" end
  if name:find "instructblip" then return "instructblip_hf" end
  if name:find "clip" then return "clip" end
  if name:find "vicuna" or name:find "llama" then return "llama" end
end

local function model_kind(path, names, has)
  if not has["config.json"] and not is_model(names) then return nil end
  return by_config(path) or is_model(names) and (by_tensors(path) or by_name(path)) or nil
end

-- ---- folders of data --------------------------------------------------------------------------------------------

local function any(has, names)
  for _, name in ipairs(names) do
    if has[name] then return true end
  end
  return false
end

-- The parts that a folder is, by what it holds; it may be several.
local function kinds_of(path, names, has)
  local kinds = {}
  local function add(kind) kinds[#kinds + 1] = kind end
  if has["adapter_config.json"] or has["adapter_model.safetensors"] or has["adapter_model.bin"] then add "adapter" end
  local model = model_kind(path, names, has)
  if model then add(model) end
  if has["vocab.txt"] and not model then add "bert" end
  if any(has, { "image_data.json", "region_descriptions.json", "VG_100K", "VG_100K_2" }) then add "vg" end
  if (names[1] or ""):find "^COCO_val2014_" or path:find "val2014$" then add "coco" end
  for _, kind in ipairs { "hadpo", "pope", "shr", "ccsbu" } do
    if any(has, catalogue.PARTS[kind].files) then add(kind) end
  end
  return kinds, model
end

-- ---- looking ------------------------------------------------------------------------------------------------------

-- A file of weights that belongs to no folder of a model. nil: it is of no use to any recipe, or cannot be read, and
-- then why.
local function loose(path, name)
  local known = catalogue.KNOWN[name]
  if known then return known.part end
  return by_tensors(path)
end

-- Tells one folder from another, by whatever path it is reached.
local function stamp_of(path) return ("%d %.17g"):format(tonumber(C.lc_file_inode(path)), file.mtime(path)) end

-- above: the stamps of the folders on the way here; a link may lead back to one of them.
local function look(path, above, found)
  local own = stamp_of(path)
  for _, stamp in ipairs(above) do
    if stamp == own then return end
  end
  local listed, names = pcall(file.list, path)
  if not listed then
    found.strangers[#found.strangers + 1] = tostring(names):gsub("^[^ ]*%.lua:%d+: ", "")
    return
  end
  local has = {}
  for _, name in ipairs(names) do has[name] = true end
  local kinds, model = kinds_of(path, names, has)
  for _, kind in ipairs(kinds) do found.parts[#found.parts + 1] = part.new(kind, path) end
  if kinds[1] == "coco" then return end                    -- tens of thousands of pictures
  for _, name in ipairs(names) do
    local whole = path .. "/" .. name
    if file.kind(whole) == "folder" then
      if #above < DEEPEST and not INSIDE[name] then look(whole, { own, unpack(above) }, found) end
    elseif is_weights(name) and kinds[1] ~= "adapter" and (not model or catalogue.KNOWN[name]) then
      local kind, reason = loose(whole, name)
      if catalogue.PARTS[kind] then found.parts[#found.parts + 1] = part.new(kind, whole)
      elseif kind ~= "projector" then
        found.strangers[#found.strangers + 1] = reason or whole .. ": these weights are of no part that lucid reads"
      end
    elseif name:find "%.zip$" or name:find "%.tar%.gz$" or name:find "%.tgz$" then
      found.strangers[#found.strangers + 1] = whole .. ": an archive; unpack it, if what it holds is not there yet"
    end
  end
end

-- Parts that are a file; another one's weights are looked at with the folder around them.
local ALONE = { eva = true, joined = true, qformer = true }

--- The parts in some folders and files, and what else is worth a word.
---@param paths string[]
---@return { parts: lucid.Part[], strangers: string[] }
function M.find(paths)
  local found, looked = { parts = {}, strangers = {} }, {}
  for _, path in ipairs(paths) do
    path = #path > 1 and path:gsub("/+$", "") or path
    local kind, parts, strangers = file.kind(path), #found.parts, #found.strangers
    if not kind then error(("doctor: %s: there is no such file or folder"):format(path), 0) end
    if kind == "folder" then look(path, {}, found)
    else
      local folder, name = path:match "^(.-)/*([^/]+)$"
      local of, reason = loose(path, name)
      if ALONE[of] then found.parts[#found.parts + 1] = part.new(of, path)
      elseif catalogue.PARTS[of] then
        folder = folder ~= "" and folder or path:sub(1, 1) == "/" and "/" or "."
        if not looked[folder] then look(folder, {}, found) end
        looked[folder] = true
      end
      if is_weights(path) then found.strangers[#found.strangers + 1] = reason end
    end
    if #found.parts == parts and #found.strangers == strangers then
      found.strangers[#found.strangers + 1] = path .. ": nothing in it is a part that lucid reads"
    end
  end
  return found
end

return M
