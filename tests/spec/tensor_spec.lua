-- Tensors: values in and out in every dtype, rounding, views, copies between any two layouts.
local ffi = require("ffi")
local native = require("lucid.native")
local plain = require("tests.oracle.plain")
local check = require("tests.support.check")
local C = native.C
local adopt = native.adopt

local function counting(shape) return plain.array(shape, function(i) return i end) end

local function refused(pattern, status)
  assert.equal(-1, status)
  local message = ffi.string(C.lc_error())
  assert.truthy(message:find(pattern, 1, true), message)
end

local function full(value, dtype)
  return check.read(adopt(C.lc_tensor_full(1, check.dims { 3 }, dtype, C.LC_HOST, value)))[1]
end

describe("a tensor", function()
  it("gives back what was written, in every dtype and rank", function()
    for _, dtype in ipairs { "f32", "bf16", "f16", "i32" } do
      for _, shape in ipairs { {}, { 0 }, { 7 }, { 3, 0, 2 }, { 2, 3, 2, 1, 2 } } do
        local a = counting(shape)
        assert.same(a, check.read(check.tensor(a, dtype)), dtype)
      end
    end
  end)

  it("rounds to the nearest, ties to even", function()
    local cases = { -- value, bf16, f16
      { 1 + 2 ^ -8, 1, 1 + 2 ^ -8 }, { 1 + 3 * 2 ^ -8, 1 + 2 ^ -6, 1 + 3 * 2 ^ -8 },
      { 1 + 2 ^ -11, 1, 1 }, { 1 + 3 * 2 ^ -11, 1, 1 + 2 ^ -9 }, { 65519, 65536, 65504 },
      { 65520, 65536, math.huge }, { 2 ^ -24, 2 ^ -24, 2 ^ -24 }, { 2 ^ -25, 2 ^ -25, 0 },
      { 3 * 2 ^ -26, 3 * 2 ^ -26, 2 ^ -24 }, { -1 / 3, -0.333984375, -0.333251953125 },
      { math.huge, math.huge, math.huge }, { -math.huge, -math.huge, -math.huge },
    }
    for _, case in ipairs(cases) do
      local x = check.tensor({ shape = { 1 }, case[1] }, "f32")
      assert.equal(case[2], check.read(adopt(C.lc_cast(x, C.LC_BF16)))[1], case[1])
      assert.equal(case[3], check.read(adopt(C.lc_cast(x, C.LC_F16)))[1], case[1])
    end
    for _, dtype in ipairs { C.LC_BF16, C.LC_F16 } do
      local nan = check.tensor({ shape = { 1 }, 0 / 0 }, "f32")
      local cast = check.read(adopt(C.lc_cast(nan, dtype)))[1]
      assert.is_true(cast ~= cast)
    end
  end)

  it("saturates integers", function()
    assert.equal(-2147483648, full(-1e30, C.LC_I32))
    assert.equal(2147483648, full(1e30, C.LC_I32)) -- 2147483647 read as a float
    assert.equal(-2147483648, full(0 / 0, C.LC_I32))
    assert.equal(255, full(1000, C.LC_U8))
    assert.equal(0, full(-3, C.LC_U8))
  end)

  it("copies between any two layouts and dtypes", function()
    local shape = { 3, 4 }
    local function layouts(dtype, a)
      return {
        check.tensor(a, dtype),
        adopt(C.lc_transpose(check.tensor(plain.transpose(a, 1, 2), dtype), 0, 1)),
        adopt(C.lc_slice(check.tensor(plain.cat({ a, a }, 2), dtype), 1, 0, 4)),
      }
    end
    for _, from in ipairs { "f32", "bf16", "i32" } do
      for _, to in ipairs { "f32", "bf16", "f16" } do
        for i, src in ipairs(layouts(from, counting(shape))) do
          for j, dst in ipairs(layouts(to, plain.array(shape, function() return 0 end))) do
            check.done(C.lc_tensor_copy(dst, src))
            assert.same(counting(shape), check.read(dst), ("%s %d to %s %d"):format(from, i, to, j))
          end
        end
      end
    end
    local three, four = check.tensor(counting { 3 }, "f32"), check.tensor(counting { 4 }, "f32")
    refused("the source is f32 [4] but the destination is f32 [3]", C.lc_tensor_copy(three, four))
  end)

  it("shares its storage with its views", function()
    local x = check.tensor(counting { 2, 3 }, "f32")
    local view = adopt(C.lc_view(x, 1, check.dims { 6 }))
    local column = adopt(C.lc_slice(adopt(C.lc_transpose(x, 0, 1)), 0, 1, 1))
    check.done(C.lc_tensor_copy(column, check.tensor({ shape = { 1, 2 }, 20, 50 }, "f32")))
    assert.same({ 1, 20, 3, 4, 50, 6, shape = { 6 } }, check.read(view))
  end)

  it("refuses what has another size", function()
    local x = check.tensor(counting { 2, 3 }, "f32")
    refused("write: f32 [2, 3] does not have 5 elements",
      C.lc_tensor_write_f32(x, ffi.new("float[5]"), 5))
    refused("read: f32 [2, 3] does not have 20 bytes", C.lc_tensor_read(x, ffi.new("float[6]"), 20))
    refused("size: no such dim of f32 [2, 3]", tonumber(C.lc_tensor_size(x, 2)))
  end)
end)

describe("random numbers", function()
  it("are those of Philox4x32-10", function()
    -- known answers of the generator's authors: counter and key of zeros, and of ones
    local out = ffi.new("uint32_t[4]")
    C.lc_philox(0, 0, 0, out)
    assert.same({ 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
      { tonumber(out[0]), tonumber(out[1]), tonumber(out[2]), tonumber(out[3]) })
    local ones = 0xffffffffffffffffULL
    C.lc_philox(ones, ones, ones, out)
    assert.same({ 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
      { tonumber(out[0]), tonumber(out[1]), tonumber(out[2]), tonumber(out[3]) })
  end)

  it("are normal, or uniform on [0, 1)", function()
    local n = 100000
    local function moments(t)
      local mean, square, low, high = 0, 0, math.huge, -math.huge
      for _, x in ipairs(check.read(t)) do
        mean, square = mean + x / n, square + x * x / n
        low, high = math.min(low, x), math.max(high, x)
      end
      return mean, square - mean * mean, low, high
    end
    local dims = check.dims { n }
    local mean, variance = moments(adopt(C.lc_tensor_randn(1, dims, C.LC_F32, C.LC_HOST, 1, 2)))
    assert.near(0, mean, 0.012)
    assert.near(1, variance, 0.02)
    local low, high
    mean, variance, low, high = moments(adopt(C.lc_tensor_rand(1, dims, C.LC_F32, C.LC_HOST, 1, 2)))
    assert.near(0.5, mean, 0.004)
    assert.near(1 / 12, variance, 0.002)
    assert.is_true(low >= 0 and high < 1)
  end)

  it("depend on seed and stream alone, not on how many are drawn", function()
    local function draw(n, seed, stream)
      local dims = check.dims { n }
      return check.read(adopt(C.lc_tensor_randn(1, dims, C.LC_F32, C.LC_HOST, seed, stream)))
    end
    local a, b = draw(3, 1, 2), draw(5000, 1, 2)
    for i = 1, 3 do assert.equal(a[i], b[i]) end
    assert.not_equal(a[1], draw(3, 2, 2)[1])
    assert.not_equal(a[1], draw(3, 1, 3)[1])
  end)
end)

describe("a tensor's shape", function()
  local lucid = require "lucid"

  it("is one list; sizes one by one are refused with how to write them", function()
    for _, op in ipairs { "zeros", "ones", "empty", "rand", "randn" } do
      local ok, message = pcall(lucid[op], 3, 4)
      assert.is_false(ok)
      assert.truthy(message:find(op .. ": sizes and values are one list, as in {3, 4}", 1, true), message)
    end
    assert.same({ 3 }, lucid.zeros(3):shape())
  end)
end)

describe("a tensor's print", function()
  local lucid = require "lucid"

  it("shows values, dtype, shape and device", function()
    assert.equal("[ 1., -2.]  f32 [2] cpu", tostring(lucid.tensor { 1, -2 }))
    assert.equal("[[0.5000, 1.0000],\n [2.0000, 3.0000]]  f32 [2, 2] cpu", tostring(lucid.tensor { { 0.5, 1 }, { 2, 3 } }))
    assert.equal("3.  bf16 [] cpu", tostring(lucid.full({}, 3, { dtype = "bf16" })))
    assert.equal("[]  f32 [3, 0] cpu", tostring(lucid.zeros { 3, 0 }))
    assert.equal("[7, 7]  u8 [2] cpu", tostring(lucid.full({ 2 }, 7, { dtype = "u8" })))
    assert.equal("[1.]  f32 [1] cpu grad", tostring(lucid.ones({ 1 }):requires_grad()))
    local gone
    lucid.scope(function() gone = lucid.ones { 2 } end)
    assert.equal("f32 [2] cpu released", tostring(gone))
  end)

  it("go on below the beginning of a long row", function()
    local text = tostring(lucid.full({ 2, 60 }, 7, { dtype = "i32" }))
    local lines = {}
    for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal(4, #lines)
    assert.same({ 33, 27, 33, 27 }, { select(2, lines[1]:gsub("7", "")), select(2, lines[2]:gsub("7", "")),
      select(2, lines[3]:gsub("7", "")), select(2, lines[4]:match("^[^%]]*"):gsub("7", "")) })
    assert.truthy(lines[2]:find("^  7, 7") and lines[3]:find("^ %[7, 7"), text)
    for i = 1, 3 do assert.is_true(#lines[i] <= 101, lines[i]) end
  end)

  it("sums up what cannot be seen at a glance", function()
    local values = {}
    for i = 1, 12 do values[i] = i end
    assert.truthy(tostring(lucid.tensor(values)):find("cpu  min 1  max 12  mean 6.5$"))
    assert.equal("[ 1., nan, inf]  f32 [3] cpu  1 NaN  1 infinite", tostring(lucid.tensor { 1, 0 / 0, 1 / 0 }))
    -- of a view, and of a large one its edges: nothing of the middle is read but for the summary
    local large = lucid.zeros { 2000, 3 }
    large:slice(1, 1000, 1000):copy(lucid.full({ 1, 3 }, -6))
    assert.equal("[0., 0., 0., ..., 0., 0., 0.]  f32 [2000] cpu  min 0  max 0  mean 0", tostring(lucid.zeros { 2000 }))
    assert.truthy(tostring(large:transpose(1, 2)):find("f32 [3, 2000] cpu  min -6  max 0  mean -0.003", 1, true))
    assert.truthy(tostring(lucid.full({ 11 }, 0 / 0)):find("cpu  11 NaN$"))
  end)
end)
