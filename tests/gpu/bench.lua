-- Our side of make gpu-bench: bench.py asks for one measurement a line, in JSON, and gets one line. "small": sizes that
-- an emulated device can do, which test this file and measure nothing.
--   lucid tests/gpu/bench.lua [small]
--     {"do": "linear", "rows": 8192, "n": 4096, "k": 4096}   ->   {"seconds": [...]}     or {"error": "..."}
-- Numbers are random normal; weights stay, outputs are born in a scope each call; seconds are of one call, of calls
-- that follow each other until the device has done them all.
local bench_pairs = require "tests.bench.pairs"
local decoder = require "lucid.bench.decoder"
local ffi = require "ffi"
local flops = require "lucid.flops"
local lucid = require "lucid"
local models = require "tests.gpu.models"
local native = require "lucid.native"
local pair_step = require "tests.bench.pair_step"
local plan = require "lucid.plan"
local timing = require "lucid.bench.timing"
local work = require "lucid.bench.work"

local C = native.C
local small = arg[1] == "small"
local REPEATS, EACH = small and 2 or 5, small and 0 or 0.06     -- of a measurement: how many, and seconds of each
local DEVICE = native.device_name(native.device "cuda")

-- ---- kernels ---------------------------------------------------------------------------------------------

local wait = timing.waiting(DEVICE)

-- Seconds of a call, REPEATS times, and what it works on.
local function measure(w)
  local n, seconds = timing.calls(w, EACH, wait), {}
  for i = 1, REPEATS do seconds[i] = timing.seconds(w, n, wait) end
  return { seconds = seconds, bytes = w.bytes }
end

-- What is asked for, as lucid.bench.work takes it.
local function here(o)
  o.device, o.dtype = DEVICE, "bf16"
  return o
end

local M = {}

for _, name in ipairs { "linear", "lora", "memory", "adamw" } do
  M[name] = function(o) return measure(work[name](here(o))) end
end

-- Causal attention of separate sequences.
function M.attention(o)
  o.segments = {}
  for i = 1, o.sequences do o.segments[i] = { length = o.length } end
  return measure(work.attention(here(o)))
end

-- ---- the model -------------------------------------------------------------------------------------------

local model

local function open()
  if model then return end
  model = models.new(small and models.SMALL or models.LLAVA_7B, { dtype = "bf16", seed = 1 })
  model:lora { rank = small and 8 or 128, alpha = small and 16 or 256 }
end

-- What the plan says of a step: operations, and bytes of the device.
local function planned(list, group, cached, tokens_at_once)
  local shape, seen = flops.shape(model), 0
  local w = plan.work { pairs = list, draw = function() return list end, steps = 1, shape = shape,
    settings = { group = group, tokens_per_step = tokens_at_once },
    references = cached and { has = function() return true end } or nil }
  for _ in pairs(pair_step.pixels(model, list)) do seen = seen + 1 end
  local b = plan.bytes(model, shape, w.largest, seen, w.scored)
  return w, b.weights + b.optimizer + b.kept + b.pictures
end

local function forget_reserve() -- what is not held goes back to the device, for the other side
  C.lc_device_budget(1)
  C.lc_device_budget(0)
end

-- Steps of preference training on the pairs that both sides take: o.mix, o.group, o.cached, o.steps.
function M.step(o)
  open()
  local list = bench_pairs.read(o.mix, o.group, o.pairs, small)
  local step, seconds = pair_step.new(model, list, o), {}
  step.run()
  for i = 1, o.steps do seconds[i] = timing.seconds(step, 1, wait) end
  local w, bytes = planned(list, o.group, o.cached, o.tokens_at_once or 0)
  local result = { seconds = seconds, pairs = #list, tokens = w.policy.tokens, loss = step.loss,
    flops = w.flops.policy + w.flops.reference + w.flops.bridge + w.flops.tower, planned_bytes = bytes,
    peak_bytes = tonumber(C.lc_device_memory "peak") }
  forget_reserve()
  return result
end

--- The pairs of a step, for the other side.
function M.pairs(o) return { pairs = bench_pairs.read(o.mix, o.group, o.pairs, small) } end

-- Decoding one row over o.keys keys without adapters, as a merged one is.
function M.decode(o)
  open()
  local w = decoder.decode(model, { leaves = 1, prompt = o.keys, calls = o.steps, rounds = 1 })
  timing.seconds(w, small and 1 or 8, wait)
  return { seconds = { timing.seconds(w, o.steps, wait) }, bytes = w.bytes }
end

function M.free()
  collectgarbage()
  collectgarbage()
  forget_reserve()
  return {}
end

-- ---- the conversation ------------------------------------------------------------------------------------

io.stdout:setvbuf "line"
print(lucid.json.encode { ready = ffi.string(C.lc_device_name(native.device "cuda")), version = native.version })
for line in io.lines() do
  local o = lucid.json.decode(line)
  local ok, result = pcall(native.scope, M[o["do"]] or error("bench: there is no " .. o["do"], 0), o)
  print(lucid.json.encode(ok and result or { error = tostring(result) }))
end
