-- Ops on the host (tests/support/op_table.lua), and what is not a row of that table.
local native = require("lucid.native")
local gradcheck = require("lucid.gradcheck")
local plain = require("tests.oracle.plain")
local check = require("tests.support.check")
local op_table = require("tests.support.op_table")
local C = native.C

describe("op", function()
  for _, row in ipairs(op_table.rows) do
    it(row.name, function() op_table.check(row) end)
  end
end)

-- Largest error in units in the last place of the f32 result, over 40,000 numbers from low to high.
local function units_off(name, low, high)
  local n, f = 40000, plain.unary[name]
  local points = plain.array({ n }, function(i) return low + (high - low) * i / n end)
  local x = check.tensor(points, "f32")
  local inputs, got, worst = check.read(x), check.read(native.adopt(C["lc_" .. name](x))), 0
  for i = 1, n do
    local real = f(inputs[i])
    local _, exponent = math.frexp(real)
    worst = math.max(worst, math.abs(got[i] - real) / 2 ^ math.max(exponent - 24, -149))
  end
  return worst
end

describe("functions of one number", function()
  for _, case in ipairs {
    { "exp", -104, 88.7, 1.1 }, { "exp", -1, 1, 1.1 }, { "log", 1e-40, 1e-37, 1.1 },
    { "log", 0, 4, 1.1 }, { "log", 0, 3e38, 1.1 }, { "tanh", -12, 12, 2 }, { "tanh", -0.7, 0.7, 2 },
    { "sigmoid", -80, 30, 2.6 }, { "log_sigmoid", -100, 80, 2 },
  } do
    local name, low, high, most = unpack(case)
    local title = "%s is within %g units in the last place on [%g, %g]"
    it(title:format(name, most, low, high), function()
      local off = units_off(name, low, high)
      assert.is_true(off <= most, off .. " units")
    end)
  end
end)

it("token_log_squares is the log of the sum of squared probabilities", function()
  local function numbers(shape)
    return plain.array(shape, function(i) return 3 * C.lc_uniform(5, shape[1], i) - 1.5 end)
  end
  local hidden, head = numbers({ 4, 17 }), numbers({ 33, 17 })
  local places = plain.array({ 300 }, function(i) return i * 7 % 4 end)
  local y = native.adopt(C.lc_token_log_squares(check.tensor(hidden, "f32"), check.tensor(head, "f32"),
    check.tensor(places, "i32")))
  local want, got = plain.token_log_squares(hidden, head, places), check.read(y)
  for i = 1, 300 do assert.is_near(want[i], got[i], 2e-6) end
end)

it("operands of different dtypes give f32", function()
  local a, b = { shape = { 2 }, 1, 2 }, { shape = { 2 }, 2 ^ -12, 2 ^ -12 } -- lost in bf16
  local y = native.adopt(C.lc_add(check.tensor(a, "bf16"), check.tensor(b, "f32")))
  assert.equal(C.LC_F32, C.lc_tensor_dtype(y))
  assert.same({ 1 + 2 ^ -12, 2 + 2 ^ -12, shape = { 2 } }, check.read(y))
end)

describe("lucid.gradcheck", function()
  local function leaf(shape, stream)
    local dims = check.dims(shape)
    return native.adopt(C.lc_tensor_randn(#shape, dims, C.LC_F32, C.LC_HOST, 3, stream))
  end

  it("accepts what backward gets right", function()
    assert.is_true(gradcheck(function(x, w)
      return native.adopt(C.lc_gelu(C.lc_rms_norm(x, w, 1e-5)))
    end, { leaf({ 3, 17 }, 0), leaf({ 17 }, 1) }))
  end)

  it("names the input and both slopes when they differ", function()
    local ok, message = pcall(gradcheck, function(x, y) -- half of the path from x is cut
      return native.adopt(C.lc_mul(C.lc_add(x, C.lc_detach(x)), y))
    end, { leaf({ 9 }, 0), leaf({ 9 }, 1) })
    assert.is_false(ok)
    local named = message:match("input 1: backward gives a slope of [%-%d.e]+, differences give")
    assert.truthy(named, message)
  end)
end)
