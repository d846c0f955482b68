-- Our side of make gpu-bench: bench.py asks for one measurement a line, in JSON, and gets one line. "small": sizes that
-- an emulated device can do, which test this file and measure nothing.
--   lucid tests/gpu/bench.lua [small]
--     {"do": "linear", "rows": 8192, "n": 4096, "k": 4096}   ->   {"seconds": [...]}     or {"error": "..."}
-- Numbers are random normal; weights stay, outputs are born in a scope each call; seconds are of one call, of calls
-- that follow each other until the device has done them all.
local bench_pairs = require "tests.gpu.bench_pairs"
local decoder = require "lucid.bench.decoder"
local ffi = require "ffi"
local flops = require "lucid.flops"
local lucid = require "lucid"
local models = require "tests.gpu.models"
local native = require "lucid.native"
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

local model, base, optimizer

local function open()
  if model then return end
  model = models.new(small and models.SMALL or models.LLAVA_7B, { dtype = "bf16", seed = 1 })
  model:lora { rank = small and 8 or 128, alpha = small and 16 or 256 }
  base = model:base()
  optimizer = lucid.optim.adamw(model:parameters(), { clip = 1 })
end

-- Pixels of every picture of a list, already on the device.
local function with_pixels(list)
  local of = {}
  for _, p in ipairs(list) do
    if not of[p.picture] then
      of[p.picture] = lucid.randn({ 1, 3, model.size, model.size }, { seed = p.picture, device = DEVICE })
    end
  end
  return of
end

-- The tower sees each picture once a step.
local function with_features(list, pixels)
  local of = {}
  for number, x in pairs(pixels) do
    local rows = native.no_grad(function() return native.adopt(C.lc_model_vision(model.handle, x)) end)
    of[number] = rows:view(rows:size(2), rows:size(3))
  end
  for _, p in ipairs(list) do p.image = of[p.picture] end
end

-- What the plan says of a step: operations, and bytes of the device.
local function planned(list, group, cached, tokens_at_once)
  local shape, seen = flops.shape(model), 0
  local w = plan.work { pairs = list, draw = function() return list end, steps = 1, shape = shape,
    settings = { group = group, tokens_per_step = tokens_at_once },
    references = cached and { has = function() return true end } or nil }
  for _ in pairs(with_pixels(list)) do seen = seen + 1 end
  local b = plan.bytes(model, shape, w.largest, seen)
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
  local pixels = with_pixels(list)
  local settings = { loss = "sigmoid", options = { beta = 0.1 }, group = o.group,
    tokens_per_step = o.tokens_at_once or 0 }
  local reference = base
  if o.cached then
    native.scope(function()
      with_features(list, pixels)
      local kept = native.no_grad(base.pairs, base, lucid.forest.pairs(list, o.group))
      for _, name in ipairs { "chosen", "rejected", "tokens" } do kept[name]:keep() end
      reference = { pairs = function() return kept end }
    end)
  end
  local steps, loss = lucid.dpo.steps(model, reference, settings), nil
  local function once()
    loss = 0
    native.scope(function()
      with_features(list, pixels)
      for _, part in ipairs(steps.split { list }) do
        native.scope(function()
          local value = steps.loss(part)
          value:backward()
          loss = loss + value:item()
        end)
      end
    end)
    optimizer:step(1e-6)
  end
  once()
  local seconds = {}
  for i = 1, o.steps do seconds[i] = timing.seconds({ run = once }, 1, wait) end
  local w, bytes = planned(list, o.group, o.cached, o.tokens_at_once or 0)
  local result = { seconds = seconds, pairs = #list, tokens = w.policy.tokens, loss = loss,
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
