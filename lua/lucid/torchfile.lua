-- Writes a file of torch.save: tensors by name, as programs of PyTorch read them with torch.load. It is a zip without
-- compression: the pickle of a dictionary whose tensors point to storages, and every storage's bytes (f32). For small
-- sets of tensors: the file is put together in memory, 2 GiB are the limit.
local bit = require "bit"
local ffi = require "ffi"
local file = require "lucid.file"
local keys = require "lucid.keys"
local native = require "lucid.native"

local C = native.C
local M = {}

local LIMIT = 2 ^ 31

-- ---- pickle -------------------------------------------------------------------------------------

local function little(n, bytes)
  local out = {}
  for i = 1, bytes do
    out[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(out)
end

local function text(s) return "X" .. little(#s, 4) .. s end
local function int(n) return "J" .. little(n, 4) end
local function global(module, name) return "c" .. module .. "\n" .. name .. "\n" end
local function tuple(...) return "(" .. table.concat { ... } .. "t" end

local function ints(list)
  local out = {}
  for i, n in ipairs(list) do out[i] = int(n) end
  return tuple(unpack(out))
end

local function strides(shape)
  local out, step = {}, 1
  for i = #shape, 1, -1 do out[i], step = step, step * shape[i] end
  return out
end

-- The call that makes a tensor of the storage with a number: _rebuild_tensor_v2(storage, offset, size, stride, ...).
local function rebuilt(t, number)
  local shape = t:shape()
  local storage = tuple(text "storage", global("torch", "FloatStorage"), text(tostring(number)), text "cpu", int(t:count())) .. "Q"
  local no_hooks = global("collections", "OrderedDict") .. ")R"
  return global("torch._utils", "_rebuild_tensor_v2")
    .. tuple(storage, int(0), ints(shape), ints(strides(shape)), "\137", no_hooks) .. "R"
end

-- ---- zip ----------------------------------------------------------------------------------------

local CRC = ffi.new "uint32_t[256]"
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do
    c = bit.band(c, 1) == 1 and bit.bxor(bit.rshift(c, 1), 0xEDB88320) or bit.rshift(c, 1)
  end
  CRC[i] = c
end

local function crc32(s)
  local bytes, c = ffi.cast("const uint8_t *", s), bit.bnot(0)
  for i = 0, #s - 1 do c = bit.bxor(bit.rshift(c, 8), CRC[bit.band(bit.bxor(c, bytes[i]), 255)]) end
  return bit.bnot(c) % 2 ^ 32
end

-- What both headers of an entry have in common: flags, method, time and date, sum, sizes, length of the name.
local function facts(e)
  return little(0, 4) .. little(0, 2) .. little(33, 2) .. little(crc32(e[2]), 4) .. little(#e[2], 4):rep(2)
    .. little(#e[1], 2) .. little(0, 2)
end

local function zip(entries)
  local body, directory, at = {}, {}, 0
  for i, e in ipairs(entries) do
    local common = facts(e)
    body[i] = "PK\3\4" .. little(20, 2) .. common .. e[1] .. e[2]
    directory[i] = "PK\1\2" .. little(20, 2) .. little(20, 2) .. common .. little(0, 10) .. little(at, 4) .. e[1]
    at = at + #body[i]
  end
  local central = table.concat(directory)
  return table.concat(body) .. central .. "PK\5\6" .. little(0, 4) .. little(#entries, 2):rep(2) .. little(#central, 4)
    .. little(at, 4) .. little(0, 2)
end

-- ---- files -----------------------------------------------------------------------------------------

local function bytes_of(t)
  local n = 4 * t:count()
  local buffer = ffi.new("uint8_t[?]", math.max(n, 1))
  native.check(C.lc_tensor_read_f32(t, ffi.cast("float *", buffer), t:count()))
  return ffi.string(buffer, n)
end

--- Writes tensors, any dtype, as f32 under their names.
---@param path string
---@param tensors table<string, lucid.Tensor>
function M.write(path, tensors)
  local names, all = keys(tensors), 0
  for _, t in pairs(tensors) do all = all + 4 * t:count() end
  if all > LIMIT then error(("%s: %.0f bytes are too many for one such file; 2 GiB are possible"):format(path, all), 2) end
  local items, entries = {}, { { "archive/data.pkl" }, { "archive/version", "3\n" }, { "archive/byteorder", "little" } }
  for i, name in ipairs(names) do
    items[i] = text(name) .. rebuilt(tensors[name], i - 1)
    entries[#entries + 1] = { "archive/data/" .. i - 1, bytes_of(tensors[name]) }
  end
  entries[1][2] = "\128\2}(" .. table.concat(items) .. "u."
  file.write(path, zip(entries))
end

return M
