-- lucid.gradcheck(f, inputs): backward against central differences along random directions.
local ffi = require "ffi"
local native = require "lucid.native"
local C = native.C

local DIRECTIONS = 3
local STEP = 5e-3      -- near the cube root of f32's precision: rounding and curvature err alike
local RELATIVE = 2e-2  -- of the larger of the two slopes
local ABSOLUTE = 2e-3  -- of the size of the output, for slopes near 0

local function must(status)
  if status ~= 0 then error(ffi.string(C.lc_error()), 0) end
end

local function read(t)
  local n = tonumber(C.lc_tensor_count(t))
  local values = ffi.new("float[?]", math.max(n, 1))
  must(C.lc_tensor_read_f32(t, values, n))
  return values, n
end

-- A number in [-1, 1], the same in every run.
local function random(stream, i) return 2 * C.lc_uniform(20240229, stream, i) - 1 end

-- sum of y times fixed weights, in doubles; and the size of its terms
local function weigh(y)
  local values, n = read(y)
  local sum, size = 0, 0
  for i = 0, n - 1 do
    local term = values[i] * random(0, i)
    sum, size = sum + term, size + math.abs(term)
  end
  return sum, size
end

-- The output's gradient: the same weights.
local function weights(y)
  local n = tonumber(C.lc_tensor_count(y))
  local shape = ffi.new("int64_t[5]")
  for i = 0, C.lc_tensor_ndim(y) - 1 do shape[i] = C.lc_tensor_size(y, i) end
  local dy = native.adopt(C.lc_tensor_new(C.lc_tensor_ndim(y), shape, C.LC_F32, C.LC_HOST))
  local values = ffi.new("float[?]", math.max(n, 1))
  for i = 0, n - 1 do values[i] = random(0, i) end
  must(C.lc_tensor_write_f32(dy, values, n))
  return dy
end

-- The slope of the weighted output along one direction, by central differences; and its size.
local function difference(f, inputs, k, direction)
  local x, n = read(inputs[k])
  local moved = ffi.new("float[?]", math.max(n, 1))
  local function output(sign)
    for i = 0, n - 1 do moved[i] = x[i] + sign * STEP * direction[i] end
    must(C.lc_tensor_write_f32(inputs[k], moved, n))
    return native.no_grad(function() return weigh(f(unpack(inputs))) end)
  end
  local ok, above, size = pcall(output, 1)
  local below
  if ok then ok, below = pcall(output, -1) end
  must(C.lc_tensor_write_f32(inputs[k], x, n))
  if not ok then error(below or above, 0) end
  return (above - below) / (2 * STEP), size
end

local function check_input(f, inputs, k)
  local grad = native.borrow(C.lc_tensor_grad(inputs[k]))
  if grad == nil then error(("gradcheck: no gradient reached input %d"):format(k), 0) end
  local slope, n = read(grad)
  for d = 1, DIRECTIONS do
    local direction, analytic = ffi.new("double[?]", math.max(n, 1)), 0
    for i = 0, n - 1 do
      direction[i] = random(k * DIRECTIONS + d, i)
      analytic = analytic + direction[i] * slope[i]
    end
    local numeric, size = difference(f, inputs, k, direction)
    local allowed = RELATIVE * math.max(math.abs(numeric), math.abs(analytic)) + ABSOLUTE * size
    local agree = math.abs(numeric - analytic) <= allowed -- false for NaN too
    if not agree then
      error(("gradcheck: input %d: backward gives a slope of %.6g, differences give %.6g")
        :format(k, analytic, numeric), 0)
    end
  end
end

--- Checks the gradients of f(unpack(inputs)), a tensor, against central differences in f32.
--- Raises with the input's number and both slopes when they differ. Clears the inputs' gradients.
---@param f function from tensors to a tensor, without randomness
---@param inputs table f32 leaves of rank 0 and more
---@return boolean true
return function(f, inputs)
  if type(inputs) ~= "table" then native.bad_argument("gradcheck", 2, inputs, "a list of tensors") end
  for k, x in ipairs(inputs) do
    if not native.is_tensor(x) then native.raise(("gradcheck: input %d is no tensor"):format(k)) end
    if C.lc_tensor_dtype(x) ~= C.LC_F32 then
      error(("gradcheck: input %d is not f32"):format(k), 2)
    end
    must(C.lc_tensor_requires_grad(x, 1))
    C.lc_tensor_zero_grad(x)
  end
  local ok, message = pcall(function()
    local y = f(unpack(inputs))
    must(C.lc_backward_from(y, weights(y)))
    for k in ipairs(inputs) do check_input(f, inputs, k) end
  end)
  for _, x in ipairs(inputs) do C.lc_tensor_zero_grad(x) end
  if not ok then error(message, 2) end
  return true
end
