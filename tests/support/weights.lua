-- Files of weights of any size in bounded memory: true names, shapes and dtypes, random numbers.
-- The numbers are those of one random block (normal, deviation 0.02), which is read round and round: its
-- length divides no row's, so rows and tensors differ. Norms are ones. Sparse files have a true directory
-- and hold nothing else: their numbers read as zeros and take no room.
--   weights.write("/tmp/true/llava", published["llava-hf"](published.LLAVA_7B), { dtype = "f16" })
local ffi = require "ffi"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"
local tensor = require "lucid.tensor"
local torch = require "tests.support.torchfile"

ffi.cdef "int truncate(const char *path, int64_t length);"

local C, check = native.C, native.check
local M = {}

local BLOCK = 2 ^ 24 - 3
local BYTES = { f32 = 4, bf16 = 2, f16 = 2 }
local STORAGE = { f32 = "FloatStorage", bf16 = "BFloat16Storage", f16 = "HalfStorage" }

local function count(t)
  local n = 1
  for _, size in ipairs(t.shape) do n = n * size end
  return n
end

local function bytes(t, opt) return count(t) * BYTES[t.dtype or opt.dtype] end

-- ---- numbers ----------------------------------------------------------------------------------------------

local function block_of(t, dtype, length)
  local out = ffi.new("uint8_t[?]", length * BYTES[dtype])
  check(C.lc_tensor_read(t:to(dtype), out, length * BYTES[dtype]))
  return out
end

-- Where numbers come from: f(path, t) appends a tensor's to a file.
local function source(length, opt)
  local block, ones, at = {}, {}, 0
  local normal = tensor.randn({ length }, { seed = opt.seed or 1 }) * 0.02
  local one = tensor.full({ length }, 1)
  return function(path, t)
    local dtype, left = t.dtype or opt.dtype, count(t)
    local from = t.ones and ones or block
    from[dtype] = from[dtype] or block_of(t.ones and one or normal, dtype, length)
    local size = BYTES[dtype]
    while left > 0 do
      local n = math.min(left, length - at)
      check(C.lc_file_append(path, from[dtype] + at * size, n * size, 0))
      at, left = (at + n) % length, left - n
    end
  end
end

-- Nothing but room: f(path, t) lengthens a file.
local function hole(opt)
  return function(path, t)
    if ffi.C.truncate(path, file.size(path) + bytes(t, opt)) ~= 0 then error(path .. ": it cannot be lengthened", 0) end
  end
end

-- ---- one file ---------------------------------------------------------------------------------------------

local function safetensors(path, tensors, put, opt)
  local entries, at = { '"__metadata__":{"format":"pt"}' }, 0
  for i, t in ipairs(tensors) do
    local finish = at + bytes(t, opt)
    entries[i + 1] = ('"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%.0f,%.0f]}'):format(t.name,
      (t.dtype or opt.dtype):upper(), table.concat(t.shape, ","), at, finish)
    at = finish
  end
  local header = "{" .. table.concat(entries, ",") .. "}"
  header = header .. (" "):rep(-#header % 8)
  file.write(path, torch.little(#header, 8) .. header)
  for _, t in ipairs(tensors) do put(path, t) end
end

local ALIGNED = 64 -- bytes; torch.save puts every storage at such a place

-- An entry of the zip as it will lie in the file; where its header begins.
local function put_entry(path, zip, entry, put)
  local at = file.exists(path) and file.size(path) or 0
  local plain = #torch.zip_header(entry)
  local extra = "FB" .. torch.little(-(at + plain + 4) % ALIGNED, 2)
  extra = extra .. ("Z"):rep(-(at + plain + 4) % ALIGNED)
  file.append(path, torch.zip_header(entry, extra) .. entry[2])
  if put then put() end
  zip.entries[#zip.entries + 1], zip.at[#zip.at + 1] = entry, at
end

local function torch_file(path, tensors, put, opt, under)
  local items, zip = {}, { entries = {}, at = {} }
  for i, t in ipairs(tensors) do
    local stride, step = {}, 1
    for d = #t.shape, 1, -1 do
      stride[d], step = step, step * t.shape[d]
    end
    items[2 * i - 1] = torch.text(t.name)
    items[2 * i] = torch.tensor { key = tostring(i - 1), elements = count(t), size = t.shape, stride = stride,
      storage = STORAGE[t.dtype or opt.dtype] }
  end
  local body = torch.dict(unpack(items))
  put_entry(path, zip, { "archive/data.pkl", torch.pickle(under and torch.dict(torch.text(under), body) or body) })
  put_entry(path, zip, { "archive/byteorder", "little" })
  for i, t in ipairs(tensors) do
    local size = bytes(t, opt)
    put_entry(path, zip, { "archive/data/" .. i - 1, "", size = size, local_size = size }, function() put(path, t) end)
  end
  file.append(path, torch.zip_end(zip.entries, zip.at, file.size(path), { large = true }))
end

-- ---- folders ----------------------------------------------------------------------------------------------

local KINDS = {
  safetensors = { write = safetensors, one = "model.safetensors", many = "model-%05d-of-%05d.safetensors" },
  torch = { write = torch_file, one = "pytorch_model.bin", many = "pytorch_model-%05d-of-%05d.bin" },
}
local INDEX = { safetensors = "model.safetensors.index.json", torch = "pytorch_model.bin.index.json" }

-- In order, a new one where the limit would be passed.
local function split(tensors, limit, opt)
  local shards, held = { {} }, 0
  for _, t in ipairs(tensors) do
    if held > 0 and held + bytes(t, opt) > limit then
      shards[#shards + 1], held = {}, 0
    end
    table.insert(shards[#shards], t)
    held = held + bytes(t, opt)
  end
  return shards
end

local function write_shards(folder, part, put, opt)
  local kind, map, total = KINDS[part.kind], {}, 0
  local shards = split(part.tensors, opt.limit or part.limit, opt)
  for i, tensors in ipairs(shards) do
    local name = #shards == 1 and kind.one or kind.many:format(i, #shards)
    kind.write(folder .. "/" .. name, tensors, put, opt)
    for _, t in ipairs(tensors) do
      map[t.name], total = name, total + bytes(t, opt)
    end
  end
  if #shards > 1 then
    json.write(folder .. "/" .. INDEX[part.kind], { metadata = { total_size = total }, weight_map = map })
  end
end

--- Writes a model's parts (tests/support/published.lua) into a new folder.
---@param folder string
---@param parts table[]
---@param opt { dtype: string, sparse: boolean|nil, limit: number|nil, seed: integer|nil }  limit: bytes of a shard
function M.write(folder, parts, opt)
  if file.exists(folder) then error(folder .. ": it is there already; name a new folder", 0) end
  local total = 0
  for _, part in ipairs(parts) do
    for _, t in ipairs(part.tensors or {}) do total = total + count(t) end
  end
  local put = opt.sparse and hole(opt) or source(math.min(BLOCK, total), opt)
  for _, part in ipairs(parts) do
    local path = folder .. "/" .. (part.shards or part.file)
    file.mkdir(part.shards and path or path:match("^(.*)/"))
    if part.shards then write_shards(path, part, put, opt)
    elseif part.json then json.write(path, part.json, { indent = 2 })
    else torch_file(path, part.tensors, put, opt, part.under) end
  end
end

return M
