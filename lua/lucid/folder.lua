-- Model folders that are written whole or not at all, tensor by tensor: shards of safetensors with their
-- index, and the small files beside them. lucid.merge and lucid.export plan what is in them.
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local json = require "lucid.json"
local keys = require "lucid.keys"
local layout = require "lucid.layout"
local progress = require "lucid.progress"

local M = {}

local BYTES = { f32 = 4, bf16 = 2, f16 = 2, i32 = 4, u8 = 1 }

---@class lucid.FolderPart
---@field name string                                 the folder below the one that is written, "" for itself
---@field shards table<string, lucid.Planned[]>       by the file's name
---@field files table<string, string|table>           small files: their text, or what becomes JSON
---@field apart boolean|nil                           its files are not shards of one model: no index

--- The small files of a folder, by name: configuration, tokenizer, processor, not the index of weights.
---@param dir string
---@return table<string, string>
function M.small_files(dir)
  local files = {}
  local function collect(folder, prefix)
    for _, name in ipairs(file.list(folder) or {}) do
      local path = folder .. "/" .. name
      local small = name:find("%.json$") or name:find("%.model$") or name:find("%.txt$") or name:find("%.jinja$")
      if small and not name:find("%.index%.json$") and file.kind(path) == "file" then
        files[prefix .. name] = file.read(path)
      end
    end
  end
  collect(dir, "")
  collect(dir .. "/qformer_tokenizer", "qformer_tokenizer/")
  return files
end

--- A published shard's name as this program writes it: pytorch_model-00001-of-00002.bin becomes
--- model-00001-of-00002.safetensors.
---@param path string
---@return string
function M.shard_name(path)
  return (path:match("[^/]+$"):gsub("%.bin$", ".safetensors"):gsub("^pytorch_model", "model"))
end

--- A tensor's dtype in this program's words, from the file's; nil for what is not loaded: the integer and
--- boolean buffers of older files.
---@param word string
---@return string|nil
function M.dtype(word)
  local dtype = word:lower()
  return BYTES[dtype] and dtype or nil
end

local function bytes_of(planned)
  local n = BYTES[planned.dtype]
  for _, size in ipairs(planned.shape) do n = n * size end
  return n
end

-- The bytes of all tensors of a part.
local function weigh(part)
  local total = 0
  for _, list in pairs(part.shards) do
    for _, t in ipairs(list) do total = total + bytes_of(t) end
  end
  return total
end

local function write_part(dir, part, written)
  file.mkdir(dir)
  local place, names = {}, keys(part.shards)
  for _, name in ipairs(names) do
    checkpoint.stream(dir .. "/" .. name, part.shards[name], written)
    for _, t in ipairs(part.shards[name]) do place[t.name] = name end
  end
  if #names > 1 and not part.apart then
    json.write(dir .. "/model.safetensors.index.json",
      { metadata = { total_size = weigh(part) }, weight_map = place }, { indent = 2 })
  end
  for name, content in pairs(part.files) do
    local path = dir .. "/" .. name
    file.mkdir(path:match("^(.*)/"))
    if type(content) == "table" then json.write(path, content, layout.STYLE) else file.write(path, content) end
  end
end

local function clear(dir)
  for _, name in ipairs(file.list(dir) or {}) do
    local path = dir .. "/" .. name
    if file.kind(path) == "folder" then clear(path) else file.remove(path) end
  end
  if file.exists(dir) then file.remove(dir) end
end

-- Refuses what is there already, and a disk that is too small.
local function prepare(out, partial, need)
  local there = file.kind(out)
  if there == "file" or (there and file.list(out)[1]) then
    error(out .. ": it is there already; name a new folder with --out", 0)
  end
  if file.exists(partial) then
    error(partial .. ": it was left by an attempt that was cut off; remove it first", 0)
  end
  file.mkdir(partial)
  local free = file.free(partial)
  if need > free then
    file.remove(partial)
    error(("%s: %.1f GB are needed but the disk has %.1f GB left"):format(out, need / 1e9, free / 1e9), 0)
  end
end

--- Writes a folder. It is complete or absent: meanwhile it is called OUT.partial.
---@param out string
---@param parts lucid.FolderPart[]
---@param show boolean|nil     with a progress line
---@return integer bytes      of all tensors
function M.write(out, parts, show)
  out = out:gsub("(.)/+$", "%1")
  local partial, need, count, done = out .. ".partial", 0, 0, 0
  for _, part in ipairs(parts) do
    need = need + weigh(part)
    for _, list in pairs(part.shards) do count = count + #list end
  end
  prepare(out, partial, need)
  local bar = progress { total = math.max(1, count), label = "write", unit = "tensors", quiet = not show }
  local function written()
    done = done + 1
    bar:step(done)
  end
  local ok, reason = pcall(function()
    for _, part in ipairs(parts) do
      write_part(part.name == "" and partial or partial .. "/" .. part.name, part, written)
    end
    bar:done()
    file.rename(partial, out)
  end)
  if not ok then
    clear(partial)
    error(reason, 0)
  end
  return need
end

return M
