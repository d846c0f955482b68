-- Forests: order, positions, errors, and which key each row sees.
local ffi = require("ffi")
local C = require("lucid.native").C
local oracle = require("tests.oracle.forest")
local arrays = require("tests.oracle.arrays")

local function positions(f)
  local t = arrays.adopt(C.lc_forest_positions(f, C.LC_HOST))
  return arrays.read(t)
end

local function refused(pattern, segments)
  local ok, message = pcall(arrays.forest, segments)
  assert.is_false(ok)
  assert.truthy(message:find(pattern, 1, true), message)
end

-- q = 0 and v = one row of the identity a key: each output row is 1/n at the n keys that it sees.
local function seen_rows(f, rows)
  local identity, zeros = {}, {}
  for i = 1, rows do
    for j = 1, rows do
      identity[(i - 1) * rows + j] = i == j and 1 or 0
      zeros[(i - 1) * rows + j] = 0
    end
  end
  local x = { q = zeros, k = zeros, v = identity, heads = 1, groups = 1, d = rows, scale = 1,
    rows = rows, keys = rows }
  return arrays.attention(x, f)
end

describe("a forest", function()
  it("packs 500 random forests in preorder and keeps the caller's numbers", function()
    for seed = 1, 500 do
      local segments = arrays.random_forest(arrays.random(seed), { longest = 9 })
      local rows, first = oracle.pack(segments)
      local f = arrays.forest(segments)
      assert.equal(#rows, tonumber(C.lc_forest_rows(f)), "rows, seed " .. seed)
      local place = positions(f)
      for i, row in ipairs(rows) do assert.equal(row.position, place[i], "seed " .. seed) end
      for i in ipairs(segments) do
        assert.equal(first[i] - 1, tonumber(C.lc_forest_first(f, i - 1)), "first, seed " .. seed)
        local above, parent = 0, segments[i].parent
        while parent do
          above = above + segments[parent].length
          parent = segments[parent].parent
        end
        assert.equal(above, tonumber(C.lc_forest_position(f, i - 1)), "position, seed " .. seed)
      end
    end
  end)

  it("lets a row see its ancestors and its own past alone, in 2,000 random forests", function()
    local wrong = 0
    for seed = 1, 2000 do
      local random = arrays.random(seed)
      local segments = arrays.random_forest(random, { longest = random(1, 12), bidirectional = 25 })
      local rows = oracle.pack(segments)
      if #rows > 0 and #rows <= 150 then
        local p = seen_rows(arrays.forest(segments), #rows)
        for i, keys in ipairs(oracle.visible(segments)) do
          local row, expected = (i - 1) * #rows, {}
          for _, j in ipairs(keys) do expected[j] = true end
          for j = 1, #rows do
            local value = expected[j] and 1 / #keys or 0
            if math.abs(p[row + j] - value) > 1e-6 then wrong = wrong + 1 end
          end
        end
        assert.equal(0, wrong, "seed " .. seed)
      end
    end
  end)

  it("cuts long segments into tiles without a seam", function()
    for _, length in ipairs({ 63, 64, 65, 127, 128, 129, 200 }) do
      local segments = { { length = length }, { parent = 1, length = 50 } }
      local n = length + 50
      local p = seen_rows(arrays.forest(segments), n)
      for i = 1, n do
        for j = 1, n do
          local expected = j <= i and 1 / i or 0
          assert.is_true(math.abs(p[(i - 1) * n + j] - expected) < 1e-6)
        end
      end
    end
  end)

  it("may be empty, and so may its segments", function()
    assert.equal(0, tonumber(C.lc_forest_rows(arrays.forest({}))))
    local f = arrays.forest({ { length = 0 }, { parent = 1, length = 0 } })
    assert.equal(0, tonumber(C.lc_forest_rows(f)))
    f = arrays.forest({ { length = 0 }, { parent = 1, length = 2 }, { parent = 2, length = 0 },
      { parent = 3, length = 3 } })
    assert.same({ 0, 1, 2, 3, 4 }, positions(f))
  end)

  it("may be a chain of 100,000 segments", function()
    local segments = {}
    for i = 1, 100000 do segments[i] = { parent = i > 1 and i - 1 or nil, length = 1 } end
    local f = arrays.forest(segments)
    assert.equal(99999, tonumber(C.lc_forest_position(f, 99999)))
  end)

  it("refuses cycles and parents that are not there", function()
    refused("segment 0 is its own ancestor", { { parent = 1, length = 1 } })
    refused("is its own ancestor", { { length = 1 }, { parent = 3, length = 1 },
      { parent = 4, length = 1 }, { parent = 2, length = 1 } })
    refused("segment 1 has parent 6, but there are 2 segments",
      { { length = 1 }, { parent = 7, length = 1 } })
    refused("segment 0 has parent -5", { { parent = -4, length = 1 } })
    refused("segment 1 has length -2", { { length = 1 }, { length = -2 } })
    refused("at most 2147483647", { { length = 2 ^ 31 - 1 }, { length = 1 } })
  end)

  it("gives back what it took when memory runs out, at whichever allocation", function()
    collectgarbage()
    collectgarbage()                          -- other specs' tensors must not be freed between two readings
    local segments = { { length = 3 }, { parent = 1, length = 0 }, { parent = 2, length = 2 } }
    local cross = { { length = 2, first = 5, count = 3 } }
    for _, make in ipairs({ function() return arrays.forest(segments) end,
      function() return arrays.cross(cross) end }) do
      local failed, before, ok, result = 0, C.lc_memory_used(), false, nil
      while not ok do
        C.lc_memory_fail_at(failed + 1)
        ok, result = pcall(make)
        C.lc_memory_fail_at(0)
        if not ok then
          failed = failed + 1
          assert.equal(C.LC_ENOMEM, C.lc_error_code())
          assert.is_true(C.lc_memory_used() == before)
        end
      end
      assert.is_true(failed > 5 and result ~= nil)
    end
  end)

  it("answers for its own segments only", function()
    local f = arrays.forest({ { length = 3 } })
    assert.equal(-1, tonumber(C.lc_forest_first(f, 1)))
    assert.truthy(ffi.string(C.lc_error()):find("no segment 1, the forest has 1", 1, true))
    assert.equal(-1, tonumber(C.lc_forest_position(f, -1)))
  end)
end)

describe("a cross forest", function()
  it("packs queries in the order given", function()
    local f = arrays.cross({ { length = 2, first = 5, count = 3 },
      { length = 4, first = 0, count = 2 } })
    assert.equal(6, tonumber(C.lc_forest_rows(f)))
    assert.equal(2, tonumber(C.lc_forest_first(f, 1)))
    assert.same({ 0, 1, 0, 1, 2, 3 }, positions(f))
  end)

  it("refuses key ranges that are none", function()
    local ok, message = pcall(arrays.cross, { { length = 2, first = -1, count = 3 } })
    assert.is_false(ok)
    assert.truthy(message:find("segment 0 sees 3 keys from row -1", 1, true), message)
  end)
end)
