-- The likeliest token of a step: the first of the greatest logits, wherever it stands; NaN is never greater.
local ffi = require "ffi"
local lucid = require "lucid"
local models = require "lucid.bench.models"
local native = require "lucid.native"
local arrays = require "tests.oracle.arrays"
local C = native.C

local WORDS, NAN = 76, 0 / 0
local SIZES = { vision = { width = 32, mlp = 64, layers = 1, heads = 2, size = 28, patch = 14 },
  language = { width = 32, mlp = 48, layers = 1, heads = 2, words = WORDS, positions = 64 } }

describe("the likeliest token", function()
  local m = models.new(SIZES, { dtype = "f32", seed = 3 })
  local head
  for _, p in ipairs(m:all_parameters()) do head = p.name:find("lm_head", 1, true) and p.tensor or head end

  -- What a step takes where word i's logit is x[i] times one number.
  local function taken(x, sign)
    local rows = {}
    for i = 1, WORDS do
      rows[i] = {}
      for k = 1, SIZES.language.width do rows[i][k] = x[i] * (k == 1 and sign or 0) end
    end
    lucid.no_grad(function() head:copy(lucid.tensor(rows)) end)
    local batch = m:batch(lucid.forest.of { { ids = { 1, 5, 9 }, score_from = 4 } })
    local g = ffi.gc(native.check(C.lc_generator_new(m.handle, batch, 4, 0)), C.lc_generator_free)
    local token = ffi.new("int32_t[1]")
    native.check(C.lc_generator_step(g, token, nil))
    return token[0] + 1
  end

  local function numbers(of)
    local x = {}
    for i = 1, WORDS do x[i] = of(i) end
    return x
  end

  -- That number is above 0 with one of the signs.
  local sign = taken(numbers(function(i) return i == 2 and 1 or 0 end), 1) == 2 and 1 or -1

  it("is found in every place", function()
    for place = 1, WORDS do
      assert.equal(place, taken(numbers(function(i) return i == place and -1 or -2 end), sign))
    end
  end)

  it("is the first of equals, and NaN only where it is first", function()
    assert.equal(1, taken(numbers(function() return 0 end), sign))
    local random = arrays.random(4)
    for _ = 1, 60 do
      local x = numbers(function() return ({ -3, -2, -1, 1, 2, NAN })[random(1, 6)] end)
      local best = 1
      for i = 2, WORDS do best = x[i] > x[best] and i or best end
      assert.equal(best, taken(x, sign))
    end
  end)
end)
