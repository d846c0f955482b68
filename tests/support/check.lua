-- Compares a native op with its formula in plain Lua: values, and gradients against central
-- differences of the formula in doubles. Inputs come dense, as transposed views and as slices.
local ffi = require("ffi")
local native = require("lucid.native")
local plain = require("tests.oracle.plain")
local C = native.C
local M = {}

--- Where tensors are made; the specs of another device set it.
M.device = C.LC_HOST

--- Of the random inputs.
M.seed = 7

M.dtypes = { f32 = C.LC_F32, bf16 = C.LC_BF16, f16 = C.LC_F16, i32 = C.LC_I32 }

--- Raises what lc_error says when a call failed.
function M.done(status)
  if status ~= 0 then error(ffi.string(C.lc_error()), 2) end
end

local function dims(shape) return ffi.new("int64_t[?]", math.max(#shape, 1), shape) end
M.dims = dims

--- A native tensor of an array's shape and values.
function M.tensor(array, dtype)
  local n = #array
  local t = native.adopt(C.lc_tensor_new(#array.shape, dims(array.shape), M.dtypes[dtype],
    M.device))
  if dtype == "i32" then
    M.done(C.lc_tensor_write(t, ffi.new("int32_t[?]", math.max(n, 1), array), n * 4))
  else
    M.done(C.lc_tensor_write_f32(t, ffi.new("float[?]", math.max(n, 1), array), n))
  end
  return t
end

--- The array of a native tensor.
function M.read(t)
  local n, shape = tonumber(C.lc_tensor_count(t)), {}
  for i = 1, C.lc_tensor_ndim(t) do shape[i] = tonumber(C.lc_tensor_size(t, i - 1)) end
  local values = ffi.new("float[?]", math.max(n, 1))
  M.done(C.lc_tensor_read_f32(t, values, n))
  return plain.array(shape, function(i) return tonumber(values[i - 1]) end)
end

--- ||a - b|| / ||b||; NaN and a wrong shape are infinitely far.
function M.distance(a, b)
  if table.concat(a.shape, ",") ~= table.concat(b.shape, ",") then return math.huge end
  local off, size = 0, 0
  for i = 1, #b do
    off, size = off + (a[i] - b[i]) ^ 2, size + b[i] ^ 2
  end
  if off ~= off or #a ~= #b then return math.huge end
  return off == 0 and 0 or math.sqrt(off / math.max(size, 1e-30))
end

-- ---- inputs ---------------------------------------------------------------------------------------

-- How an input lies in memory: the array that is stored, and the view of it that has the values.
local LAYOUT = {
  dense = {
    store = function(a) return a end,
    view = function(t) return t end,
  },
  transposed = {
    store = function(a) return plain.transpose(a, #a.shape - 1, #a.shape) end,
    view = function(t) return native.adopt(C.lc_transpose(t, -1, -2)) end,
    least = 2,
  },
  sliced = { -- with a row of other numbers before and after
    store = function(a)
      local shape = { unpack(a.shape) }
      shape[1] = 1
      local edge = plain.array(shape, function() return 1 end)
      return plain.cat({ edge, a, edge }, 1)
    end,
    view = function(t) return native.adopt(C.lc_slice(t, 0, 1, C.lc_tensor_size(t, 0) - 2)) end,
    least = 1,
  },
}

-- Seeded numbers of an input: {shape, low=, high=} or {shape, below=} (integers from 0) or an array.
local function values(spec, stream)
  if spec.shape then return spec end
  return plain.array(spec[1], function(i)
    local u = C.lc_uniform(M.seed, stream, i)
    if spec.below then return math.floor(u * spec.below) end
    local low, high = spec.low or -3, spec.high or 3
    return low + u * (high - low)
  end)
end

local function is_integer(spec) return spec.below ~= nil or spec.integer end

-- ---- the comparison -------------------------------------------------------------------------------

-- d loss / d input[k] of the formula at some elements, by central differences
local function slopes(formula, arrays, k, weight, elements)
  local function loss()
    local y, sum = formula(unpack(arrays)), 0
    for i = 1, #y do sum = sum + y[i] * weight[i] end
    return sum
  end
  local out, h = { shape = { #elements } }, 1e-5
  for j, i in ipairs(elements) do
    local x = arrays[k][i]
    arrays[k][i] = x + h
    local above = loss()
    arrays[k][i] = x - h
    out[j] = (above - loss()) / (2 * h)
    arrays[k][i] = x
  end
  return out
end

-- All elements of a small input, 12 seeded ones of a larger.
local function chosen(n, stream)
  local list = {}
  for j = 1, math.min(n, 12) do
    list[j] = n <= 12 and j or 1 + math.floor(C.lc_uniform(11, stream, j) * n)
  end
  return list
end

local function at(a, elements)
  return plain.array({ #elements }, function(j) return a[elements[j]] end)
end

--- Compares one case. case: op = function(native tensors) -> pending tensor, formula =
--- function(arrays) -> array, inputs = {...}, dtype, layout, tolerance, slope = the gradients'
--- tolerance (nil: no gradient).
--- Returns nil, or a text that says what is wrong.
function M.compare(case)
  local layout, arrays, leaves, views = LAYOUT[case.layout], {}, {}, {}
  for k, spec in ipairs(case.inputs) do
    local a = values(spec, k)
    local l = (layout.least or 0) <= #a.shape and layout or LAYOUT.dense
    local dtype = is_integer(spec) and "i32" or spec.dtype or case.dtype
    leaves[k] = M.tensor(l.store(a), dtype)
    if case.slope and not is_integer(spec) then M.done(C.lc_tensor_requires_grad(leaves[k], 1)) end
    views[k] = l.view(leaves[k])
    arrays[k] = M.read(views[k]) -- as the dtype rounds them
  end
  local y = native.adopt(case.op(unpack(views)))
  local expected = case.formula(unpack(arrays))
  local off = M.distance(M.read(y), expected)
  local fits = off <= case.tolerance
  if not fits then return ("values are %.3g off"):format(off) end
  if not case.slope then return nil end

  local weight = plain.array(expected.shape, function(i) return C.lc_uniform(13, 0, i) * 2 - 1 end)
  local dy = M.tensor(weight, "f32")
  M.done(C.lc_backward_from(y, dy))
  for k, spec in ipairs(case.inputs) do
    if not is_integer(spec) and #arrays[k] > 0 and #expected > 0 then
      local l = (layout.least or 0) <= #arrays[k].shape and layout or LAYOUT.dense
      local grad = native.borrow(C.lc_tensor_grad(leaves[k]))
      if grad == nil then return ("input %d has no gradient"):format(k) end
      local elements = chosen(#arrays[k], k)
      local real = slopes(case.formula, arrays, k, weight, elements)
      off = M.distance(at(M.read(l.view(grad)), elements), real)
      fits = off <= case.slope
      if not fits then return ("gradient %d is %.3g off"):format(k, off) end
    end
  end
  return nil
end

return M
