-- The hashes of large files, kept in the cache folder by where a file is and what its size and time are: a model's
-- weights are hashed once.
local adapter = require "lucid.adapter"
local cache = require "lucid.cache"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"

local C = native.C
local M = {}

-- A file's identity: another inode, size or time is another file.
local function identity(path)
  return ("%s %d %d %d"):format(path, tonumber(C.lc_file_inode(path)), tonumber(C.lc_file_size(path)),
    tonumber(C.lc_file_mtime_ns(path)))
end

-- Lines {"file": identity, "hash": digits}; what is damaged counts as unknown.
local function read(path)
  local hashes = {}
  for line in (file.exists(path) and file.read(path) or ""):gmatch("([^\n]*)\n") do
    local ok, record = pcall(json.decode, line)
    if ok and type(record) == "table" and type(record.file) == "string" then hashes[record.file] = record.hash end
  end
  return hashes
end

local function keep(folder, index, who, hash)
  file.mkdir(folder)
  file.append(index, json.encode { file = who, hash = hash } .. "\n")
end

--- The SHA-256 of files, by path. Where the folder cannot be written they are taken again every time.
---@param paths string[]
---@param folder string|nil     the cache folder; nil: there is none
---@param dry boolean|nil       nothing is written
---@return table<string, string>
function M.of(paths, folder, dry)
  local index = folder and folder .. "/hashes.jsonl"
  local kept, hashes = index and read(index) or {}, {}
  for _, path in ipairs(paths) do
    local who = identity(path)
    hashes[path] = kept[who]
    if not hashes[path] then
      hashes[path] = file.hash(path)
      if index and not dry then pcall(keep, folder, index, who, hashes[path]) end
    end
  end
  return hashes
end

local WEIGHTS = { safetensors = true, bin = true, pth = true, model = true }

--- What tells a model from another without reading its weights: its configuration and its files' sizes, a line each.
---@param opt table         model, vision, bridge: folders or files, as recipes' options name them
---@return string[]
function M.sizes(opt)
  local lines = {}
  for _, part in ipairs { opt.model, opt.vision or "", opt.bridge or "" } do
    if file.kind(part) == "file" then lines[#lines + 1] = ("%d"):format(file.size(part)) end
    for _, name in ipairs(file.list(part) or {}) do
      local path = part .. "/" .. name
      if name == "config.json" then lines[#lines + 1] = file.hash(path)
      elseif WEIGHTS[name:match("%.(%w+)$")] then lines[#lines + 1] = ("%s %d"):format(name, file.size(path)) end
    end
  end
  return lines
end

-- The weights of a model that no file holds.
local function of_tensors(model)
  local list = {}
  for _, p in ipairs(model:all_parameters()) do
    if p.part ~= "adapter" then list[#list + 1] = cache.tensor_hash(p.tensor) end
  end
  return list
end

--- The hashes of an adapter's files.
---@param dir string            as models take it
---@param folder string|nil     the cache folder
---@return string[]
function M.of_adapter_files(dir, folder)
  dir = adapter.folder(dir)
  local paths, list = {}, {}
  for _, name in ipairs(file.list(dir) or {}) do
    if name == "adapter_config.json" or WEIGHTS[name:match("%.(%w+)$")] then paths[#paths + 1] = dir .. "/" .. name end
  end
  table.sort(paths)
  local hashes = M.of(paths, folder)
  for i, path in ipairs(paths) do list[i] = hashes[path] end
  return list
end

--- What a model's weights are, without adapters: the hashes of the files that hold them.
---@param model lucid.Model
---@param folder string         the cache folder
---@param dry boolean|nil       nothing is written
---@return string[]
function M.of_weights(model, folder, dry)
  if not next(model.sources) then return of_tensors(model) end
  local paths, seen = {}, {}
  for _, source in pairs(model.sources) do
    local c = checkpoint(source)
    for _, name in ipairs(c:names()) do
      local path = c:file(name)
      if not seen[path] then
        seen[path] = true
        paths[#paths + 1] = path
      end
    end
  end
  table.sort(paths)
  local hashes, list = M.of(paths, folder, dry), {}
  for i, path in ipairs(paths) do list[i] = hashes[path] end
  return list
end

--- What a model's adapter is, whatever file it came from: its settings and the hashes of its tensors, and of those of the
--- base that came with it. nil: the model has none.
---@param model lucid.Model
---@return table|nil
function M.of_adapter(model)
  if not model.lora_config then return nil end
  local list = { settings = model.lora_config, tensors = {} }
  for _, p in ipairs(model:all_parameters()) do
    if p.part == "adapter" or model.beside[p.name] then list.tensors[p.name] = cache.tensor_hash(p.tensor) end
  end
  return list
end

return M
