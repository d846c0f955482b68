-- Matrix products and linear layers: against a plain triple loop, their gradients, their bits.
local ffi = require("ffi")
local C = require("lucid.native").C
local arrays = require("tests.oracle.arrays")
local tensor = require("lucid.tensor")

-- How far storage may be from exact: the roundings of f32 sums, then of the result's dtype.
local TOLERANCE = { f32 = 1e-6, bf16 = 4e-3, f16 = 5e-4 }
local DTYPES = { "f32", "bf16", "f16" }

local function distance(a, b)
  assert.equal(#b, #a)
  local difference, size = 0, 0
  for i = 1, #b do
    difference = difference + (a[i] - b[i]) ^ 2
    size = size + b[i] ^ 2
  end
  return size > 0 and math.sqrt(difference / size) or math.sqrt(difference)
end

local function agree(got, expected, tolerance, what)
  local d = distance(got, expected)
  assert(d <= tolerance, ("%s: %g apart, %g allowed"):format(what, d, tolerance))
end

-- The definition: [m, k] [k, n] -> [m, n], flat, in double.
local function product(a, b, m, n, k)
  local y = {}
  for i = 1, m do
    for j = 1, n do
      local sum = 0
      for s = 1, k do sum = sum + a[(i - 1) * k + s] * b[(s - 1) * n + j] end
      y[(i - 1) * n + j] = sum
    end
  end
  return y
end

local function transposed(a, rows, cols)
  local t = {}
  for i = 1, rows do
    for j = 1, cols do t[(j - 1) * rows + i] = a[(i - 1) * cols + j] end
  end
  return t
end

local function scaled(a, factor)
  local t = {}
  for i = 1, #a do t[i] = a[i] * factor end
  return t
end

local function plus(a, b)
  local t = {}
  for i = 1, #a do t[i] = a[i] + b[i] end
  return t
end

local function dot(a, b)
  local sum = 0
  for i = 1, #a do sum = sum + a[i] * b[i] end
  return sum
end

-- A [rows, cols] tensor of seeded numbers; crossed: a transposed view of a [cols, rows] one.
local function matrix(random, rows, cols, dtype, crossed)
  local flat = arrays.uniform(random, rows * cols)
  if not crossed then return arrays.tensor({ rows, cols }, flat, dtype) end
  return arrays.adopt(C.lc_transpose(arrays.tensor({ cols, rows }, flat, dtype), 0, 1))
end

-- Elements [first, first + count) of a flat array; first from 0.
local function part(a, first, count)
  local t = {}
  for i = 1, count do t[i] = a[first + i] end
  return t
end

local function leaf(t)
  assert(C.lc_tensor_requires_grad(t, 1) == 0)
  return t
end

local function rows_of(t, first, count)
  return arrays.adopt(C.lc_slice(t, 0, first, count))
end

-- Its storage as a string: equal strings, equal bits.
local function bits(t)
  local size = tonumber(C.lc_tensor_count(t)) * tonumber(C.lc_dtype_bytes(C.lc_tensor_dtype(t)))
  local buffer = ffi.new("char[?]", size + 1)
  assert(C.lc_tensor_read(t, buffer, size) == 0, "read")
  return ffi.string(buffer, size)
end

local function fails(pattern, t)
  assert.is_true(t == nil)
  local message = ffi.string(C.lc_error())
  assert(message:find(pattern, 1, true), message)
end

describe("matmul", function()
  for _, dtype in ipairs(DTYPES) do
    for _, views in ipairs({ "nn", "nt", "tn", "tt" }) do
      it("is the triple loop over odd shapes, " .. dtype .. " " .. views, function()
        local random = arrays.random(#views + #dtype)
        for _, m in ipairs({ 0, 1, 2, 3, 5, 31, 32, 33, 65 }) do
          for _, nk in ipairs({ { 1, 1 }, { 7, 13 }, { 8, 5 }, { 16, 0 }, { 24, 31 }, { 17, 300 },
            { 48, 64 }, { 33, 449 } }) do                 -- the last: three blocks of K in f32
            local n, k = nk[1], nk[2]
            local a = matrix(random, m, k, dtype, views:sub(1, 1) == "t")
            local b = matrix(random, k, n, dtype, views:sub(2, 2) == "t")
            local y = arrays.adopt(C.lc_matmul(a, b))
            assert.equal(C.lc_tensor_dtype(a), C.lc_tensor_dtype(y))
            agree(arrays.read(y), product(arrays.read(a), arrays.read(b), m, n, k),
              TOLERANCE[dtype], ("[%d, %d] [%d, %d]"):format(m, k, k, n))
          end
        end
      end)
    end
  end

  it("multiplies batches, also as views, also of many products", function()
    local random = arrays.random(3)
    for _, size in ipairs({ { 3, 5, 7, 9 }, { 40, 6, 33, 20 }, { 2, 70, 90, 130 } }) do
      local batch, m, n, k = size[1], size[2], size[3], size[4]
      local a = arrays.tensor({ batch, m, k }, arrays.uniform(random, batch * m * k))
      local flat = arrays.uniform(random, k * batch * n)
      local b = arrays.adopt(C.lc_transpose(arrays.tensor({ k, batch, n }, flat), 0, 1))
      local y, left, right = arrays.read(arrays.adopt(C.lc_matmul(a, b))), arrays.read(a),
        arrays.read(b)
      for i = 0, batch - 1 do
        local expected = product(part(left, i * m * k, m * k), part(right, i * k * n, k * n), m, n,
          k)
        agree(part(y, i * m * n, m * n), expected, 1e-6, "product " .. i)
      end
    end
  end)

  it("reads views with gaps, and copies what it cannot read", function()
    local random = arrays.random(4)
    local wide = matrix(random, 20, 50, "f32")
    local inner = arrays.adopt(C.lc_slice(wide, 1, 11, 30))       -- rows 50 apart
    local thin = arrays.adopt(C.lc_slice(inner, 1, 29, 1))        -- one column
    local b = matrix(random, 30, 9, "f32")
    agree(arrays.read(arrays.adopt(C.lc_matmul(inner, b))),
      product(arrays.read(inner), arrays.read(b), 20, 9, 30), 1e-6, "slice")
    local one = matrix(random, 1, 4, "f32")
    agree(arrays.read(arrays.adopt(C.lc_matmul(thin, one))),
      product(arrays.read(thin), arrays.read(one), 20, 4, 1), 1e-6, "column")
    local cube = arrays.tensor({ 4, 6, 5 }, arrays.uniform(random, 120))
    local turned = arrays.adopt(C.lc_transpose(cube, 0, 2))       -- [5, 6, 4], no row in one piece
    local c = arrays.tensor({ 5, 4, 3 }, arrays.uniform(random, 60))
    local y = arrays.read(arrays.adopt(C.lc_matmul(turned, c)))
    local left, right = arrays.read(turned), arrays.read(c)
    agree(part(y, 0, 18), product(part(left, 0, 24), part(right, 0, 12), 6, 3, 4), 1e-6, "turned")
  end)

  it("has the gradients dy b^T and a^T dy", function()
    local random = arrays.random(5)
    for _, crossed in ipairs({ false, true }) do
      local m, n, k = 33, 18, 21
      local a, b = leaf(matrix(random, m, k, "f32")), leaf(matrix(random, k, n, "f32"))
      local dy = matrix(random, m, n, "f32", crossed)
      local y = arrays.adopt(C.lc_matmul(a, b))
      assert.equal(0, C.lc_backward_from(y, dy))
      local A, B, D = arrays.read(a), arrays.read(b), arrays.read(dy)
      agree(arrays.grad(a), product(D, transposed(B, k, n), m, k, n), 1e-6, "da")
      agree(arrays.grad(b), product(transposed(A, m, k), D, k, n, m), 1e-6, "db")
    end
  end)

  it("has gradients for a batch and for views of a leaf", function()
    local random = arrays.random(6)
    local a = leaf(arrays.tensor({ 3, 4, 5 }, arrays.uniform(random, 60)))
    local b = leaf(arrays.tensor({ 3, 6, 5 }, arrays.uniform(random, 90)))
    local y = arrays.adopt(C.lc_matmul(a, arrays.adopt(C.lc_transpose(b, 1, 2))))
    local dy = arrays.tensor({ 3, 4, 6 }, arrays.uniform(random, 72))
    assert.equal(0, C.lc_backward_from(y, dy))
    local A, D, da, db = arrays.read(a), arrays.read(dy), arrays.grad(a), arrays.grad(b)
    local B = arrays.read(b)
    for i = 0, 2 do
      local d = part(D, i * 24, 24)
      agree(part(da, i * 20, 20), product(d, part(B, i * 30, 30), 4, 5, 6), 1e-6, "da")
      agree(part(db, i * 30, 30), product(transposed(d, 4, 6), part(A, i * 20, 20), 6, 5, 4), 1e-6,
        "db")
    end
  end)

  it("says what does not fit", function()
    local random = arrays.random(7)
    local a, b = matrix(random, 2, 3, "f32"), matrix(random, 4, 5, "f32")
    fails("matmul: inner dimensions differ: a is f32 [2, 3], b is f32 [4, 5]", C.lc_matmul(a, b))
    fails("matmul: a is f32 [2, 3] and b bf16 [3, 3]", C.lc_matmul(a, matrix(random, 3, 3, "bf16")))
    fails("both need 2 dims, or both 3", C.lc_matmul(a, arrays.tensor({ 3 }, { 1, 2, 3 })))
    fails("matmul: batches differ", C.lc_matmul(arrays.tensor({ 2, 1, 1 }, { 1, 2 }),
      arrays.tensor({ 3, 1, 1 }, { 1, 2, 3 })))
    C.lc_error_clear()
    assert.is_true(C.lc_matmul(nil, a) == nil)
    assert.equal("", ffi.string(C.lc_error()))
  end)

  it("gives way when there is no memory, and works again", function()
    local random = arrays.random(8)
    local a, b = matrix(random, 40, 600, "bf16"), matrix(random, 600, 40, "bf16")
    local failures = 0
    for n = 1, 20 do
      C.lc_memory_fail_at(n)
      local y = C.lc_matmul(a, b)
      C.lc_memory_fail_at(0)
      if y ~= nil then break end
      assert.equal(C.LC_ENOMEM, C.lc_error_code())
      failures = n
    end
    assert.is_true(failures >= 3)
    arrays.adopt(C.lc_matmul(a, b))
  end)
end)

describe("linear", function()
  it("multiplies rows of any rank by the weight's transpose", function()
    local random = arrays.random(11)
    for _, dtype in ipairs(DTYPES) do
      for _, shape in ipairs({ { 13 }, { 0, 13 }, { 31, 13 }, { 3, 5, 13 }, { 2, 1, 3, 13 } }) do
        local rows = 1
        for i = 1, #shape - 1 do rows = rows * shape[i] end
        local x = arrays.tensor(shape, arrays.uniform(random, rows * 13), dtype)
        local w = matrix(random, 21, 13, dtype)
        local bias = arrays.tensor({ 21 }, arrays.uniform(random, 21), dtype)
        local expected = product(arrays.read(x), transposed(arrays.read(w), 21, 13), rows, 21, 13)
        local y = arrays.adopt(C.lc_linear(x, w))
        assert.equal(#shape, C.lc_tensor_ndim(y))
        assert.equal(21, tonumber(C.lc_tensor_size(y, -1)))
        agree(arrays.read(y), expected, TOLERANCE[dtype], "linear")
        local shift = arrays.read(bias)
        for i = 1, #expected do expected[i] = expected[i] + shift[(i - 1) % 21 + 1] end
        agree(arrays.read(arrays.adopt(C.lc_linear_bias(x, w, bias))), expected, TOLERANCE[dtype],
          "linear_bias")
      end
    end
  end)

  it("takes a weight of another dtype and gives x's", function()
    local random = arrays.random(12)
    local x, w = matrix(random, 9, 40, "f32"), matrix(random, 24, 40, "bf16")
    local y = arrays.adopt(C.lc_linear(x, w))
    assert.equal(C.LC_F32, C.lc_tensor_dtype(y))
    agree(arrays.read(y), product(arrays.read(x), transposed(arrays.read(w), 24, 40), 9, 24, 40),
      1e-6, "mixed")
  end)

  it("has gradients for x, the weight and the bias, in f32 for leaves of any dtype", function()
    local random = arrays.random(13)
    for _, dtype in ipairs(DTYPES) do
      local m, n, k = 37, 20, 27
      local x, w = leaf(matrix(random, m, k, dtype)), leaf(matrix(random, n, k, dtype))
      local bias = leaf(arrays.tensor({ n }, arrays.uniform(random, n), dtype))
      local dy = matrix(random, m, n, dtype)
      local y = arrays.adopt(C.lc_linear_bias(x, w, bias))
      assert.equal(0, C.lc_backward_from(y, dy))
      local D = arrays.read(dy)
      agree(arrays.grad(x), product(D, arrays.read(w), m, k, n), 1e-6, "dx")
      agree(arrays.grad(w), product(transposed(D, m, n), arrays.read(x), n, k, m), 1e-6, "dw")
      local sums = {}
      for j = 1, n do
        sums[j] = 0
        for i = 0, m - 1 do sums[j] = sums[j] + D[i * n + j] end
      end
      agree(arrays.grad(bias), sums, 1e-6, "dbias")
    end
  end)

  it("computes nothing for frozen weights", function()
    local random = arrays.random(14)
    local x, w = leaf(matrix(random, 4, 6, "f32")), matrix(random, 5, 6, "f32")
    local y = arrays.adopt(C.lc_linear(x, w))
    assert.equal(0, C.lc_backward_from(y, matrix(random, 4, 5, "f32")))
    assert.is_true(C.lc_tensor_grad(w) == nil)
    assert.is_true(C.lc_tensor_grad(x) ~= nil)
    local plain = arrays.adopt(C.lc_linear(matrix(random, 4, 6, "f32"), w))
    assert.equal(0, C.lc_tensor_wants_grad(plain))
  end)

  it("says what does not fit", function()
    local random = arrays.random(15)
    local x, w = matrix(random, 2, 3, "f32"), matrix(random, 4, 5, "f32")
    fails("linear: x is f32 [2, 3] but weight is f32 [4, 5]", C.lc_linear(x, w))
    fails("linear_bias: weight is f32 [4, 3] but bias is f32 [3]",
      C.lc_linear_bias(x, matrix(random, 4, 3, "f32"), arrays.tensor({ 3 }, { 1, 2, 3 })))
    fails("linear_lora: weight f32 [4, 3] needs a f32 [r, 3] and b f32 [4, r]",
      C.lc_linear_lora(x, matrix(random, 4, 3, "f32"), matrix(random, 2, 3, "f32"),
        matrix(random, 4, 3, "f32"), 1))
  end)
end)

describe("linear_lora", function()
  local m, n, k, r, scale = 35, 22, 29, 4, 1.5

  local function layer(random, dtype)
    return { x = leaf(matrix(random, m, k, dtype)), w = leaf(matrix(random, n, k, dtype)),
      a = leaf(matrix(random, r, k, "f32")), b = leaf(matrix(random, n, r, "f32")) }
  end

  local function merged(l)
    local delta = product(arrays.read(l.b), arrays.read(l.a), n, k, r)
    return plus(arrays.read(l.w), scaled(delta, scale))
  end

  it("equals a layer with W + scale b a, forward and backward", function()
    local random = arrays.random(21)
    local l = layer(random, "f32")
    local dy = matrix(random, m, n, "f32")
    local y = arrays.adopt(C.lc_linear_lora(l.x, l.w, l.a, l.b, scale))
    local X, W, D = arrays.read(l.x), merged(l), arrays.read(dy)
    agree(arrays.read(y), product(X, transposed(W, n, k), m, n, k), 1e-6, "y")
    assert.equal(0, C.lc_backward_from(y, dy))
    local dW = product(transposed(D, m, n), X, n, k, m)
    agree(arrays.grad(l.x), product(D, W, m, k, n), 2e-6, "dx")
    agree(arrays.grad(l.w), dW, 1e-6, "dw")
    agree(arrays.grad(l.a),
      scaled(product(transposed(arrays.read(l.b), n, r), dW, r, k, n), scale), 2e-6, "da")
    agree(arrays.grad(l.b),
      scaled(product(dW, transposed(arrays.read(l.a), r, k), n, r, k), scale), 2e-6, "db")
  end)

  it("agrees with finite differences along random directions", function()
    local random = arrays.random(22)
    local l = layer(random, "f32")
    local dy = matrix(random, m, n, "f32")
    local D = arrays.read(dy)
    local y = arrays.adopt(C.lc_linear_lora(l.x, l.w, l.a, l.b, scale))
    assert.equal(0, C.lc_backward_from(y, dy))
    for name, t in pairs(l) do
      local at, along, h = arrays.read(t), arrays.uniform(random, #arrays.read(t)), 0.25
      local function loss(step)
        local moved = plus(at, scaled(along, step))
        assert(C.lc_tensor_write_f32(t, ffi.new("float[?]", #moved, moved), #moved) == 0)
        return dot(D, arrays.read(arrays.adopt(C.lc_linear_lora(l.x, l.w, l.a, l.b, scale))))
      end
      local difference = (loss(h) - loss(-h)) / (2 * h)
      assert(C.lc_tensor_write_f32(t, ffi.new("float[?]", #at, at), #at) == 0)
      local gradient = dot(arrays.grad(t), along)
      assert(math.abs(difference - gradient) <= 1e-4 * (1 + math.abs(gradient)),
        ("%s: %g, but the difference is %g"):format(name, gradient, difference))
    end
  end)

  it("works in x's dtype and keeps the adapter's gradients in f32", function()
    local random = arrays.random(23)
    for _, dtype in ipairs({ "bf16", "f16" }) do
      local l = layer(random, dtype)
      local y = arrays.adopt(C.lc_linear_lora(l.x, l.w, l.a, l.b, scale))
      local X, W = arrays.read(l.x), merged(l)
      agree(arrays.read(y), product(X, transposed(W, n, k), m, n, k), 2 * TOLERANCE[dtype], dtype)
      local dy = matrix(random, m, n, dtype)
      assert.equal(0, C.lc_backward_from(y, dy))
      local dW = product(transposed(arrays.read(dy), m, n), X, n, k, m)
      agree(arrays.grad(l.a),
        scaled(product(transposed(arrays.read(l.b), n, r), dW, r, k, n), scale),
        2 * TOLERANCE[dtype], "da")
      agree(arrays.grad(l.b),
        scaled(product(dW, transposed(arrays.read(l.a), r, k), n, r, k), scale),
        2 * TOLERANCE[dtype], "db")
      assert.equal(C.LC_F32, C.lc_tensor_dtype(C.lc_tensor_grad(l.a)))
    end
  end)

  it("leaves a frozen weight alone and serves an input that wants nothing", function()
    local random = arrays.random(24)
    local x, w = matrix(random, m, k, "f32"), matrix(random, n, k, "f32")
    local a, b = leaf(matrix(random, r, k, "f32")), leaf(matrix(random, n, r, "f32"))
    local y = arrays.adopt(C.lc_linear_lora(x, w, a, b, scale))
    assert.equal(0, C.lc_backward_from(y, matrix(random, m, n, "f32")))
    assert.is_true(C.lc_tensor_grad(w) == nil and C.lc_tensor_grad(x) == nil)
    assert.is_true(C.lc_tensor_grad(a) ~= nil and C.lc_tensor_grad(b) ~= nil)
  end)
end)

describe("the bits of a product", function()
  local threads = C.lc_threads_used()
  after_each(function() C.lc_threads(threads) end)

  -- Layers of the tiny model, and sizes that end in every kind of edge.
  local LAYERS = { { 128, 128 }, { 352, 128 }, { 128, 352 }, { 512, 128 }, { 37, 301 }, { 8, 128 },
    { 96, 520 }, { 40, 4202 } }                         -- the last: more than one block of K

  for _, dtype in ipairs(DTYPES) do
    it("do not depend on how many rows there are, nor on a row's place, " .. dtype, function()
      local random = arrays.random(31)
      for _, size in ipairs(LAYERS) do
        local n, k = size[1], size[2]
        local x, w = matrix(random, 80, k, dtype), matrix(random, n, k, dtype)
        local back = matrix(random, k, n, dtype)      -- as in dx = dy W: not transposed
        local all, all_back = bits(arrays.adopt(C.lc_linear(x, w))),
          bits(arrays.adopt(C.lc_matmul(x, back)))
        local row = #all / 80
        for _, span in ipairs({ { 0, 1 }, { 79, 1 }, { 0, 2 }, { 0, 8 }, { 0, 64 }, { 11, 1 },
          { 11, 2 }, { 13, 8 }, { 15, 64 }, { 3, 5 }, { 7, 33 }, { 20, 3 }, { 9, 4 }, { 2, 6 }, { 4, 7 }, { 1, 9 },
          { 5, 17 }, { 6, 25 }, { 8, 32 } }) do
          local some = rows_of(x, span[1], span[2])
          local expected = all:sub(span[1] * row + 1, (span[1] + span[2]) * row)
          assert.is_true(bits(arrays.adopt(C.lc_linear(some, w))) == expected)
          expected = all_back:sub(span[1] * row + 1, (span[1] + span[2]) * row)
          assert.is_true(bits(arrays.adopt(C.lc_matmul(some, back))) == expected)
        end
      end
    end)
  end

  it("do not depend on how many rows there are where rows, columns and K are taken in several blocks", function()
    C.lc_threads(1)                                     -- who then has all of them
    for _, dtype in ipairs(DTYPES) do
      local k = dtype == "bf16" and 4202 or 600
      local random = { seed = 34, dtype = dtype }
      local x, w = tensor.rand({ 1301, k }, random), tensor.rand({ 2101, k }, random)
      local all = bits(arrays.adopt(C.lc_linear(x, w)))
      local row = #all / 1301
      for _, span in ipairs({ { 0, 1 }, { 599, 1 }, { 1300, 1 }, { 0, 500 }, { 300, 700 }, { 900, 401 } }) do
        local some = bits(arrays.adopt(C.lc_linear(rows_of(x, span[1], span[2]), w)))
        assert.is_true(some == all:sub(span[1] * row + 1, (span[1] + span[2]) * row),
          ("%s, %d rows from %d"):format(dtype, span[2], span[1]))
      end
    end
  end)

  it("do not depend on how many rows there are where few rows are too long for the first cache", function()
    for _, k in ipairs({ 8230, 16500 }) do              -- two rows, one row
      local random = { seed = 35, dtype = "bf16" }
      local x, w = tensor.rand({ 40, k }, random), tensor.rand({ 37, k }, random)
      local all = bits(arrays.adopt(C.lc_linear(x, w)))
      local row = #all / 40
      for _, rows in ipairs({ 1, 2, 3, 8, 12 }) do
        assert.is_true(bits(arrays.adopt(C.lc_linear(rows_of(x, 7, rows), w))) == all:sub(7 * row + 1, (7 + rows) * row))
      end
    end
  end)

  it("do not depend on the threads, forward and backward", function()
    for _, dtype in ipairs({ "f32", "bf16" }) do
      for _, size in ipairs(LAYERS) do
        local n, k, seen = size[1], size[2], nil
        for _, count in ipairs({ 1, 2, 3 }) do
          C.lc_threads(count)
          assert.equal(count, C.lc_threads_used())
          local random = arrays.random(32)
          local x, w = leaf(matrix(random, 333, k, dtype)), leaf(matrix(random, n, k, dtype))
          local a, b = leaf(matrix(random, 8, k, "f32")), leaf(matrix(random, n, 8, "f32"))
          local y = arrays.adopt(C.lc_linear_lora(x, w, a, b, 0.5))
          assert.equal(0, C.lc_backward_from(y, matrix(random, 333, n, dtype)))
          local all = bits(y)
          for _, t in ipairs({ x, w, a, b }) do all = all .. bits(C.lc_tensor_grad(t)) end
          seen = seen or all
          assert.is_true(seen == all, dtype .. " with " .. count .. " threads")
        end
      end
    end
  end)

  it("are those of a batch's products one by one", function()
    local random = arrays.random(33)
    local a = arrays.tensor({ 20, 10, 40 }, arrays.uniform(random, 8000))
    local b = arrays.tensor({ 20, 40, 30 }, arrays.uniform(random, 24000))
    local all = bits(arrays.adopt(C.lc_matmul(a, b)))
    for i = 0, 19 do
      local y = arrays.adopt(C.lc_matmul(rows_of(a, i, 1), rows_of(b, i, 1)))
      assert.is_true(bits(y) == all:sub(i * 1200 + 1, i * 1200 + 1200))
    end
  end)
end)
