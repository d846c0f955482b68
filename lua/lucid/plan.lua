-- What a run of preference training will cost, said before its first step: pairs, tokens, operations, bytes, seconds.
--
--   local p = plan.make { model = m, pairs = encoded, draw = draw, steps = 300, settings = settings, ... }
--   io.stderr:write(plan.text(p))
local dist = require "lucid.dist"
local features = require "lucid.features"
local flops = require "lucid.flops"
local forest = require "lucid.forest"
local microbatch = require "lucid.microbatch"
local native = require "lucid.native"
local tensor = require "lucid.tensor"

local C = native.C
local M = {}

local BATCHES = 1024          -- that are laid out to be counted; a longer run goes on as these did
local USABLE = 0.9            -- of the memory that is free
local BYTES = { f32 = 4, bf16 = 2, f16 = 2 }

---@class lucid.PlanOptions
---@field pairs lucid.EncodedPair[]
---@field draw fun(): lucid.EncodedPair[]|nil    from the beginning: what the run itself will draw
---@field steps integer
---@field accumulate integer|nil
---@field settings lucid.DpoOptions
---@field references lucid.References|nil     where the reference is kept; nil: it is computed every step
---@field why_live string|nil                 why it is not kept, where that was asked for
---@field model lucid.Model|nil               M.make: the model, its adapters on
---@field shape lucid.Shape|nil               M.work: the same as numbers
---@field unseen integer|nil                  M.work: pictures that the tower has to see; default: all
---@field recompute string|nil                "auto", "on" or "off"
---@field memory number|nil                   bytes that there are for a process; default: its part of the machine's
---@field processes integer|nil               that share each batch; default: as many as there are
---@field beside table[]|nil                  other counts of pairs to say: { { number, words }, ... }

-- ---- work ----------------------------------------------------------------------------------------

local function add(sum, count)
  for key, v in pairs(count) do sum[key] = (sum[key] or 0) + v end
end

-- How many pictures of pairs are not in a set, which takes them in.
local function new_pictures(list, set)
  local n = 0
  for _, p in ipairs(list) do
    local picture = forest.picture(p.image)
    if picture ~= nil and not set[picture] then set[picture], n = true, n + 1 end
  end
  return n
end

-- A step's batches as the parts that each process computes of them: a list a process.
local function parts_of(batches, o)
  local rows, n = o.shape.image_rows, o.processes or dist.size()
  local by, own = microbatch.sharing(o.settings.group, rows), {}
  for rank = 1, n do own[rank] = {} end
  for _, batch in ipairs(batches) do
    for rank, share in ipairs(n > 1 and dist.shares(batch, n, by) or { batch }) do
      if not o.settings.joint or #share > 0 then table.insert(own[rank], share) end
    end
  end
  for rank = 1, n do
    if not o.settings.joint then own[rank] = microbatch.split(own[rank], o.settings, rows) end
  end
  return own
end

-- What one part of a step adds: the policy's pass, the reference's where it runs, and the bridge's in both.
local function add_part(w, part, o)
  local settings, rows = o.settings, o.shape.image_rows
  local count, asked = forest.pairs(part, settings.group):count(rows), part
  if settings.reference_free then asked = {} end
  if o.references then
    asked = {}
    for _, p in ipairs(part) do
      if not w.met[p] and not o.references:has(p) then asked[#asked + 1] = p end
      w.met[p] = true
    end
  end
  add(w.policy, count)
  add(w.reference, forest.pairs(asked, settings.group):count(rows))
  w.parts, w.computed, w.largest = w.parts + 1, w.computed + #part, math.max(w.largest, count.tokens)
  w.scored = math.max(w.scored, count.scored)
  w.pictures = w.pictures + new_pictures(part, {}) + new_pictures(asked, {})
  return count.tokens
end

--- The tokens and operations of a run, by what they are for: of all its processes together. busiest is the share of a
--- step that the process with the most tokens of it has.
---@param o lucid.PlanOptions
---@return table
function M.work(o)
  local accumulate, none = o.accumulate or 1, { tokens = 0, seen = 0, scored = 0 }
  local w = { steps = o.steps, pairs = 0, computed = 0, parts = 0, largest = 0, scored = 0, pictures = 0, met = {}, policy = {},
    reference = {}, apart = {}, processes = o.processes or dist.size() }
  for _, name in ipairs { "policy", "reference", "apart" } do add(w[name], none) end
  local steps = math.min(o.steps, math.max(1, math.floor(BATCHES / accumulate)))
  local busiest = 0
  for _ = 1, steps do
    local batches = {}
    for _ = 1, accumulate do batches[#batches + 1] = o.draw() end
    for _, batch in ipairs(batches) do
      w.pairs = w.pairs + #batch
      add(w.apart, forest.pairs(batch, "none"):count(o.shape.image_rows))
    end
    local most = 0
    for _, parts in ipairs(parts_of(batches, o)) do
      local tokens = 0
      for _, part in ipairs(parts) do tokens = tokens + add_part(w, part, o) end
      most = math.max(most, tokens)
    end
    busiest = busiest + most
  end
  w.busiest = busiest / w.policy.tokens
  local shape, factor, met = o.shape, o.steps / steps, 0
  for _ in pairs(w.met) do met = met + 1 end
  -- What is kept is computed once: pairs that were not met yet are still to come, and no others.
  local later = o.references and math.min(factor, #o.pairs / math.max(1, met)) or factor
  w.factor = factor
  w.flops = {
    policy = factor * (flops.forward(shape, w.policy, true) + flops.backward(shape, w.policy)),
    reference = later * flops.forward(shape, w.reference, false),
    bridge = factor * shape.bridge * w.pictures,
    tower = shape.tower * (o.unseen or new_pictures(o.pairs, {})),
    recompute = factor * flops.recompute(shape, w.policy),
  }
  return w
end

-- ---- memory --------------------------------------------------------------------------------------

-- Bytes that the tape keeps of a token: in one block, and outside of the blocks. The block: its input, its middle, both
-- normalised, what goes into the stream; queries, keys, values, what attention gives; gate, up, their product. Outside: words and pictures, together and in their places, and what the head reads.
local function tape(shape, size)
  return size * (5 * shape.hidden + 2 * shape.heads + 2 * shape.keys + 3 * shape.mlp), size * 4 * shape.hidden
end

local HEAD_ROWS = { cpu = 256, cuda = 1024 }  -- whose logits are there at once: native/ops/loss.c

-- Bytes that scoring rows takes: the logits of some and their slopes, the rows that are read, and what the way back keeps.
local function scoring(model, shape, size, scored)
  local rows = math.min(scored, HEAD_ROWS[model.device:match("%a+")])
  return rows * (shape.vocabulary * (4 + (size < 4 and size or 0)) + shape.hidden * size) + scored * shape.hidden * size
end

-- Bytes that packed weights are expanded to at a time, at most: on a device those of the largest group (gate and up), on
-- the CPU some columns of one weight a thread (native/cpu/gemm_packed.c).
local function expanded(model, shape, size)
  if not model.quant then return 0 end
  return model.device == "cpu" and C.lc_threads_used() * 12 * 2 ^ 20 or 2 * shape.mlp * shape.hidden * size
end

--- Bytes of weights, optimizer, pictures and of a part's activations, kept or recomputed. On a device adapters lie around
--- their weights a second time (native/ops/border.h).
---@param model lucid.Model
---@param shape lucid.Shape
---@param tokens integer        of the largest part
---@param pictures integer      that are remembered
---@param scored integer        rows of the largest part whose logits are asked for
---@return table
function M.bytes(model, shape, tokens, pictures, scored)
  local size = BYTES[model.dtype]
  local b = { weights = 0, optimizer = 0 }
  for _, p in ipairs(model:all_parameters()) do
    b.weights = b.weights + p.tensor:bytes()
  end
  for _, p in ipairs(model:parameters()) do               -- gradient, both moments, and a master of 16 bits
    b.optimizer = b.optimizer + p.tensor:count() * (p.tensor:dtype() == "f32" and 12 or 16)
    if model.device ~= "cpu" and p.name:find("lora_", 1, true) then b.weights = b.weights + p.tensor:count() * size end
  end
  -- On the way back a block's gradients stand beside what is kept of it.
  local block, outside = tape(shape, size)
  local head = scoring(model, shape, size, scored)
  local besides = head + expanded(model, shape, size)
  b.kept = tokens * ((shape.layers + 1) * block + outside) + besides
  b.recomputed = tokens * (shape.layers * size * shape.hidden + 1.5 * block + outside) + besides
  b.picture = shape.features * size
  b.pictures = math.min(pictures * b.picture, features.MOST)
  return b
end

-- Bytes of the host's memory that a process may still have; nil: nobody knows.
local function free_memory()
  local f = io.open("/proc/meminfo")
  if not f then return nil end
  local kilobytes = f:read("*a"):match("MemAvailable:%s*(%d+)")
  f:close()
  return kilobytes and tonumber(kilobytes) * 1024 / C.lc_comm_local()
end

-- Bytes of weights and all else that a run may have: of a device its budget, of the host what is free and what is taken.
local function room_of(model)
  if model.device ~= "cpu" then return tonumber(C.lc_device_memory("budget")) end
  local memory = free_memory()
  return memory and USABLE * memory + tonumber(C.lc_memory_used())
end

-- Whether activations are recomputed, and what to say when memory does not do.
local function choose(b, o, largest)
  b.room = o.memory and USABLE * o.memory or room_of(o.model)
  local fixed = b.weights + b.optimizer + b.pictures
  local recompute = o.recompute == "on" or o.recompute == "auto" and b.room ~= nil and fixed + b.kept > b.room
  b.activations = recompute and b.recomputed or b.kept
  b.all = fixed + b.activations
  if not b.room or b.all <= b.room then return recompute, nil end
  if not recompute and fixed + b.recomputed <= b.room then return recompute, "--recompute on makes it fit" end
  local tokens = math.floor((b.room - fixed) / (b.recomputed / largest))
  if tokens >= 1 and not o.settings.joint then
    return recompute, ("--recompute on --tokens-per-step %d makes it fit, if no pair has more"):format(tokens)
  end
  if tokens >= 1 then return recompute, "a smaller --batch makes it fit" end
  return recompute, o.model.dtype == "f32" and "the model is too large in f32; --dtype bf16 halves it"
    or "the model is too large for this machine"
end

-- ---- time ----------------------------------------------------------------------------------------

local ROWS = 256              -- of the product that is timed

--- Operations a second of this machine's products, measured on a weight of the model.
---@param model lucid.Model
---@return number
function M.speed(model)
  local weight
  for _, p in ipairs(model:all_parameters()) do
    if p.part == "language" and p.name:find("gate_proj%.weight$") then weight = weight or p.tensor end
  end
  return native.scope(native.no_grad, function()
    local x = tensor.randn({ ROWS, weight:size(2) }, { seed = 1, device = weight:device() }):to(model.dtype)
    local best = math.huge
    for _ = 1, 4 do                                       -- the first one packs
      local started = C.lc_seconds()
      x:linear(weight)
      best = math.min(best, C.lc_seconds() - started)
    end
    return 2 * ROWS * weight:count() / best
  end)
end

-- ---- the whole -----------------------------------------------------------------------------------

local function kinds_of(list)
  local count, order = {}, {}
  for _, p in ipairs(list) do
    if not count[p.kind] then order[#order + 1] = p.kind end
    count[p.kind] = (count[p.kind] or 0) + 1
  end
  for i, kind in ipairs(order) do order[i] = ("%d %s"):format(count[kind], kind) end
  return table.concat(order, ", ")
end

--- The plan of a run.
---@param o lucid.PlanOptions
---@return table
function M.make(o)
  local model, all, seen = o.model, {}, 0
  o.shape = flops.shape(model)
  local pictures = new_pictures(o.pairs, all)
  for picture in pairs(all) do
    if type(picture) ~= "string" or model.seen:has(picture) then seen = seen + 1 end
  end
  o.unseen = pictures - seen
  local w = M.work(o)
  local b = M.bytes(model, o.shape, w.largest, pictures, w.scored)
  local recompute, advice = choose(b, o, w.largest)
  local flop = w.flops
  if not recompute then flop.recompute = 0 end
  local total = flop.policy + flop.reference + flop.bridge + flop.tower + flop.recompute
  local kept, answers = 0, 0
  if o.references then kept, answers = o.references:count(o.pairs) end
  local trained = 0
  for _, p in ipairs(model:parameters()) do trained = trained + p.tensor:count() end
  return { work = w, bytes = b, recompute = recompute, advice = advice, total = total, speed = M.speed(model),
    kinds = kinds_of(o.pairs), beside = o.beside or {}, base = model:quantised(), trained = trained,
    pictures = pictures, seen = seen, kept = kept, answers = answers, references = o.references ~= nil,
    settings = o.settings, kind = model.kind, why_live = o.why_live,
    disk = (model.seen.folder and o.unseen * b.picture or 0) + (answers - kept) * 4 * w.apart.scored / (2 * w.pairs) }
end

-- 1234567 as "1.23 M", with the unit's prefix.
local function short(x)
  for _, unit in ipairs { { 1e15, "P" }, { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } } do
    if x >= unit[1] then return ("%.3g %s"):format(x / unit[1], unit[2]) end
  end
  return ("%.3g "):format(x)
end

local function clock(seconds)
  if seconds < 90 then return ("%.0f s"):format(seconds) end
  if seconds < 5400 then return ("%.0f min"):format(seconds / 60) end
  return ("%.1f h"):format(seconds / 3600)
end

local SHARED = {
  image = "a picture's pairs share it and what they have in common",
  pair = "both answers share their prompt",
  none = "nothing is shared",
}

--- The plan as what JSON can hold: counts, floating point operations, bytes, seconds.
---@param p table      what M.make gave
---@return table
function M.plain(p)
  local w, b = p.work, p.bytes
  return { pairs = p.kinds, steps = w.steps, processes = w.processes, trained_parameters = p.trained,
    tokens = { pair = w.policy.tokens / w.pairs, separate = w.apart.tokens / w.pairs, at_once = w.largest },
    operations = { total = p.total, policy = w.flops.policy, reference = w.flops.reference,
      pictures = w.flops.tower + w.flops.bridge, recomputed = p.recompute and w.flops.recompute or 0 },
    bytes = { total = b.all, available = b.room, weights = b.weights, optimizer = b.optimizer, activations = b.activations,
      pictures = b.pictures },
    pictures = { total = p.pictures, kept = p.seen }, reference = { answers = p.answers, kept = p.kept },
    seconds = p.total * w.busiest / p.speed, recompute = p.recompute, advice = p.advice }
end

--- The plan as lines of text.
---@param p table      what M.make gave
---@return string
function M.text(p)
  local w, b, lines = p.work, p.bytes, {}
  local parts = w.parts * w.factor / w.steps / w.processes
  local function say(...) lines[#lines + 1] = string.format(...) end
  local kinds = p.kinds
  for _, count in ipairs(p.beside) do
    if count[1] > 0 then kinds = ("%s, %d %s"):format(kinds, count[1], count[2]) end
  end
  say("pairs: %s; %d steps of %.4g pairs, %s; %d trained parameters", kinds, w.steps,
    w.pairs * w.factor / w.steps, parts > 1 and ("in %.3g parts"):format(parts) or "at once", p.trained)
  if w.processes > 1 then
    say("processes: %d share each step, the busiest has %.0f %% of it; parts and memory below are of one", w.processes,
      100 * w.busiest)
  end
  if p.base then say("base: %s", p.base) end
  local shared = SHARED[p.settings.group]
  if p.settings.group == "image" and p.kind == "instructblip" then
    shared = "its Q-Former reads the question, so pictures share the tower alone"
  end
  say("tokens: %.0f a pair (%.0f as separate sequences), %.0f at once: %s", w.policy.tokens / w.pairs,
    w.apart.tokens / w.pairs, w.largest, shared)
  if p.settings.joint and parts > 1 then
    say("loss: %s depends on what is together in a batch, so each batch of a step counts alone", p.settings.loss)
  end
  say("work: %sFLOP a step, %sFLOP in all: policy %s, reference %s, pictures %s%s", short(p.total / w.steps),
    short(p.total), short(w.flops.policy), short(w.flops.reference), short(w.flops.tower + w.flops.bridge),
    p.recompute and ", recomputed " .. short(w.flops.recompute) or "")
  say("memory: %sB of %s: weights %s, optimizer %s, activations %s%s, pictures %s", short(b.all),
    b.room and short(b.room) .. "B" or "what there is", short(b.weights), short(b.optimizer), short(b.activations),
    p.recompute and " (recomputed)" or "", short(b.pictures))
  say("kept: %d of %d pictures, %s%s", p.seen, p.pictures,
    p.references and ("%d of %d answers of the reference"):format(p.kept, p.answers)
      or p.settings.reference_free and "no reference"
      or "the reference is computed every step" .. (p.why_live and ": " .. p.why_live or ""),
    p.disk > 0 and ("; %sB to come"):format(short(p.disk)) or "")
  say("time: %s or more, at the %sFLOP/s of a product here", clock(p.total * w.busiest / p.speed), short(p.speed))
  if p.advice then say("memory does not do: %sB of %sB; %s", short(b.all), short(b.room), p.advice) end
  return table.concat(lines, "\n") .. "\n"
end

return M
