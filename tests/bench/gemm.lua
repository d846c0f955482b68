-- The speed of lc_matmul beside oneDNN's matmul primitive, plain and with weights reordered once.
--   bin/lucid tests/bench/gemm.lua [threads]
-- Medians of interleaved rounds with the quarter below and above. lc_matmul's time includes its
-- result's tensor; oneDNN's is the primitive alone, made beforehand. Without oneDNN it runs alone.
local ffi = require("ffi")
local C = require("lucid.native").C

local ROUNDS, ROUND_SECONDS = 21, 0.01

-- m, n, k, is A transposed, is B transposed
local SHAPES = {
  { "square", 1024, 1024, 1024 },
  { "square, B^T", 1024, 1024, 1024, false, true },
  { "square, A^T", 1024, 1024, 1024, true },
  { "attention projection", 1300, 128, 128, false, true },
  { "its dx", 1300, 128, 128 },
  { "its dW", 128, 128, 1300, true },
  { "gate, up", 1300, 352, 128, false, true },
  { "its dW", 352, 128, 1300, true },
  { "down", 1300, 128, 352, false, true },
  { "its dW", 128, 352, 1300, true },
  { "adapter A", 1300, 8, 128, false, true },
  { "adapter B", 1300, 128, 8, false, true },
  { "its da", 8, 128, 1300, true },
  { "vision MLP", 256, 512, 128, false, true },
  { "vision MLP", 4096, 512, 128, false, true },
  { "one token", 1, 128, 128, false, true },
  { "16 tokens", 16, 352, 128, false, true },
  { "head, 16 tokens", 16, 512, 128, false, true },
}

local function tensor(rows, cols, crossed, seed)
  local shape = ffi.new("int64_t[2]", crossed and cols or rows, crossed and rows or cols)
  local t = C.lc_tensor_adopt(C.lc_tensor_randn(2, shape, C.LC_F32, C.LC_HOST, seed, 0))
  if crossed then t = C.lc_tensor_adopt(C.lc_transpose(t, 0, 1)) end
  return t
end

-- A function that runs oneDNN's product, and the implementation's name; nil: there is none.
local function onednn(m, n, k, a_crossed, b_crossed, packed)
  local p = C.lc_onednn_new(m, n, k, C.LC_F32, a_crossed and 1 or 0, b_crossed and 1 or 0, packed and 1 or 0)
  if p == nil then return nil end
  p = ffi.gc(p, C.lc_onednn_free)
  return function() assert(C.lc_onednn_run(p) == 0) end, ffi.string(C.lc_onednn_name(p))
end

-- ---- measuring ----------------------------------------------------------------------------------

local function seconds(run, repeats)
  local start = C.lc_seconds()
  for _ = 1, repeats do run() end
  return (C.lc_seconds() - start) / repeats
end

-- Per runner, its sorted times; rounds are interleaved so that a slow moment hits all.
local function measure(runners)
  local times, repeats = {}, {}
  for i, run in ipairs(runners) do
    seconds(run, 2)
    repeats[i] = math.max(1, math.floor(ROUND_SECONDS / seconds(run, 2)))
    times[i] = {}
  end
  for _ = 1, ROUNDS do
    for i, run in ipairs(runners) do table.insert(times[i], seconds(run, repeats[i])) end
  end
  for i in ipairs(runners) do table.sort(times[i]) end
  return times
end

local function processor()
  for line in io.lines("/proc/cpuinfo") do
    local name = line:match("^model name%s*:%s*(.*)")
    if name then return name end
  end
end

local function cell(times, operations)
  local function rate(share) return operations / times[math.ceil(#times * share)] * 1e-9 end
  return ("%9.1f us %6.1f GFLOP/s [%6.1f..%6.1f]"):format(operations / rate(0.5) * 1e-3, rate(0.5),
    rate(0.75), rate(0.25))
end

C.lc_threads(tonumber(arg and arg[1]) or 0)
print(("%s, %d threads, f32"):format(processor(), C.lc_threads_used()))
print(ffi.string(C.lc_features()):match("gemm: [^\n]*"))
local loaded, implementation = onednn(1024, 1024, 1024)
if loaded then print(implementation) end
print(("%-21s %-17s %-45s%-45s%-45s%s"):format("", "m n k", "lc_matmul", "oneDNN, plain",
  "oneDNN, packed", "its best / lc_matmul"))
for _, shape in ipairs(SHAPES) do
  local what, m, n, k, a_crossed, b_crossed = unpack(shape)
  local a, b = tensor(m, k, a_crossed, 1), tensor(k, n, b_crossed, 2)
  local runners = { function()
    assert(C.lc_matmul(a, b) ~= nil)
    C.lc_tensor_adopt(nil)
  end }
  if loaded then
    runners[2] = onednn(m, n, k, a_crossed, b_crossed)
    runners[3] = onednn(m, n, k, a_crossed, b_crossed, true)
  end
  local times, cells, best = measure(runners), {}, math.huge
  for i, t in ipairs(times) do
    cells[i] = cell(t, 2 * m * n * k)
    if i > 1 then best = math.min(best, t[math.ceil(#t / 2)]) end
  end
  local share = loaded and ("%.2f"):format(best / times[1][math.ceil(ROUNDS / 2)]) or ""
  print(("%-21s %-17s %s  %s"):format(what, ("%d %d %d"):format(m, n, k),
    table.concat(cells, "  "), share))
  C.lc_tensor_release(a)
  C.lc_tensor_release(b)
end
