-- What the forest's specs share: seeded numbers, random forests, and flat arrays as tensors.
local ffi = require("ffi")
local native = require("lucid.native")
local C = native.C
local M = {}

--- A generator of integers in [low, high] (Park and Miller), the same everywhere.
function M.random(seed)
  local state = seed * 7919 % 2147483646 + 1
  return function(low, high)
    state = state * 16807 % 2147483647
    return low + state % (high - low + 1)
  end
end

--- n numbers in [-1, 1].
function M.uniform(random, n)
  local t = {}
  for i = 1, n do t[i] = random(-100000, 100000) / 100000 end
  return t
end

local function leaves_of(segments)
  local inner, count = {}, 0
  for _, s in ipairs(segments) do inner[s.parent or 0] = true end
  for i in ipairs(segments) do count = count + (inner[i] and 0 or 1) end
  return count
end

--- A forest of 1 to 12 leaves on up to 4 levels; numbers are shuffled, so parents may follow
--- their children. opt: longest = tokens of a segment, bidirectional = chance in percent.
function M.random_forest(random, opt)
  local n, level, segments = random(1, opt.most or 16), {}, {}
  for i = 1, n do
    local parent = random(0, i - 1)
    while parent > 0 and level[parent] == 4 do parent = random(0, i - 1) end
    level[i] = parent > 0 and level[parent] + 1 or 1
    segments[i] = {
      parent = parent > 0 and parent or nil,
      length = random(1, 8) == 1 and 0 or random(0, opt.longest),
      bidirectional = random(1, 100) <= (opt.bidirectional or 0),
    }
  end
  if leaves_of(segments) > 12 then return M.random_forest(random, opt) end
  local number, shuffled = {}, {}
  for i = 1, n do number[i] = i end
  for i = n, 2, -1 do
    local j = random(1, i)
    number[i], number[j] = number[j], number[i]
  end
  for i, s in ipairs(segments) do
    s.parent = s.parent and number[s.parent]
    shuffled[number[i]] = s
  end
  return shuffled
end

--- The native forest of a list of segments (parents from 1); raises what lc_error says.
function M.forest(segments)
  local n = #segments
  local parent, length = ffi.new("int32_t[?]", n + 1), ffi.new("int32_t[?]", n + 1)
  local bidirectional = ffi.new("uint8_t[?]", n + 1)
  for i, s in ipairs(segments) do
    parent[i - 1] = (s.parent or 0) - 1
    length[i - 1] = s.length
    bidirectional[i - 1] = s.bidirectional and 1 or 0
  end
  local f = C.lc_forest_new(n, parent, length, bidirectional)
  if f == nil then error(ffi.string(C.lc_error()), 2) end
  return ffi.gc(f, C.lc_forest_release)
end

--- The native forest of queries that see another tensor's rows: {length=, first=, count=}, the
--- first from 0.
function M.cross(segments)
  local n = #segments
  local length, first = ffi.new("int32_t[?]", n + 1), ffi.new("int32_t[?]", n + 1)
  local count = ffi.new("int32_t[?]", n + 1)
  for i, s in ipairs(segments) do
    length[i - 1], first[i - 1], count[i - 1] = s.length, s.first, s.count
  end
  local f = C.lc_forest_cross(n, length, first, count)
  if f == nil then error(ffi.string(C.lc_error()), 2) end
  return ffi.gc(f, C.lc_forest_release)
end

--- Takes over a tensor that an op returned; raises what lc_error says.
function M.adopt(t)
  if t == nil then error(ffi.string(C.lc_error()), 2) end
  C.lc_tensor_adopt(t)
  return ffi.gc(t, C.lc_tensor_release)
end

local DTYPES = { f32 = C.LC_F32, bf16 = C.LC_BF16, f16 = C.LC_F16 }

--- A tensor of that shape from a flat array.
function M.tensor(shape, flat, dtype)
  local t = M.adopt(C.lc_tensor_new(#shape, ffi.new("int64_t[?]", #shape + 1, shape),
    DTYPES[dtype or "f32"], C.LC_HOST))
  assert(C.lc_tensor_write_f32(t, ffi.new("float[?]", #flat + 1, flat), #flat) == 0)
  return t
end

--- A tensor's values as a flat array.
function M.read(t)
  local n = tonumber(C.lc_tensor_count(t))
  local buffer, flat = ffi.new("float[?]", n + 1), {}
  assert(C.lc_tensor_read_f32(t, buffer, n) == 0, "read")
  for i = 1, n do flat[i] = tonumber(buffer[i - 1]) end
  return flat
end

--- The gradient of a leaf as a flat array.
function M.grad(t)
  local g = C.lc_tensor_grad(t)
  assert(g ~= nil, "there is no gradient")
  return M.read(g)
end

--- o and, where x.dout is given, dq, dk, dv of the native attention as flat arrays.
--- x: {q=, k=, v=, dout=, heads=, groups=, d=, scale=} (flat), rows and keys = how many.
function M.attention(x, forest, dtype)
  local q = M.tensor({ x.rows, x.heads, x.d }, x.q, dtype)
  local k = M.tensor({ x.keys, x.groups, x.d }, x.k, dtype)
  local v = M.tensor({ x.keys, x.groups, x.d }, x.v, dtype)
  for _, t in ipairs({ q, k, v }) do C.lc_tensor_requires_grad(t, x.dout and 1 or 0) end
  local o = M.adopt(C.lc_attention(q, k, v, forest, x.scale))
  if not x.dout then return M.read(o) end
  local dout = M.tensor({ x.rows, x.heads, x.d }, x.dout, dtype)
  local values = M.read(o)
  assert(C.lc_backward_from(o, dout) == 0, "backward")
  return values, M.grad(q), M.grad(k), M.grad(v)
end

return M
