-- The device's attention, forward and backward, against the CPU's in f32 on the same rounded inputs: random forests and
-- queries that see other rows, head sizes of both kinds of kernel, grouped heads. Twice gives the same bits, and other
-- trees beside it change none.
--   lucid tests/gpu/attention.lua SEED [CASES] [LONGEST]    LONGEST: most tokens of a segment
local arrays = require "tests.oracle.arrays"
local ffi = require "ffi"
local native = require "lucid.native"
local tensor = require "lucid.tensor"

local C = native.C
local seed, cases, longest = tonumber(arg[1]), tonumber(arg[2] or 60), tonumber(arg[3] or 300)
local NAMES = { "o", "dq", "dk", "dv" }
local TOLERANCE = { f32 = 2e-5, bf16 = 1.2e-2, f16 = 1.5e-3 }
local SIZES = { 32, 64, 88, 128, 40 }
native.device "cuda"

-- ||a - b|| / ||b||; NaN is infinitely far.
local function distance(a, b)
  local n = a:count()
  local x, y = ffi.new("float[?]", n + 1), ffi.new("float[?]", n + 1)
  native.check(C.lc_tensor_read_f32(a, x, n))
  native.check(C.lc_tensor_read_f32(b, y, n))
  local off, size = 0, 0
  for i = 0, n - 1 do off, size = off + (x[i] - y[i]) ^ 2, size + y[i] ^ 2 end
  return off ~= off and math.huge or math.sqrt(off / math.max(size, 1e-30))
end

-- The bytes of a tensor's first rows.
local function bytes(t, rows)
  local all = t:count() * tonumber(C.lc_dtype_bytes(C.lc_tensor_dtype(t)))
  local buffer = ffi.new("uint8_t[?]", all + 1)
  native.check(C.lc_tensor_read(t, buffer, all))
  return ffi.string(buffer, all / math.max(t:size(1), 1) * rows)
end

-- o, dq, dk, dv of inputs { q, k, v, dout } that lie on the host, computed where and in what is asked.
local function attend(x, forest, scale, dtype, device)
  local on = {}
  for i = 1, 4 do on[i] = x[i]:to(dtype):to(device):detach() end      -- leaves of their own
  for i = 1, 3 do C.lc_tensor_requires_grad(on[i], 1) end
  local o = native.adopt(C.lc_attention(on[1], on[2], on[3], forest, scale))
  native.check(C.lc_backward_from(o, on[4]))
  return { o, on[1].grad, on[2].grad, on[3].grad }
end

local function random_inputs(rows, keys, c, number)
  local shapes = { { rows, c.heads, c.d }, { keys, c.groups, c.d }, { keys, c.groups, c.d }, { rows, c.heads, c.d } }
  local x = {}
  for i, shape in ipairs(shapes) do x[i] = tensor.randn(shape, { seed = seed * 1000 + number * 8 + i }):to(c.dtype) end
  return x
end

local function compare(c, x, forest, what)
  local got = attend(x, forest, c.scale, c.dtype, "cuda")
  local want = attend(x, forest, c.scale, "f32", "cpu")
  for i, name in ipairs(NAMES) do
    local far = distance(got[i], want[i])
    if far > TOLERANCE[c.dtype] then error(("%s: %s is %.3g away"):format(what, name, far), 0) end
    c.worst = math.max(c.worst or 0, far / TOLERANCE[c.dtype])
  end
  return got
end

local function same(a, b, rows, what)
  for i, name in ipairs(NAMES) do
    if bytes(a[i], rows) ~= bytes(b[i], rows) then error(("%s: the bits of %s differ"):format(what, name), 0) end
  end
end

-- A forest, the same once more, and the same beside other trees.
local function test_forest(c, random, number)
  local segments, more = arrays.random_forest(random, { most = 8, longest = longest, bidirectional = 20 }), {}
  segments[#segments + 1] = { length = random(1, longest) }        -- none is empty as a whole
  for i, s in ipairs(segments) do more[i] = s end
  for _ = 1, random(1, 3) do more[#more + 1] = { length = random(1, longest) } end
  local few, many = arrays.forest(segments), arrays.forest(more)
  local rows, all = tonumber(C.lc_forest_rows(few)), tonumber(C.lc_forest_rows(many))
  local what = ("case %d: %s, d %d, %d heads, %d groups, %d rows"):format(number, c.dtype, c.d, c.heads, c.groups, rows)
  local wide, narrow = random_inputs(all, all, c, number), {}
  for i = 1, 4 do narrow[i] = wide[i]:slice(1, 1, rows):contiguous() end
  local alone = compare(c, narrow, few, what)
  same(alone, attend(narrow, few, c.scale, c.dtype, "cuda"), rows, what .. ", once more")
  same(alone, attend(wide, many, c.scale, c.dtype, "cuda"), rows, what .. ", beside other trees")
end

local function test_cross(c, random, number)
  local segments, keys = {}, 0
  for i = 1, random(1, 4) do
    local least = i > 1 and 0 or 1
    segments[i] = { length = random(least, longest), first = keys, count = random(least, longest) }
    keys = keys + segments[i].count
  end
  local forest = arrays.cross(segments)
  local rows = tonumber(C.lc_forest_rows(forest))
  compare(c, random_inputs(rows, keys, c, number), forest,
    ("case %d: %s, d %d, cross, %d rows, %d keys"):format(number, c.dtype, c.d, rows, keys))
end

local random, worst = arrays.random(seed), 0
for number = 1, cases do
  native.scope(function()
    local groups = random(1, 2)
    local c = { dtype = ({ "bf16", "f16", "f32" })[random(1, 5) % 3 + 1], d = SIZES[random(1, #SIZES)], groups = groups,
      heads = groups * random(1, 3) }
    c.scale = 1 / math.sqrt(c.d)
    if random(1, 4) == 1 then test_cross(c, random, number) else test_forest(c, random, number) end
    worst = math.max(worst, c.worst)
  end)
end
print(("%d cases agree, seed %d, at most %.2f of what is allowed; bits do not depend on the batch"):format(cases, seed,
  worst))
