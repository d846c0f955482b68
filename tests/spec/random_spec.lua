-- Random numbers: Philox against its published answers; streams, draws and endless draws.
local ffi = require "ffi"
local C = require("lucid.native").C
local cycle = require "lucid.cycle"
local rng = require "lucid.rng"

-- The words of Philox4x32-10 for a counter and a key, as eight digits each.
local function philox(counter, key)
  local function join(low, high) return ffi.new("uint64_t", high) * 2 ^ 32 + ffi.new("uint64_t", low) end
  local out, words = ffi.new "uint32_t[4]", {}
  C.lc_philox(join(key[1], key[2]), join(counter[3], counter[4]), join(counter[1], counter[2]), out)
  for i = 0, 3 do words[i + 1] = ("%08x"):format(tonumber(out[i])) end
  return table.concat(words, " ")
end

local function range(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

local function sorted(list)
  local copy = { unpack(list) }
  table.sort(copy)
  return copy
end

describe("Philox", function()
  it("gives the known answers of Random123", function()
    local all = 0xffffffff
    assert.equal("6627e8d5 e169c58d bc57ac4c 9b00dbd8", philox({ 0, 0, 0, 0 }, { 0, 0 }))
    assert.equal("408f276d 41c83b0e a20bc7c6 6d5451fd", philox({ all, all, all, all }, { all, all }))
    assert.equal("d16cfe09 94fdcceb 5001e420 24126ea1",
      philox({ 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 }))
  end)

  it("makes a uniform number of the first 53 bits", function()
    local out = ffi.new "uint32_t[4]"
    for index = 0, 20 do
      C.lc_philox(7, 3, index, out)
      local expected = (tonumber(out[0]) * 2 ^ 21 + math.floor(tonumber(out[1]) / 2 ^ 11)) / 2 ^ 53
      assert.equal(expected, C.lc_uniform(7, 3, index))
    end
  end)
end)

describe("a random stream", function()
  it("is a function of seed, stream and place", function()
    local a, b = rng(3, "one"), rng(3, "one")
    for _ = 1, 10 do assert.equal(a:uniform(), b:uniform()) end
    local first = rng(3, "one"):uniform()
    for _, other in ipairs { rng(4, "one"), rng(3, "two"), rng(3), rng(3, 1) } do
      assert.are_not.equal(first, other:uniform())
    end
    assert.equal(C.lc_uniform(5, 9, 1), (function() local r = rng(5, 9) r:uniform() return r:uniform() end)())
  end)

  it("names a stream by the first 13 digits of its SHA-256", function()
    -- sha256("abc") = ba7816bf8f01cfea...
    assert.equal(C.lc_uniform(1, 0xba7816bf8f01cULL, 0), rng(1, "abc"):uniform())
  end)

  it("is uniform", function()
    local r, n, sum, squares, faces = rng(11, "even"), 60000, 0, 0, {}
    for _ = 1, n do
      local x = r:uniform()
      assert.is_true(x >= 0 and x < 1)
      sum, squares = sum + x, squares + x * x
    end
    local mean = sum / n
    assert.is_true(math.abs(mean - 1 / 2) < 5 * math.sqrt(1 / 12 / n))
    assert.is_true(math.abs(squares / n - 1 / 3) < 5 * math.sqrt(4 / 45 / n))
    for _ = 1, n do
      local face = r:integer(6)
      faces[face] = (faces[face] or 0) + 1
    end
    assert.equal(6, #faces)
    for _, count in ipairs(faces) do assert.is_true(math.abs(count - n / 6) < 5 * math.sqrt(n * 5 / 36)) end
  end)

  it("shuffles in place, every order alike", function()
    local list, counts = range(50), {}
    assert.equal(list, rng(1):shuffle(list))
    assert.same(range(50), sorted(list))
    assert.are_not.same(range(50), list)
    local r, n = rng(2, "orders"), 12000
    for _ = 1, n do
      local key = table.concat(r:shuffle { "a", "b", "c" })
      counts[key] = (counts[key] or 0) + 1
    end
    local orders = 0
    for _, count in pairs(counts) do
      orders = orders + 1
      assert.is_true(math.abs(count - n / 6) < 5 * math.sqrt(n * 5 / 36))
    end
    assert.equal(6, orders)
    assert.same({}, rng(1):shuffle {})
  end)

  it("picks every element", function()
    local r, seen = rng(6), {}
    for _ = 1, 200 do seen[r:pick { "x", "y", "z" }] = true end
    assert.same({ x = true, y = true, z = true }, seen)
  end)
end)

describe("endless draws", function()
  it("give every element once a round, each round in another order", function()
    local draw, rounds = cycle(range(20), 5, "t"), {}
    for r = 1, 3 do
      rounds[r] = {}
      for i = 1, 20 do rounds[r][i] = draw() end
      assert.same(range(20), sorted(rounds[r]))
    end
    assert.are_not.same(rounds[1], rounds[2])
    assert.are_not.same(rounds[2], rounds[3])
  end)

  it("depend on seed and name alone, and leave the list as it is", function()
    local list = range(12)
    local function take(...)
      local draw, out = cycle(...), {}
      for i = 1, 30 do out[i] = draw() end
      return out
    end
    assert.same(take(list, 1, "a"), take(range(12), 1, "a"))
    assert.are_not.same(take(list, 1, "a"), take(list, 2, "a"))
    assert.are_not.same(take(list, 1, "a"), take(list, 1, "b"))
    assert.same(range(12), list)
  end)

  it("of one element repeat it", function()
    local draw = cycle({ "only" }, 1, "x")
    for _ = 1, 3 do assert.equal("only", draw()) end
  end)
end)
