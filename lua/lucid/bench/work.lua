-- Kernels as work that can be timed: a function that does it once, and the floating-point operations or the bytes that
-- it has to do or move. Numbers are random normal; weights and inputs stay, what a call makes is its scope's.
local ffi = require "ffi"
local native = require "lucid.native"
local optim = require "lucid.optim"
local tensor = require "lucid.tensor"

local C = native.C
local M = {}

---@class lucid.Work
---@field run function          does it once; called in a scope
---@field flops number|nil      operations of a call, two a multiplication with addition
---@field bytes number|nil      read and written by a call
---@field tokens number|nil     that a call works on, or makes
---@field calls integer|nil     calls that are timed together; default: as many as a moment takes
---@field before function|nil   called before each timing

local BYTES = { f32 = 4, bf16 = 2, f16 = 2 }
local ROPE, RANK_SCALE = 10000, 2

local stream = 0
local function normal(o, shape, dtype)
  stream = stream + 1
  return tensor.randn(shape, { seed = stream, device = o.device, dtype = dtype or o.dtype })
end

local function without_gradients(f) return function() native.no_grad(f) end end

-- ---- products --------------------------------------------------------------------------------------

--- A frozen linear layer.
---@param o { device: string, dtype: string, rows: integer, n: integer, k: integer }
---@return lucid.Work
function M.linear(o)
  local x, w = normal(o, { o.rows, o.k }), normal(o, { o.n, o.k })
  return { run = without_gradients(function() return x:linear(w) end), flops = 2 * o.rows * o.n * o.k }
end

--- Linear layers with adapters, o.shapes = { { n, k }, ... }: forward, and back to input, A and B.
---@param o { device: string, dtype: string, rows: integer, rank: integer, shapes: integer[][] }
---@return lucid.Work
function M.lora(o)
  local layers, flops = {}, 0
  for i, shape in ipairs(o.shapes) do
    local n, k = unpack(shape)
    local l = { x = normal(o, { o.rows, k }), w = normal(o, { n, k }), a = normal(o, { o.rank, k }, "f32"),
      b = normal(o, { n, o.rank }, "f32"), dy = normal(o, { o.rows, n }) }
    for _, name in ipairs { "x", "a", "b" } do l[name]:requires_grad() end
    layers[i], flops = l, flops + 4 * o.rows * n * k + 6 * o.rows * o.rank * (n + k)
  end
  return { flops = flops, run = function()
    for _, l in ipairs(layers) do
      native.adopt(C.lc_linear_lora(l.x, l.w, l.a, l.b, RANK_SCALE)):backward(l.dy)
      for _, name in ipairs { "x", "a", "b" } do l[name]:zero_grad() end
    end
  end }
end

-- ---- attention -------------------------------------------------------------------------------------

-- A forest of segments { parent (from 1), length }, and how many keys its queries see.
local function forest_of(segments)
  local n, seen, ends = #segments, 0, {}
  local parents, lengths = ffi.new("int32_t[?]", n), ffi.new("int32_t[?]", n)
  for i, s in ipairs(segments) do
    local before = s.parent and ends[s.parent] or 0
    parents[i - 1], lengths[i - 1] = (s.parent or 0) - 1, s.length
    ends[i], seen = before + s.length, seen + s.length * before + s.length * (s.length + 1) / 2
  end
  return ffi.gc(native.check(C.lc_forest_new(n, parents, lengths, nil)), C.lc_forest_release), seen
end

--- Attention over a forest. Back, the scores are made again: five products for the two of the way forward.
---@param o { device: string, dtype: string, segments: table[], heads: integer, d: integer, backward: boolean|nil }
---@return lucid.Work
function M.attention(o)
  local forest, seen = forest_of(o.segments)
  local shape = { tonumber(C.lc_forest_rows(forest)), o.heads, o.d }
  local q, k, v, dout = normal(o, shape), normal(o, shape), normal(o, shape), normal(o, shape)
  local flops = 4 * seen * o.heads * o.d
  local function forward() return native.adopt(C.lc_attention(q, k, v, forest, 1 / math.sqrt(o.d))) end
  if not o.backward then return { run = without_gradients(forward), flops = flops } end
  for _, t in ipairs { q, k, v } do t:requires_grad() end
  return { flops = 3.5 * flops, run = function()
    forward():backward(dout)
    for _, t in ipairs { q, k, v } do t:zero_grad() end
  end }
end

-- ---- what memory bounds ----------------------------------------------------------------------------

-- Each gives a function, and how many numbers of the dtype it reads and writes for one of its output.
local MEMORY = {
  add = function(o)
    local x, y = normal(o, { o.rows, o.width }), normal(o, { o.rows, o.width })
    return function() return x + y end, 3
  end,
  rms_norm = function(o)
    local x, w = normal(o, { o.rows, o.width }), normal(o, { o.width })
    return function() return x:rms_norm(w, 1e-5) end, 2
  end,
  swiglu = function(o)
    local gate, up = normal(o, { o.rows, o.width }), normal(o, { o.rows, o.width })
    return function() return native.adopt(C.lc_swiglu(gate, up)) end, 3
  end,
  rope = function(o)
    local x, positions = normal(o, { o.rows, o.width / 128, 128 }), {}
    for i = 1, o.rows do positions[i] = i % 2048 end
    local at = tensor.tensor(positions, { dtype = "i32", device = o.device })
    return function() return native.adopt(C.lc_rope(x, at, ROPE)) end, 2
  end,
}

--- "add", "rms_norm", "swiglu" or "rope" over [rows, width].
---@param o { device: string, dtype: string, kernel: string, rows: integer, width: integer }
---@return lucid.Work
function M.memory(o)
  local f, moved = MEMORY[o.kernel](o)
  return { run = without_gradients(f), bytes = moved * BYTES[o.dtype] * o.rows * o.width }
end

--- Cross-entropy of f32 logits [rows, words], forward and back: they are read for the maximum and the sum together,
--- read again and their gradient is written.
---@param o { device: string, rows: integer, words: integer }
---@return lucid.Work
function M.cross_entropy(o)
  local logits, targets = normal(o, { o.rows, o.words }, "f32"), {}
  for i = 1, o.rows do targets[i] = i * 7919 % o.words end
  local wanted = tensor.tensor(targets, { dtype = "i32", device = o.device })
  logits:requires_grad()
  return { bytes = 12 * o.rows * o.words, run = function()
    native.adopt(C.lc_cross_entropy(logits, wanted)):backward()
    logits:zero_grad()
  end }
end

--- One AdamW step of f32 parameters, with the gradients' norm: 32 bytes each, for gradients are read twice.
---@param o { device: string, parameters: integer }
---@return lucid.Work
function M.adamw(o)
  local p, g = normal(o, { o.parameters }, "f32"), normal(o, { o.parameters }, "f32")
  p:requires_grad()
  local optimizer = optim.adamw { { name = "p", tensor = p } }
  return { bytes = 32 * o.parameters, calls = 1, before = function() p.grad = g end,
    run = function() optimizer:step(1e-6) end }
end

return M
