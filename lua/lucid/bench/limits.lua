-- The limits that work is compared with: how fast memory is read and copied, and how fast matrices are multiplied. A limit
-- is the best of all rounds and forms; oneDNN's products are among them where it is installed (libdnnl.so.2).
local ffi = require "ffi"
local native = require "lucid.native"
local tensor = require "lucid.tensor"
local work = require "lucid.bench.work"

local C = native.C
local M = {}

local BUFFER = 2 ^ 29       -- bytes: far more than a cache

--- The shapes { n, k } of a 7B decoder's linear layers, and the rows that they are measured with.
M.SHAPES = { { 4096, 4096 }, { 11008, 4096 }, { 4096, 11008 } }
M.ROWS = 1024

--- A product's shape as text.
---@param rows integer
---@param n integer
---@param k integer
---@return string
function M.shape(rows, n, k) return ("%d x %d x %d"):format(rows, n, k) end

local function buffer(o) return tensor.full({ o.size(BUFFER, 2 ^ 16) / 4 }, 1, { device = o.device }) end

local function reading(o)
  local t, sum = buffer(o), ffi.new "uint64_t[1]"
  return { bytes = 4 * t:count(), run = function() native.check(C.lc_bandwidth_read(t, sum)) end }
end

local function copying(o)
  local from, to = buffer(o), buffer(o)
  local copy = o.device == "cpu" and C.lc_bandwidth_copy or C.lc_tensor_copy
  return { bytes = 8 * from:count(), run = function() native.check(copy(to, from)) end }
end

-- oneDNN's product, or nil where it has none.
local function onednn(rows, n, k, dtype, packed)
  local handle = C.lc_onednn_new(rows, n, k, native.dtype(dtype), 0, 1, packed and 1 or 0)
  if handle == nil then return nil end
  handle = ffi.gc(handle, C.lc_onednn_free)
  return { flops = 2 * rows * n * k, name = ffi.string(C.lc_onednn_name(handle)),
    run = function() native.check(C.lc_onednn_run(handle)) end }
end

--- Rows that measure limits: name is the limit's, from what has reached it.
---@param add fun(row: lucid.BenchRow)
---@param o lucid.BenchOptions
---@param wanted table<string, boolean>     limits' names
function M.rows(add, o, wanted)
  if wanted.read then add { limit_of = "read", about = "reading memory", make = function() return reading(o) end } end
  if wanted.copy then
    add { limit_of = "copy", about = "copying, both ways counted", make = function() return copying(o) end }
  end
  for _, dtype in ipairs { "bf16", "f16", "f32" } do
    for _, shape in ipairs(wanted[dtype] and M.SHAPES or {}) do
      local n, k = unpack(shape)
      local rows = o.size(M.ROWS, 4)
      n, k = o.size(n, 32), o.size(k, 32)
      local found = false
      for _, packed in ipairs(o.device == "cpu" and { false, true } or {}) do
        local product = onednn(rows, n, k, dtype, packed)
        if product then
          found = true
          add { limit_of = dtype, about = ("%s, %s, %s"):format(product.name, packed and "packed" or "plain",
            M.shape(rows, n, k)), shape = dtype .. M.shape(rows, n, k), make = function() return product end }
        end
      end
      if not found then
        add { limit_of = dtype, about = "own product, " .. M.shape(rows, n, k), make = function()
          return work.linear { device = o.device, dtype = dtype, rows = rows, n = n, k = k }
        end }
      end
    end
  end
end

return M
