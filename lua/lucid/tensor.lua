-- Tensors in Lua: making, reading and operators. A tensor is the library's own handle with
-- methods; an op of lucid.h that takes a tensor first is a method under its name.
local ffi = require "ffi"
local native = require "lucid.native"
local options = require "lucid.options"

local C = native.C
local M = {}
local methods = {}

---@class lucid.TensorOptions
---@field dtype string|nil     "f32" (default), "bf16", "f16", "i32", "u8"
---@field device string|nil    "cpu" (default), "cuda", "cuda:1", "auto"
---@field seed integer|nil     of random numbers; default: lucid.seed's, another one each call

-- ---- making ------------------------------------------------------------------------------------

local function dims(shape, op)
  if type(shape) == "number" then shape = { shape } end
  if type(shape) ~= "table" then native.bad_argument(op, 1, shape, "a shape: a list of sizes") end
  local n = #shape
  for i = 1, n do
    if type(shape[i]) ~= "number" or shape[i] % 1 ~= 0 then
      native.raise(("%s: size %d of the shape is %s, not a whole number"):format(op, i, tostring(shape[i])))
    end
  end
  return n, ffi.new("int64_t[?]", math.max(n, 1), shape)
end

local OPTIONS = options "dtype device seed"

local function place_of(op, opt)
  if type(opt) == "number" then native.raise(op .. ": sizes and values are one list, as in {3, 4}") end
  OPTIONS:check(op, opt)
  opt = opt or {}
  return native.dtype(opt.dtype or "f32"), native.device(opt.device)
end

-- The shape of a nested list, from its first elements.
local function shape_of(x)
  local shape = {}
  while type(x) == "table" do
    shape[#shape + 1] = #x
    x = x[1]
  end
  return shape
end

local function flatten(x, shape, depth, out)
  if depth > #shape then
    if type(x) ~= "number" then
      error(("tensor: an element is a %s, not a number"):format(type(x)), 0)
    end
    out[#out + 1] = x
    return
  end
  if type(x) ~= "table" or #x ~= shape[depth] then
    error(("tensor: a list at depth %d has %s elements, another has %d"):format(depth,
      type(x) == "table" and #x or "no", shape[depth]), 0)
  end
  for i = 1, #x do flatten(x[i], shape, depth + 1, out) end
end

--- A tensor of the values of a nested list, or of one number.
---@param values table|number
---@param opt lucid.TensorOptions|nil
---@return lucid.Tensor
function M.tensor(values, opt)
  if type(values) ~= "table" and type(values) ~= "number" then
    native.bad_argument("tensor", 1, values, "a nested list of numbers")
  end
  local shape, flat = shape_of(values), {}
  local ok, reason = pcall(flatten, values, shape, 1, flat)
  if not ok then native.raise(reason) end
  local dtype, device = place_of("tensor", opt)
  local n, sizes = dims(shape, "tensor")
  local t = native.adopt(C.lc_tensor_new(n, sizes, dtype, device))
  if dtype == C.LC_I32 then
    for _, v in ipairs(flat) do
      if not (v > -2 ^ 31 - 1 and v < 2 ^ 31) then native.raise(("tensor: i32 cannot hold %.17g"):format(v)) end
    end
    native.check(C.lc_tensor_write(t, ffi.new("int32_t[?]", math.max(#flat, 1), flat), 4 * #flat))
  else
    native.check(C.lc_tensor_write_f32(t, ffi.new("float[?]", math.max(#flat, 1), flat), #flat))
  end
  return t
end

local function filled(op, shape, value, opt)
  local n, sizes = dims(shape, op)
  local dtype, device = place_of(op, opt)
  return native.adopt(C.lc_tensor_full(n, sizes, dtype, device, value))
end

--- A tensor filled with one value.
---@param shape integer[]
---@param value number
---@param opt lucid.TensorOptions|nil
---@return lucid.Tensor
function M.full(shape, value, opt)
  if type(value) ~= "number" then native.bad_argument("full", 2, value, "a number") end
  return filled("full", shape, value, opt)
end

--- A tensor of zeros.
---@param shape integer[]
---@param opt lucid.TensorOptions|nil
---@return lucid.Tensor
function M.zeros(shape, opt) return filled("zeros", shape, 0, opt) end
--- A tensor of ones.
---@param shape integer[]
---@param opt lucid.TensorOptions|nil
---@return lucid.Tensor
function M.ones(shape, opt) return filled("ones", shape, 1, opt) end

--- A tensor whose contents are not set.
---@param shape integer[]
---@param opt lucid.TensorOptions|nil
---@return lucid.Tensor
function M.empty(shape, opt)
  local n, sizes = dims(shape, "empty")
  local dtype, device = place_of("empty", opt)
  return native.adopt(C.lc_tensor_new(n, sizes, dtype, device))
end

local seed, calls = 0, 0

--- Sets the seed of randn and rand; the sequence of calls begins anew.
---@param n integer
function M.seed(n) seed, calls = n, 0 end

local function random(make, op)
  return function(shape, opt)
    local n, sizes = dims(shape, op)
    local dtype, device = place_of(op, opt)
    local own = opt and opt.seed
    if not own then calls = calls + 1 end
    return native.adopt(make(n, sizes, dtype, device, own or seed, own and 0 or calls))
  end
end

--- Normal numbers, mean 0 and standard deviation 1: a function of shape and lucid.TensorOptions.
M.randn = random(C.lc_tensor_randn, "randn")
--- Uniform numbers in [0, 1).
M.rand = random(C.lc_tensor_rand, "rand")

--- Joins tensors along a dim.
---@param list table
---@param dim integer
---@return lucid.Tensor
function M.cat(list, dim)
  local n = #list
  local pointers = ffi.new("lc_tensor *[?]", math.max(n, 1))
  for i = 1, n do
    if not native.is_tensor(list[i]) then native.bad_argument("cat", i, list[i], "a tensor") end
    pointers[i - 1] = list[i]
  end
  return native.adopt(C.lc_cat(n, pointers, native.dim("cat", 2, dim or 1)))
end

-- ---- looking --------------------------------------------------------------------------------------

--- The size of dim i, from 1; -1 is the last.
---@param t lucid.Tensor
---@param i integer
---@return integer
function methods.size(t, i)
  local size = tonumber(C.lc_tensor_size(t, native.dim("size", 2, i)))
  if size < 0 then native.fail() end
  return size
end

--- All sizes, a list of numbers.
---@param t lucid.Tensor
---@return table
function methods.shape(t)
  local shape = {}
  for i = 1, C.lc_tensor_ndim(t) do shape[i] = tonumber(C.lc_tensor_size(t, i - 1)) end
  return shape
end

--- How many dims it has.
---@param t lucid.Tensor
---@return integer
function methods.dim(t) return C.lc_tensor_ndim(t) end
--- How many elements it has.
---@param t lucid.Tensor
---@return integer
function methods.count(t) return tonumber(C.lc_tensor_count(t)) end
--- Its dtype: "f32", "bf16", "f16", "i32" or "u8".
---@param t lucid.Tensor
---@return string
function methods.dtype(t) return ffi.string(C.lc_dtype_name(C.lc_tensor_dtype(t))) end

--- Its device: "cpu", "cuda:0".
---@param t lucid.Tensor
---@return string
function methods.device(t) return native.device_name(C.lc_tensor_device(t)) end

--- Whether its storage is still there: false once its scope has freed it.
---@param t lucid.Tensor
---@return boolean
function methods.alive(t) return C.lc_tensor_alive(t) ~= 0 end

-- The elements in row-major order: a C array of floats or int32s, and their number.
local function elements(t)
  local n = methods.count(t)
  if C.lc_tensor_dtype(t) == C.LC_I32 then
    local values = ffi.new("int32_t[?]", math.max(n, 1))
    if C.lc_tensor_read(t, values, 4 * n) < 0 then native.fail() end
    return values, n
  end
  local values = ffi.new("float[?]", math.max(n, 1))
  if C.lc_tensor_read_f32(t, values, n) < 0 then native.fail() end
  return values, n
end

--- The values as a nested list; a number for rank 0.
---@param t lucid.Tensor
---@return number|table
function methods.tolist(t)
  local values = elements(t)
  local shape, at = methods.shape(t), 0
  local function build(depth)
    if depth > #shape then
      at = at + 1
      return values[at - 1]
    end
    local list = {}
    for i = 1, shape[depth] do list[i] = build(depth + 1) end
    return list
  end
  return build(1)
end

--- The value of a tensor of one element.
---@param t lucid.Tensor
---@return number
function methods.item(t)
  if methods.count(t) ~= 1 then
    error(("item: the tensor has %d elements; one is expected"):format(methods.count(t)), 2)
  end
  local values = elements(t)
  return values[0]
end

-- ---- what takes lists, and defaults -------------------------------------------------------------------

--- The same elements under another shape; one size may be -1.
---@param t lucid.Tensor
---@param ... any
---@return lucid.Tensor
function methods.view(t, ...)
  local shape = type(...) == "table" and ... or { ... }
  local n, sizes = dims(shape, "view")
  return native.adopt(C.lc_view(t, n, sizes))
end

-- A place of a dim from 1, of one that may be counted from the end.
local function place(i, at, size)
  if type(at) ~= "number" then native.bad_argument("slice", i, at, "a number") end
  if at % 1 ~= 0 then native.raise(("slice: argument %d is %s, not a whole number"):format(i, at)) end
  return at < 0 and size + 1 + at or at
end

--- Places first to last (inclusive, from 1; -1 is the last) of a dim: a view.
---@param t lucid.Tensor
---@param dim integer
---@param first integer
---@param last integer
---@return lucid.Tensor
function methods.slice(t, dim, first, last)
  local size = methods.size(t, dim)
  first, last = place(3, first, size), place(4, last or first, size)
  return native.adopt(C.lc_slice(t, native.dim("slice", 2, dim), first - 1, last - first + 1))
end

--- The sum of everything, or over one dim.
---@param t lucid.Tensor
---@param dim integer
---@return lucid.Tensor
function methods.sum(t, dim) return dim and native.ops.sum_dim(t, dim) or native.ops.sum(t) end
--- The mean of everything, or over one dim.
---@param t lucid.Tensor
---@param dim integer|nil
---@return lucid.Tensor
function methods.mean(t, dim) return dim and native.ops.mean_dim(t, dim) or native.ops.mean(t) end
--- The transpose of a matrix.
---@param t lucid.Tensor
---@return lucid.Tensor
function methods.t(t) return native.ops.transpose(t, -2, -1) end

--- Another dtype or device: t:to("bf16"), t:to("cpu").
---@param t lucid.Tensor
---@param where string
---@return lucid.Tensor
function methods.to(t, where)
  if where == "cpu" or where == "auto" or tostring(where):match("^cuda") then
    return native.adopt(C.lc_to(t, native.device(where)))
  end
  return native.adopt(C.lc_cast(t, native.dtype(where)))
end

--- The values that a quantised copy gives back: "q8_0", "nf4" or "fp4", in a dtype; not recorded.
---@param t lucid.Tensor
---@param kind string
---@param dtype string|nil     default: f32
---@return lucid.Tensor
function methods.quantise(t, kind, dtype)
  return native.adopt(C.lc_quantise(t, native.quant(kind), native.dtype(dtype or "f32")))
end

--- A weight [N, K] packed as "q8_0", "nf4" or "fp4": 1.06 or 0.53 bytes an element. Linear layers multiply by it,
--- expand gives its values back, and nothing else takes it.
---@param t lucid.Tensor
---@param kind string
---@return lucid.Tensor
function methods.pack(t, kind) return native.adopt(C.lc_pack_weight(t, native.quant(kind))) end

--- The values of a packed weight.
---@param t lucid.Tensor
---@param dtype string|nil     default: f32
---@return lucid.Tensor
function methods.expand(t, dtype) return native.adopt(C.lc_expand(t, native.dtype(dtype or "f32"))) end

--- Whether it is a packed weight.
---@param t lucid.Tensor
---@return boolean
function methods.packed(t) return C.lc_tensor_dtype(t) >= C.LC_PACKED_Q8_0 end

--- Bytes that its elements take.
---@param t lucid.Tensor
---@return integer
function methods.bytes(t) return tonumber(C.lc_tensor_bytes(t)) end

--- Rows by number, from 1; they may repeat.
---@param t lucid.Tensor
---@param list number[]
---@return lucid.Tensor
function methods.rows(t, list)
  if type(list) ~= "table" then native.bad_argument("rows", 2, list, "a list of row numbers") end
  local index, size = {}, methods.size(t, 1)
  for i = 1, #list do
    local row = list[i]
    if type(row) ~= "number" or row % 1 ~= 0 or row < 1 or row > size then
      native.raise(("rows: index %d is %s, but it must be a whole number from 1 to %d"):format(i, tostring(row), size))
    end
    index[i] = list[i] - 1
  end
  return native.adopt(C.lc_rows(t, M.tensor(index, { dtype = "i32" })))
end

--- The elements of a list in ascending order, NaN last; equal ones keep theirs.
---@param t lucid.Tensor
---@return lucid.Tensor
function methods.sort(t)
  if methods.dim(t) ~= 1 then
    error(("sort: the tensor has %d dims; one is expected"):format(methods.dim(t)), 2)
  end
  local values, n = elements(t)
  local order = {}
  for i = 1, n do order[i] = i end
  local function rank(i)
    local v = values[i - 1]
    return v == v and v or math.huge
  end
  table.sort(order, function(i, j)
    local a, b = rank(i), rank(j)
    return a < b or (a == b and i < j)
  end)
  return methods.rows(t, order)
end

--- Storage that outlives every scope.
---@param t lucid.Tensor
---@return lucid.Tensor
function methods.keep(t)
  if C.lc_tensor_keep(t) < 0 then native.fail() end
  return t
end

--- Values of another tensor of the same shape, in place; not recorded.
---@param t lucid.Tensor
---@param source lucid.Tensor
---@return lucid.Tensor
function methods.copy(t, source)
  if not native.is_tensor(source) then native.bad_argument("copy", 2, source, "a tensor") end
  if C.lc_tensor_copy(t, source) < 0 then native.fail() end
  return t
end

--- Marks a leaf whose gradient backward is to compute.
---@param t lucid.Tensor
---@param on boolean|nil
---@return lucid.Tensor
function methods.requires_grad(t, on)
  if C.lc_tensor_requires_grad(t, on == false and 0 or 1) < 0 then native.fail() end
  return t
end

--- Gradients of everything that made this, by the chain rule; of one element, or given its gradient.
---@param t lucid.Tensor
---@param gradient lucid.Tensor|nil
function methods.backward(t, gradient)
  if gradient ~= nil and not native.is_tensor(gradient) then native.bad_argument("backward", 2, gradient, "a tensor") end
  local done
  if gradient then done = C.lc_backward_from(t, gradient) else done = C.lc_backward(t) end
  if done < 0 then native.fail() end
end

--- Drops its gradient.
---@param t lucid.Tensor
function methods.zero_grad(t) C.lc_tensor_zero_grad(t) end

-- ---- operators ---------------------------------------------------------------------------------------------

-- Operators are not compiled: LuaJIT of Debian 12 (2.1 of March 2022) crashes now and then as it records one of an
-- FFI type that is a Lua function (tests/spec/native_spec.lua has a loop that did so nearly every time).
local function interpreted(f)
  jit.off(f)
  return f
end

local function with_number(op, number_second, number_first)
  return interpreted(function(a, b)
    if type(b) == "number" then return number_second(a, b) end
    if type(a) == "number" then return number_first(b, a) end
    if not native.is_tensor(a) then native.bad_argument(op, 1, a, "a tensor or a number") end
    if not native.is_tensor(b) then native.bad_argument(op, 2, b, "a tensor or a number") end
    local r = native.ops[op](a, b)
    return r
  end)
end

local ops = native.ops
--- The sum with a tensor or a number, t + x; shapes broadcast as in PyTorch.
methods.add = with_number("add", function(t, x) return ops.shift(t, x) end,
  function(t, x) return ops.shift(t, x) end)
--- The difference, t - x.
methods.sub = with_number("sub", function(t, x) return ops.shift(t, -x) end,
  function(t, x) return ops.shift(ops.scale(t, -1), x) end)
--- The product element by element, t * x.
methods.mul = with_number("mul", function(t, x) return ops.scale(t, x) end,
  function(t, x) return ops.scale(t, x) end)
--- The quotient element by element, t / x.
methods.div = with_number("div", function(t, x) return ops.scale(t, 1 / x) end,
  function(t, x) return ops.scale(ops.pow(t, -1), x) end)

-- ---- the metatype ------------------------------------------------------------------------------------------------

M.methods = methods

local function index(t, key)
  if key == "grad" then return native.borrow(C.lc_tensor_grad(t)) end
  local method = methods[key] or native.ops[key]
  if method == nil then error(("a tensor has no method '%s'"):format(tostring(key)), 2) end
  return method
end

ffi.metatype(native.tensor_type, {
  __index = index,
  __newindex = function(t, key, value)
    if key ~= "grad" then error(("a tensor has no field '%s'"):format(tostring(key)), 2) end
    if value ~= nil and not native.is_tensor(value) then native.raise("grad: a tensor or nil is expected") end
    if value == nil then C.lc_tensor_zero_grad(t) elseif C.lc_tensor_set_grad(t, value) < 0 then native.fail() end
  end,
  __add = methods.add,
  __sub = methods.sub,
  __mul = methods.mul,
  __div = methods.div,
  __pow = interpreted(function(t, exponent)
    if not native.is_tensor(t) then native.bad_argument("pow", 1, t, "a tensor") end
    return ops.pow(t, exponent)
  end),
  __unm = interpreted(function(t) return ops.scale(t, -1) end),
  __tostring = function(t) return require("lucid.printing").text(t) end,
})

return setmetatable(M, { __call = function(_, ...) return M.tensor(...) end })
