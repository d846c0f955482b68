-- Forest attention: against a dense oracle, packed against unpacked, finite differences, bits.
local ffi = require("ffi")
local C = require("lucid.native").C
local oracle = require("tests.oracle.forest")
local arrays = require("tests.oracle.arrays")

local HEADS = { { 1, 1 }, { 2, 2 }, { 4, 2 }, { 3, 1 } } -- query heads, key heads

-- Random inputs for that many query and key rows.
local function inputs(random, rows, keys, heads, groups, d)
  return {
    rows = rows, keys = keys, heads = heads, groups = groups, d = d, scale = 1 / math.sqrt(d),
    q = arrays.uniform(random, rows * heads * d), k = arrays.uniform(random, keys * groups * d),
    v = arrays.uniform(random, keys * groups * d), dout = arrays.uniform(random, rows * heads * d),
  }
end

local function close(expected, got, tolerance, what)
  local distance = oracle.distance(got, expected)
  assert.is_true(distance <= tolerance, what .. ": " .. distance)
end

local NAMES = { "o", "dq", "dk", "dv" }

local function agree(x, forest, visible, tolerance, what, dtype)
  local got, expected = { arrays.attention(x, forest, dtype) }, { oracle.attention(x, visible) }
  for i, name in ipairs(NAMES) do close(expected[i], got[i], tolerance, name .. ", " .. what) end
end

-- n rows of a flat array from row first (from 1) on.
local function take(flat, first, n, width, to)
  to = to or {}
  for i = (first - 1) * width + 1, (first - 1 + n) * width do to[#to + 1] = flat[i] end
  return to
end

local function same_bits(a, b, what)
  assert.equal(#a, #b)
  for i = 1, #a do
    if a[i] ~= b[i] then
      error(("%s: element %d is %.9g and %.9g"):format(what, i, a[i], b[i]), 2)
    end
  end
end

describe("attention over a forest", function()
  it("agrees with the dense oracle, forward and backward, over odd head sizes", function()
    local seed = 0
    for _, d in ipairs({ 1, 3, 8, 17, 32, 64, 88, 128, 256 }) do
      for _, h in ipairs(HEADS) do
        seed = seed + 1
        local random = arrays.random(seed)
        local opt = { most = 6, longest = 14, bidirectional = 30 }
        local segments = arrays.random_forest(random, opt)
        local visible = oracle.visible(segments)
        local x = inputs(random, #visible, #visible, h[1], h[2], d)
        agree(x, arrays.forest(segments), visible, 2e-6,
          ("d %d, heads %d over %d, seed %d"):format(d, h[1], h[2], seed))
      end
    end
  end)

  it("agrees with the oracle where segments and paths are longer than a tile", function()
    local segments = { { length = 70, bidirectional = true }, { parent = 1, length = 131 },
      { parent = 2, length = 66 }, { parent = 2, length = 1 } }
    local visible = oracle.visible(segments)
    local x = inputs(arrays.random(5), #visible, #visible, 2, 1, 8)
    agree(x, arrays.forest(segments), visible, 2e-6, "long")
  end)

  it("agrees with the oracle in bf16 and f16", function()
    local segments = { { length = 20 }, { parent = 1, length = 9 }, { parent = 1, length = 12 } }
    local visible = oracle.visible(segments)
    for dtype, tolerance in pairs({ bf16 = 4e-3, f16 = 5e-4 }) do
      local x = inputs(arrays.random(9), #visible, #visible, 4, 2, 24)
      for _, name in ipairs({ "q", "k", "v", "dout" }) do -- as the dtype holds them
        x[name] = arrays.read(arrays.tensor({ #x[name] }, x[name], dtype))
      end
      agree(x, arrays.forest(segments), visible, tolerance, dtype, dtype)
    end
  end)

  it("keeps large scores finite", function()
    local segments = { { length = 90 } }
    local visible = oracle.visible(segments)
    local x = inputs(arrays.random(2), 90, 90, 1, 1, 8)
    x.scale = 300
    agree(x, arrays.forest(segments), visible, 2e-5, "scale 300")
  end)

  it("walks paths of 5,000 keys", function()
    local x = inputs(arrays.random(3), 4, 5000, 2, 1, 16)
    local forest = arrays.cross({ { length = 4, first = 0, count = 5000 } })
    local visible = {}
    for i = 1, 4 do
      visible[i] = {}
      for j = 1, 5000 do visible[i][j] = j end
    end
    agree(x, forest, visible, 5e-6, "5,000 keys")
  end)
end)

describe("packed and unpacked", function()
  -- The path of segments from the root to a leaf.
  local function path_of(segments, leaf)
    local path = {}
    while leaf do
      table.insert(path, 1, leaf)
      leaf = segments[leaf].parent
    end
    return path
  end

  local function leaves_of(segments)
    local inner, leaves = {}, {}
    for _, s in ipairs(segments) do inner[s.parent or 0] = true end
    for i in ipairs(segments) do
      if not inner[i] then leaves[#leaves + 1] = i end
    end
    return leaves
  end

  -- Adds a leaf's gradients, rows in the order of its path, to the packed rows they belong to.
  local function add_rows(sum, rows, flat, width)
    for i, row in ipairs(rows) do
      for c = 1, width do
        local to = (row - 1) * width + c
        sum[to] = (sum[to] or 0) + flat[(i - 1) * width + c]
      end
    end
  end

  -- A leaf's path alone: one flat causal sequence, or, where a segment is bidirectional, a chain.
  local function alone(segments, path)
    local chain, causal, total = {}, true, 0
    for i, s in ipairs(path) do
      chain[i] = { parent = i > 1 and i - 1 or nil, length = segments[s].length,
        bidirectional = segments[s].bidirectional }
      causal = causal and not segments[s].bidirectional
      total = total + segments[s].length
    end
    return arrays.forest(causal and { { length = total } } or chain)
  end

  local SIZES = { 8, 32, 64, 88, 128 }
  for seed = 1, 50 do
    local random = arrays.random(1000 + seed)
    local segments = arrays.random_forest(random, { most = 14, longest = 70 })
    if seed % 2 == 0 then -- a picture: the first segment of the first tree sees all of itself
      for _, s in ipairs(segments) do
        if not s.parent then
          s.bidirectional = true
          break
        end
      end
    end
    if seed % 3 == 0 then -- two equal leaves
      local last = segments[#segments]
      segments[#segments + 1] = { parent = last.parent, length = last.length, equal = #segments,
        bidirectional = last.bidirectional }
    end
    local h, d = HEADS[seed % 4 + 1], SIZES[seed % 5 + 1]
    local leaves = leaves_of(segments)
    it(("agree: seed %d, %d leaves, d %d, heads %d over %d"):format(seed, #leaves, d, h[1], h[2]),
      function()
        local packed, first = oracle.pack(segments)
        local x = inputs(random, #packed, #packed, h[1], h[2], d)
        local wide, narrow = x.heads * d, x.groups * d
        local equal, at = segments[#segments].equal, first[#segments]
        if equal then
          for _, part in ipairs({ { x.q, wide }, { x.k, narrow }, { x.v, narrow } }) do
            local copy = take(part[1], first[equal], segments[equal].length, part[2])
            for i = 1, #copy do part[1][(at - 1) * part[2] + i] = copy[i] end
          end
        end
        local o, dq, dk, dv = arrays.attention(x, arrays.forest(segments))
        local sum, mine, taken = { {}, {}, {}, {} }, {}, {}
        for _, leaf in ipairs(leaves) do
          local path = path_of(segments, leaf)
          local rows, one = {}, { heads = x.heads, groups = x.groups, d = d, scale = x.scale,
            q = {}, k = {}, v = {}, dout = {} }
          for _, s in ipairs(path) do
            for r = first[s], first[s] + segments[s].length - 1 do
              rows[#rows + 1] = r
              take(x.q, r, 1, wide, one.q)
              take(x.k, r, 1, narrow, one.k)
              take(x.v, r, 1, narrow, one.v)
              local from = #one.dout
              take(x.dout, r, 1, wide, one.dout)
              if taken[r] then -- a shared row's own gradient comes in once
                for c = from + 1, from + wide do one.dout[c] = 0 end
              end
              taken[r] = true
            end
          end
          one.rows, one.keys = #rows, #rows
          local results = { arrays.attention(one, alone(segments, path)) }
          for i, row in ipairs(rows) do
            take(results[1], i, 1, wide, sum[1])
            take(o, row, 1, wide, mine)
          end
          for i = 2, 4 do add_rows(sum[i], rows, results[i], i == 2 and wide or narrow) end
        end
        close(sum[1], mine, 1e-5, "o")
        for i, gradient in ipairs({ dq, dk, dv }) do
          close(sum[i + 1], gradient, 1e-5, NAMES[i + 1])
        end
        if equal then
          local n = segments[equal].length
          same_bits(take(o, first[equal], n, wide), take(o, at, n, wide), "equal leaves")
        end
      end)
  end
end)

describe("finite differences", function()
  it("agree with the gradients along random directions", function()
    local random = arrays.random(77)
    local segments = { { length = 9, bidirectional = true }, { parent = 1, length = 12 },
      { parent = 2, length = 5 }, { parent = 2, length = 7 }, { length = 6 } }
    local forest, rows = arrays.forest(segments), 39
    local x = inputs(random, rows, rows, 4, 2, 16)
    local results = { arrays.attention(x, forest) }
    local function loss()
      local o = arrays.attention({ q = x.q, k = x.k, v = x.v, heads = 4, groups = 2, d = 16,
        scale = x.scale, rows = rows, keys = rows }, forest)
      local sum = 0
      for i = 1, #o do sum = sum + o[i] * x.dout[i] end
      return sum
    end
    for i, name in ipairs({ "q", "k", "v" }) do
      local values, direction = x[name], arrays.uniform(random, #x[name])
      local function at(step)
        x[name] = {}
        for j = 1, #values do x[name][j] = values[j] + step * direction[j] end
        local l = loss()
        x[name] = values
        return l
      end
      local expected, step = 0, 1e-2
      for j = 1, #values do expected = expected + results[i + 1][j] * direction[j] end
      local slope = (at(step) - at(-step)) / (2 * step)
      assert.is_true(math.abs(slope - expected) <= 1e-3 * math.max(1, math.abs(expected)),
        ("d%s: %g by differences, %g"):format(name, slope, expected))
    end
  end)
end)

describe("a row's bits", function()
  local HEAD = { heads = 4, groups = 2, d = 24 }
  -- Attention over one tree with its inputs, in the company of others; the tree's own results.
  local function in_company(tree, mine, others, before)
    local random = arrays.random(4242)
    local segments, first, rows = {}, 0, 0
    for i = 1, before do
      segments[#segments + 1] = others[i]
      first = first + others[i].length
    end
    local base = #segments
    for _, s in ipairs(tree) do
      segments[#segments + 1] = { parent = s.parent and s.parent + base, length = s.length,
        bidirectional = s.bidirectional }
    end
    for i = before + 1, #others do segments[#segments + 1] = others[i] end
    for _, s in ipairs(segments) do rows = rows + s.length end
    local x = inputs(random, rows, rows, HEAD.heads, HEAD.groups, HEAD.d)
    local wide, narrow = HEAD.heads * HEAD.d, HEAD.groups * HEAD.d
    for name, width in pairs({ q = wide, dout = wide, k = narrow, v = narrow }) do
      for i = 1, #mine[name] do x[name][first * width + i] = mine[name][i] end
    end
    local results = { arrays.attention(x, arrays.forest(segments)) }
    for i = 1, 4 do
      results[i] = take(results[i], first + 1, mine.rows, i < 3 and wide or narrow)
    end
    return results
  end

  local TREE = { { length = 40 }, { parent = 1, length = 30, bidirectional = true },
    { parent = 2, length = 5 }, { parent = 2, length = 70 }, { parent = 1, length = 0 } }
  local ROWS = 145

  local function check(others, before, reference, mine, what)
    local results = in_company(TREE, mine, others, before)
    for i, name in ipairs(NAMES) do same_bits(reference[i], results[i], name .. ", " .. what) end
  end

  it("are the same alone and with 1, 7 and 63 other trees, and at offsets 0 to 15", function()
    local random = arrays.random(11)
    local mine = inputs(random, ROWS, ROWS, HEAD.heads, HEAD.groups, HEAD.d)
    local reference = in_company(TREE, mine, {}, 0)
    for _, n in ipairs({ 1, 7, 63 }) do
      local others = {}
      for i = 1, n do others[i] = { length = random(1, 20) } end
      check(others, math.floor(n / 2), reference, mine, n .. " others")
    end
    for offset = 0, 15 do
      check({ { length = offset } }, 1, reference, mine, "offset " .. offset)
    end
  end)

  it("are the same with sibling leaves and without, and as one flat sequence", function()
    local random = arrays.random(12)
    local x = inputs(random, 100, 100, HEAD.heads, HEAD.groups, HEAD.d)
    local wide = HEAD.heads * HEAD.d
    x.dout = nil
    local alone = arrays.attention(x, arrays.forest({ { length = 100 } }))
    local two = arrays.forest({ { length = 37 }, { parent = 1, length = 63 } })
    local split = arrays.attention(x, two)
    same_bits(alone, split, "split")
    for _, siblings in ipairs({ 1, 7, 63 }) do
      local y, segments = {}, { { length = 37 }, { parent = 1, length = 63 } }
      for name, value in pairs(x) do y[name] = value end
      for i = 1, siblings do segments[i + 2] = { parent = 1, length = i % 5 } end
      y.rows = #oracle.pack(segments)
      y.keys = y.rows
      for name, heads in pairs({ q = HEAD.heads, k = HEAD.groups, v = HEAD.groups }) do
        y[name] = take(x[name], 1, 100, heads * HEAD.d)
        for _, value in ipairs(arrays.uniform(random, (y.rows - 100) * heads * HEAD.d)) do
          table.insert(y[name], value)
        end
      end
      local o = arrays.attention(y, arrays.forest(segments))
      same_bits(alone, take(o, 1, 100, wide), siblings .. " siblings")
    end
  end)

  it("are the same row by row, as in decoding, and all together", function()
    for i, d in ipairs({ 1, 7, 16, 24, 88, 128, 200 }) do
      for j, h in ipairs(HEADS) do
        local dtype = ({ "f32", "bf16", "f16" })[(i + j) % 3 + 1]
        local keys, apart, random = 37 * i + j, 5, arrays.random(100 * i + j)
        local x = inputs(random, 70, keys + apart, h[1], h[2], d)
        x.dout = nil
        local wide = h[1] * d
        local together = arrays.attention(x, arrays.cross({ { length = 70, first = apart, count = keys } }), dtype)
        for rows = 1, 4 do
          local y = setmetatable({ rows = rows, q = take(x.q, 11, rows, wide) }, { __index = x })
          local few = arrays.attention(y, arrays.cross({ { length = rows, first = apart, count = keys } }), dtype)
          same_bits(take(together, 11, rows, wide), few, ("%d rows, d %d, %d heads, %s"):format(rows, d, h[1], dtype))
        end
      end
    end
  end)

  it("are the same in a small causal tree alone and beside long ones", function()
    local tree = { { length = 2 }, { parent = 1, length = 1 }, { parent = 1, length = 2 } }
    local mine = inputs(arrays.random(13), 5, 5, HEAD.heads, HEAD.groups, HEAD.d)
    local alone = in_company(tree, mine, {}, 0)
    local among = in_company(tree, mine, { { length = 90 }, { length = 3 } }, 1)
    for i, name in ipairs(NAMES) do same_bits(alone[i], among[i], name) end
  end)

  it("are the same with 1 and with 2 threads", function()
    local segments = arrays.random_forest(arrays.random(21), { most = 12, longest = 60 })
    local rows = #oracle.pack(segments)
    local x = inputs(arrays.random(22), rows, rows, 4, 2, 40)
    local forest, before = arrays.forest(segments), C.lc_threads_used()
    C.lc_threads(1)
    local one = { arrays.attention(x, forest) }
    C.lc_threads(2)
    local two = { arrays.attention(x, forest) }
    C.lc_threads(before)
    for i, name in ipairs(NAMES) do same_bits(one[i], two[i], name) end
  end)

  it("are the same with 1 and with 2 threads where many segments see the same keys", function()
    local segments = {}
    for i = 1, 24 do segments[i] = { length = 64, first = i, count = 120 } end
    local x = inputs(arrays.random(23), 24 * 64, 150, 1, 1, 64)
    local forest, before = arrays.cross(segments), C.lc_threads_used()
    C.lc_threads(1)
    local one = { arrays.attention(x, forest) }
    C.lc_threads(2)
    for _ = 1, 5 do
      local two = { arrays.attention(x, forest) }
      for i, name in ipairs(NAMES) do same_bits(one[i], two[i], name) end
    end
    C.lc_threads(before)
  end)
end)

describe("cross-attention", function()
  it("agrees with the oracle where key ranges are apart, overlap, are empty or unseen", function()
    local random = arrays.random(31)
    local segments = {
      { length = 5, first = 20, count = 9 }, { length = 70, first = 0, count = 11 },
      { length = 3, first = 8, count = 80 }, { length = 2, first = 4, count = 0 },
      { length = 0, first = 0, count = 5 },
    }
    local visible = {}
    for _, s in ipairs(segments) do
      for _ = 1, s.length do
        local keys = {}
        for j = 1, s.count do keys[j] = s.first + j end
        visible[#visible + 1] = keys
      end
    end
    local x = inputs(random, 80, 95, 4, 2, 24) -- keys 89 to 95 are seen by none
    agree(x, arrays.cross(segments), visible, 2e-6, "cross")
    local o, dq, dk, dv = arrays.attention(x, arrays.cross(segments))
    for i = 78 * 96 + 1, 80 * 96 do assert.is_true(o[i] == 0 and dq[i] == 0) end
    for i = 88 * 48 + 1, 95 * 48 do assert.is_true(dk[i] == 0 and dv[i] == 0) end
  end)
end)

describe("attention's operands", function()
  it("may be slices of one packed projection, and gradients flow back into it", function()
    local rows, heads, groups, d = 30, 4, 2, 16
    local random = arrays.random(51)
    local x = inputs(random, rows, rows, heads, groups, d)
    local width, packed = heads + 2 * groups, {}
    for i = 1, rows do
      take(x.q, i, 1, heads * d, packed)
      take(x.k, i, 1, groups * d, packed)
      take(x.v, i, 1, groups * d, packed)
    end
    local forest = arrays.forest({ { length = 10 }, { parent = 1, length = 20 } })
    local o, dq, dk, dv = arrays.attention(x, forest)
    local qkv = arrays.tensor({ rows, width, d }, packed)
    C.lc_tensor_requires_grad(qkv, 1)
    local function part(first, count) return arrays.adopt(C.lc_slice(qkv, 1, first, count)) end
    local q, k, v = part(0, heads), part(heads, groups), part(heads + groups, groups)
    local y = arrays.adopt(C.lc_attention(q, k, v, forest, x.scale))
    same_bits(o, arrays.read(y), "o")
    assert(C.lc_backward_from(y, arrays.tensor({ rows, heads, d }, x.dout)) == 0)
    local grad, expected = arrays.grad(qkv), {}
    for i = 1, rows do
      take(dq, i, 1, heads * d, expected)
      take(dk, i, 1, groups * d, expected)
      take(dv, i, 1, groups * d, expected)
    end
    same_bits(expected, grad, "packed gradient")
  end)

  local function refused(pattern, q, k, v, forest)
    local function make(shape)
      local n = 1
      for _, size in ipairs(shape) do n = n * size end
      return arrays.tensor(shape, arrays.uniform(arrays.random(1), n), shape.dtype)
    end
    local o = C.lc_attention(make(q), make(k), make(v), forest, 1)
    assert.is_true(o == nil)
    local message = ffi.string(C.lc_error())
    assert.truthy(message:find(pattern, 1, true), message)
  end

  it("are refused by name where they do not fit", function()
    local f = arrays.forest({ { length = 6 } })
    refused("k and v alike", { 6, 2, 4 }, { 6, 2, 4 }, { 6, 1, 4 }, f)
    refused("[rows, heads, d] is needed", { 6, 8 }, { 6, 2, 4 }, { 6, 2, 4 }, f)
    refused("one float dtype", { 6, 2, 4 }, { 6, 2, 4, dtype = "bf16" }, { 6, 2, 4 }, f)
    refused("head sizes must agree", { 6, 2, 4 }, { 6, 2, 8 }, { 6, 2, 8 }, f)
    refused("head sizes must agree, 1 to 256", { 6, 1, 300 }, { 6, 1, 300 }, { 6, 1, 300 }, f)
    refused("3 query heads over 2 key heads", { 6, 3, 4 }, { 6, 2, 4 }, { 6, 2, 4 }, f)
    refused("but the forest has 6 rows that see 6 keys", { 5, 2, 4 }, { 5, 2, 4 }, { 5, 2, 4 }, f)
  end)

  it("fail in one piece when memory runs out", function()
    local forest = arrays.forest({ { length = 5 } })
    local q = arrays.tensor({ 5, 2, 4 }, arrays.uniform(arrays.random(1), 40))
    C.lc_tensor_requires_grad(q, 1)
    local failed, o = 0
    repeat
      C.lc_memory_fail_at(failed + 1)
      o = C.lc_attention(q, q, q, forest, 1)
      C.lc_memory_fail_at(0)
      if o == nil then
        failed = failed + 1
        assert.equal(C.LC_ENOMEM, C.lc_error_code())
        C.lc_tensor_adopt(nil)
      end
    until o ~= nil
    assert.is_true(failed > 4)
    arrays.adopt(o)
  end)

  it("may have no rows at all", function()
    local q = arrays.tensor({ 0, 2, 4 }, {})
    local o = arrays.adopt(C.lc_attention(q, q, q, arrays.forest({}), 1))
    assert.equal(0, tonumber(C.lc_tensor_count(o)))
  end)
end)
