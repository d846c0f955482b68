-- Our side of make gpu-bench: bench.py asks for one measurement a line, in JSON, and gets one line. "small": sizes that
-- an emulated device can do, which test this file and measure nothing.
--   lucid tests/gpu/bench.lua [small]
--     {"do": "linear", "rows": 8192, "n": 4096, "k": 4096}   ->   {"seconds": [...]}     or {"error": "..."}
-- Numbers are random normal; weights stay, outputs are born in a scope each call; seconds are of one call, of calls
-- that follow each other until the device has done them all.
local bench_pairs = require "tests.gpu.bench_pairs"
local ffi = require "ffi"
local flops = require "lucid.flops"
local lucid = require "lucid"
local models = require "tests.gpu.models"
local native = require "lucid.native"
local plan = require "lucid.plan"

local C = native.C
local small = arg[1] == "small"
local REPEATS, EACH = small and 2 or 5, small and 0 or 0.06     -- of a measurement: how many, and seconds of each
local DEVICE = native.device_name(native.device "cuda")
local ROPE = 10000

-- ---- timing ----------------------------------------------------------------------------------------------

local marker = lucid.zeros({ 1 }, { device = DEVICE })

-- Returns when the device has done everything: what is read has to be there.
local function wait() marker:item() end

local function run_for(f, n)
  wait()
  local started = C.lc_seconds()
  for _ = 1, n do native.scope(f) end
  wait()
  return (C.lc_seconds() - started) / n
end

local function measure(f)
  local n = math.max(1, math.ceil(EACH / math.max(run_for(f, 2), 1e-6)))
  local seconds = {}
  for i = 1, REPEATS do seconds[i] = run_for(f, n) end
  return { seconds = seconds }
end

-- ---- kernels ---------------------------------------------------------------------------------------------

local stream = 0
local function normal(shape, dtype)
  stream = stream + 1
  return lucid.randn(shape, { seed = stream, device = DEVICE, dtype = dtype or "bf16" })
end

local function quiet(f) return function() native.no_grad(f) end end

local M = {}

function M.linear(o)
  local x, w = normal { o.rows, o.k }, normal { o.n, o.k }
  return measure(quiet(function() x:linear(w) end))
end

-- The seven linears of a block, o.shapes = { { n, k }, ... }, with LoRA: forward, and back to input, A and B.
function M.lora(o)
  local layers = {}
  for i, shape in ipairs(o.shapes) do
    local n, k = unpack(shape)
    local l = { x = normal { o.rows, k }, w = normal { n, k }, a = normal({ o.rank, k }, "f32"),
      b = normal({ n, o.rank }, "f32"), dy = normal { o.rows, n } }
    for _, name in ipairs { "x", "a", "b" } do C.lc_tensor_requires_grad(l[name], 1) end
    layers[i] = l
  end
  return measure(function()
    for _, l in ipairs(layers) do
      local y = native.adopt(C.lc_linear_lora(l.x, l.w, l.a, l.b, 2))
      native.check(C.lc_backward_from(y, l.dy))
      for _, name in ipairs { "x", "a", "b" } do l[name]:zero_grad() end
    end
  end)
end

-- Causal attention of separate sequences.
function M.attention(o)
  local parents, lengths = ffi.new("int32_t[?]", o.sequences), ffi.new("int32_t[?]", o.sequences)
  for i = 0, o.sequences - 1 do parents[i], lengths[i] = -1, o.length end
  local forest = ffi.gc(C.lc_forest_new(o.sequences, parents, lengths, nil), C.lc_forest_release)
  local shape = { o.sequences * o.length, o.heads, o.d }
  local q, k, v, dout = normal(shape), normal(shape), normal(shape), normal(shape)
  local function forward() return native.adopt(C.lc_attention(q, k, v, forest, 1 / math.sqrt(o.d))) end
  if not o.backward then return measure(quiet(forward)) end
  for _, t in ipairs { q, k, v } do C.lc_tensor_requires_grad(t, 1) end
  return measure(function()
    native.check(C.lc_backward_from(forward(), dout))
    for _, t in ipairs { q, k, v } do t:zero_grad() end
  end)
end

-- Kernels that memory bounds: bytes that a call has to read and write.
local MEMORY = {
  add = function(rows, width)
    local x, y = normal { rows, width }, normal { rows, width }
    return function() return x + y end, 6 * rows * width
  end,
  rms_norm = function(rows, width)
    local x, w = normal { rows, width }, normal { width }
    return function() return x:rms_norm(w, 1e-5) end, 4 * rows * width
  end,
  swiglu = function(rows, width)
    local x, y = normal { rows, width }, normal { rows, width }
    return function() return native.adopt(C.lc_swiglu(x, y)) end, 6 * rows * width
  end,
  rope = function(rows, width)
    local x = normal { rows, width / 128, 128 }
    local positions = {}
    for i = 1, rows do positions[i] = i % 2048 end
    local at = lucid.tensor(positions, { dtype = "i32", device = DEVICE })
    return function() return native.adopt(C.lc_rope(x, at, ROPE)) end, 4 * rows * width
  end,
}

function M.memory(o)
  local f, bytes = MEMORY[o.kernel](o.rows, o.width)
  local result = measure(quiet(f))
  result.bytes = bytes
  return result
end

-- One AdamW step of f32 parameters, with its norm: 34 bytes each. Making the gradients is timed apart and taken off.
function M.adamw(o)
  local p, g = normal({ o.parameters }, "f32"), normal({ o.parameters }, "f32")
  C.lc_tensor_requires_grad(p, 1)
  local optimizer = lucid.optim.adamw { { name = "p", tensor = p } }
  local function gradient() p.grad = g:detach() * 1 end
  local without = measure(gradient).seconds
  local result = measure(function()
    gradient()
    optimizer:step(1e-6)
  end)
  for i, s in ipairs(result.seconds) do result.seconds[i] = s - without[i] end
  result.bytes = 34 * o.parameters
  return result
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
  for i = 1, o.steps do seconds[i] = run_for(once, 1) end
  local w, bytes = planned(list, o.group, o.cached, o.tokens_at_once or 0)
  local result = { seconds = seconds, pairs = #list, tokens = w.policy.tokens, loss = loss,
    flops = w.flops.policy + w.flops.reference + w.flops.bridge + w.flops.tower, planned_bytes = bytes,
    peak_bytes = tonumber(C.lc_device_memory "peak") }
  forget_reserve()
  return result
end

--- The pairs of a step, for the other side.
function M.pairs(o) return { pairs = bench_pairs.read(o.mix, o.group, o.pairs, small) } end

-- Decoding one row over o.keys keys without adapters, as a merged one is; bytes of weights, keys and values a token.
function M.decode(o)
  open()
  local ids = {}
  for i = 1, o.keys do ids[i] = 3 + i % 250 end
  local b = model:batch(lucid.forest.of { { ids = ids, score_from = #ids + 1 } })
  local warm = small and 1 or 8
  local g = ffi.gc(native.check(C.lc_generator_new(model.handle, b, o.steps + warm, 0)), C.lc_generator_free)
  local chosen = ffi.new "int32_t[1]"
  local function token() native.check(C.lc_generator_step(g, chosen, nil)) end
  for _ = 1, warm do token() end
  local started = C.lc_seconds()
  for _ = 1, o.steps do token() end
  local seconds = (C.lc_seconds() - started) / o.steps
  local bytes = 0
  for _, p in ipairs(model:all_parameters()) do
    if p.part == "language" and not p.name:find "embed_tokens" then bytes = bytes + 2 * p.tensor:count() end
  end
  local shape = flops.shape(model)
  bytes = bytes + 2 * 2 * shape.layers * shape.keys * (o.keys + warm + o.steps / 2)
  return { seconds = { seconds }, bytes = bytes }
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
