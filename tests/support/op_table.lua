-- The ops, one row each: the cases, the op, and its formula in plain Lua. M.check(row) compares values and
-- gradients in every dtype, over odd sizes, and on inputs that are transposed views and slices; on the
-- host, or on the device that check.device names.
local ffi = require("ffi")
local plain = require("tests.oracle.plain")
local check = require("tests.support.check")
local C = require("lucid.native").C

local SHAPES = { {}, { 0 }, { 1 }, { 3 }, { 17 }, { 3, 33 }, { 2, 3, 5 }, { 65, 17 }, { 2, 1030 } }
local MATRICES = { { 1, 1 }, { 3, 17 }, { 0, 5 }, { 33, 3 }, { 2, 3, 65 }, { 2, 1030 } }
-- ||difference|| / ||expected|| of values and of gradients
local TOLERANCE = { f32 = { 1e-6, 5e-6 }, bf16 = { 6e-3, 1.5e-2 }, f16 = { 8e-4, 2e-3 } }

local LAYOUTS = { f32 = { "dense", "transposed", "sliced" }, bf16 = { "dense", "transposed" },
  f16 = { "dense" } }

local rows = {}
local function row(name, cases, op, formula, opt)
  rows[#rows + 1] = { name = name, cases = cases, op = op, formula = formula, opt = opt or {} }
end

-- One input of each shape.
local function each(shapes, spec)
  local cases = {}
  for i, shape in ipairs(shapes) do
    cases[i] = { { shape, low = spec and spec[1], high = spec and spec[2] } }
  end
  return cases
end

-- ---- elementwise

for name, f in pairs(plain.unary) do
  local positive = name == "log" or name == "sqrt"
  row(name, each(SHAPES, positive and { 0.2, 3 } or nil),
    function(x) return C["lc_" .. name](x) end,
    function(x) return plain.map(x, f) end)
end
row("scale", each(SHAPES), function(x) return C.lc_scale(x, -1.5) end,
  function(x) return plain.scale(x, -1.5) end)
row("shift", each(SHAPES), function(x) return C.lc_shift(x, 0.25) end,
  function(x) return plain.map(x, function(v) return v + 0.25 end) end)
row("pow", each(SHAPES, { 0.2, 3 }), function(x) return C.lc_pow(x, 2.5) end,
  function(x) return plain.map(x, function(v) return v ^ 2.5 end) end)
row("clamp", each(SHAPES), function(x) return C.lc_clamp(x, -1.003, 1.507) end,
  function(x) return plain.map(x, function(v) return math.max(-1.003, math.min(1.507, v)) end) end)

local PAIRS = {
  { { {} }, { {} } }, { { { 0 } }, { { 0 } } }, { { { 17 } }, { { 17 } } },
  { { { 3, 33 } }, { { 3, 33 } } },
  { { { 2, 1030 } }, { { 1030 } } },     -- b repeats as a whole
  { { { 65, 3 } }, { { 1, 3 } } }, { { { 3, 700 } }, { {} } }, { { { 5, 3 } }, { { 1 } } },
  { { { 33 } }, { { 5, 33 } } },         -- a repeats
  { { { 5, 1, 3 } }, { { 4, 1 } } },     -- both do
  { { { 3, 17 } }, { { 3, 1 } } }, { { { 1, 0 } }, { { 5, 1 } } }, { { { 2, 0, 3 } }, { { 3 } } },
}
local function away_from_zero(cases)
  local out = {}
  for i, c in ipairs(cases) do out[i] = { c[1], { c[2][1], low = 0.5, high = 3 } } end
  return out
end
local BINARY = {
  add = function(a, b) return a + b end,
  sub = function(a, b) return a - b end,
  mul = function(a, b) return a * b end,
  div = function(a, b) return a / b end,
}
for name, f in pairs(BINARY) do
  row(name, name == "div" and away_from_zero(PAIRS) or PAIRS,
    function(a, b) return C["lc_" .. name](a, b) end,
    function(a, b) return plain.binary(f, a, b) end)
end
row("swiglu", { { { { 3, 33 } }, { { 3, 33 } } }, { { { 0 } }, { { 0 } } } },
  function(a, b) return C.lc_swiglu(a, b) end,
  function(a, b)
    return plain.binary(function(g, u) return plain.unary.silu(g) * u end, a, b)
  end)
row("mixed dtypes are added in f32",
  { { { { 3, 17 } }, { { 17 }, dtype = "f32" } }, { { { 3, 17 }, dtype = "f32" }, { { 3, 17 } } } },
  function(a, b) return C.lc_add(a, b) end,
  function(a, b) return plain.binary(BINARY.add, a, b) end)

-- ---- shape

row("view", { { { { 3, 4, 5 } } }, { { { 0, 4, 5 } } } },
  function(x) return C.lc_view(x, 2, check.dims { -1, 20 }) end,
  function(x) return plain.view(x, { #x / 20, 20 }) end)
row("transpose", each { { 3, 17 }, { 2, 3, 5 }, { 0, 3 }, { 2, 3, 4, 5 }, { 65, 70 } },
  function(x) return C.lc_transpose(x, 0, -1) end,
  function(x) return plain.transpose(x, 1, #x.shape) end)
row("contiguous", each { { 3, 17 }, { 2, 3, 5 }, { 0, 3 }, { 3, 130, 70 } },
  function(x) return C.lc_contiguous(C.lc_transpose(x, 0, 1)) end,
  function(x) return plain.transpose(x, 1, 2) end)
row("slice", each { { 5, 17 }, { 5, 3, 2 }, { 5 } },
  function(x) return C.lc_slice(x, 0, 1, 3) end,
  function(x) return plain.slice(x, 1, 2, 3) end)
row("slice of the last dim", each { { 2, 5 }, { 3, 2, 33 } },
  function(x) return C.lc_slice(x, -1, 2, 3) end,
  function(x) return plain.slice(x, #x.shape, 3, 3) end)
row("overlapping slices", each { { 5, 17 } },
  function(x) return C.lc_mul(C.lc_slice(x, 0, 0, 3), C.lc_slice(x, 0, 2, 3)) end,
  function(x)
    return plain.binary(BINARY.mul, plain.slice(x, 1, 1, 3), plain.slice(x, 1, 3, 3))
  end)
row("cat",
  { { { { 3, 2 } }, { { 3, 5 } }, { { 3, 0 } } }, { { { 1, 2, 3 } }, { { 1, 1, 3 } } } },
  function(...) return C.lc_cat(select("#", ...), ffi.new("lc_tensor *[9]", { ... }), 1) end,
  function(...) return plain.cat({ ... }, 2) end)
local TWENTY = {}
for i = 1, 20 do TWENTY[i] = { { i % 3, 4 } } end
row("cat of many", { TWENTY },
  function(...) return C.lc_cat(20, ffi.new("lc_tensor *[20]", { ... }), 0) end,
  function(...) return plain.cat({ ... }, 1) end)
row("cast", each(SHAPES), function(x) return C.lc_cast(x, C.LC_F32) end,
  function(x) return x end)
row("rows", { { { { 7, 3 } }, { { 12 }, below = 7 } }, { { { 4, 2, 33 } }, { { 5 }, below = 4 } },
  { { { 4, 3 } }, { { 0 }, below = 4 } }, { { { 1 } }, { { 3 }, below = 1 } } },
  function(x, index) return C.lc_rows(x, index) end, plain.rows)
row("embedding",
  { { { { 9, 17 } }, { { 3, 5 }, below = 9 } }, { { { 9, 3 } }, { {}, below = 9 } } },
  function(w, ids) return C.lc_embedding(w, ids) end, plain.rows)

-- ---- reductions

local MOSTLY_POSITIVE = { -1, 3 } -- a sum of much that cancels is off by more of itself than a tolerance says
row("sum", each(SHAPES, MOSTLY_POSITIVE), function(x) return C.lc_sum(x) end, plain.sum)
row("mean", each({ { 1 }, { 3, 33 }, { 2, 1030 } }, MOSTLY_POSITIVE), function(x) return C.lc_mean(x) end,
  function(x) return plain.scale(plain.sum(x), 1 / #x) end)
for _, dim in ipairs { 1, 2, 3 } do
  local shapes = { { 3, 4, 5 }, { 65, 2, 130 }, { 2, 200, 3 }, { 3, 2, 0 }, { 3, 1, 1030 } }
  row("sum of dim " .. dim, each(shapes), function(x) return C.lc_sum_dim(x, dim - 1) end,
    function(x) return plain.sum_dim(x, dim) end)
  row("mean of dim " .. dim, each { { 3, 4, 5 }, { 3, 65, 2 } },
    function(x) return C.lc_mean_dim(x, dim - 1) end,
    function(x) return plain.scale(plain.sum_dim(x, dim), 1 / x.shape[dim]) end)
end
row("softmax", each(MATRICES), function(x) return C.lc_softmax(x) end, plain.softmax)
row("log_softmax", each(MATRICES), function(x) return C.lc_log_softmax(x) end, plain.log_softmax)

-- ---- layers

local function norm_cases(parameters)
  local cases = {}
  -- the last: wider than what a block of the device keeps of a row
  for i, shape in ipairs { { 1, 3 }, { 3, 17 }, { 0, 5 }, { 33, 3 }, { 2, 3, 65 }, { 2, 1030 }, { 1, 8200 } } do
    cases[i] = { { shape } }
    for p = 1, parameters do cases[i][p + 1] = { { shape[#shape] } } end
  end
  return cases
end
row("rms_norm", norm_cases(1), function(x, w) return C.lc_rms_norm(x, w, 1e-2) end,
  function(x, w) return plain.rms_norm(x, w, 1e-2) end)
row("layer_norm", norm_cases(2), function(x, w, b) return C.lc_layer_norm(x, w, b, 1e-2) end,
  function(x, w, b) return plain.layer_norm(x, w, b, 1e-2) end)
row("rope",
  { { { { 5, 2, 8 } }, { { 5 }, below = 50 } }, { { { 33, 3, 34 } }, { { 33 }, below = 9 } },
  { { { 0, 2, 4 } }, { { 0 }, below = 3 } }, { { { 3, 1, 130 } }, { { 3 }, below = 200 } },
  { { { 7, 6, 32 } }, { { 7 }, below = 90 } } },
  function(x, p) return C.lc_rope(x, p, 10000) end,
  function(x, p) return plain.rope(x, p, 10000) end, { tolerance = 3e-6, slope = 1e-5 })
row("patch_embed",
  { { { { 2, 3, 4, 6 } }, { { 5, 3, 2, 2 } } }, { { { 1, 1, 3, 3 } }, { { 2, 1, 3, 3 } } },
  { { { 0, 3, 4, 4 } }, { { 5, 3, 2, 2 } } } },
  function(x, w) return C.lc_patch_embed(x, w) end, plain.patch_embed)

-- ---- losses

row("cross_entropy", { { { { 17, 5 } }, { { 17 }, below = 5 } },
  { { { 3, 33 } }, { shape = { 3 }, integer = true, 7, -100, 32 } },
  { { { 2, 3 } }, { shape = { 2 }, integer = true, -100, -100 } } },
  function(x, t) return C.lc_cross_entropy(x, t) end, plain.cross_entropy)
row("token_logps", { { { { 7, 5 } }, { { 11, 5 } }, { { 9 }, below = 7 }, { { 9 }, below = 11 } },
  { { { 3, 17 } }, { { 33, 17 } }, { { 300 }, below = 3 }, { { 300 }, below = 33 } },
  { { { 3, 17 } }, { { 33, 17 } }, { { 0 }, below = 3 }, { { 0 }, below = 33 } } },
  function(...) return C.lc_token_logps(...) end, plain.token_logps)
local F32 = { dtypes = { "f32" } }
row("segment_sum", { { { { 9 } }, { shape = { 4 }, integer = true, 0, 3, 3, 9 } },
  { { { 0 } }, { shape = { 1 }, integer = true, 0 } },
  { { { 1500 } }, { shape = { 3 }, integer = true, 0, 1, 1500 } } },
  function(x, first) return C.lc_segment_sum(x, first) end, plain.segment_sum, F32)
row("dpo_loss",
  { { { { 1 } }, { { 1 } }, { { 1 } }, { { 1 } } },
    { { { 17 } }, { { 17 } }, { { 17 } }, { { 17 } } } },
  function(a, b, c, d) return C.lc_dpo_loss(a, b, c, d, 0.7) end,
  function(a, b, c, d) return plain.dpo_loss(a, b, c, d, 0.7) end, F32)

-- ---- the runner

local function describe_case(case, dtype, layout)
  local shapes = {}
  for i, input in ipairs(case) do
    shapes[i] = "[" .. table.concat(input.shape or input[1], ",") .. "]"
  end
  return table.concat(shapes, " ") .. " " .. dtype .. " " .. layout
end

local M = { rows = rows }

--- Raises what is wrong with a row's op: the case, and how far off it is.
function M.check(r)
  for _, dtype in ipairs(r.opt.dtypes or { "f32", "bf16", "f16" }) do
    for _, layout in ipairs(LAYOUTS[dtype]) do
      for _, case in ipairs(r.cases) do
        local far = TOLERANCE[dtype]
        local wrong = check.compare {
          op = r.op, formula = r.formula, inputs = case, dtype = dtype, layout = layout,
          tolerance = math.max(r.opt.tolerance or 0, far[1]),
          slope = math.max(r.opt.slope or 0, far[2]),
        }
        if wrong then error(describe_case(case, dtype, layout) .. ": " .. wrong, 0) end
      end
    end
  end
end

return M
