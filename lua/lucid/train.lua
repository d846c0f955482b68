-- The training loop that sft and the HA-DPO recipes share: batches in, parameters changed, every step
-- logged. What a batch is and what a step computes is the caller's: two functions.
--
--   train.run { model = m, out = dir, steps = 40, lr = 4e-4, draw = function(step) ... return batch end,
--     loss = function(batch) ... return loss, stats end }
local dist = require "lucid.dist"
local native = require "lucid.native"
local log = require "lucid.log"
local optim = require "lucid.optim"
local progress = require "lucid.progress"
local recipe = require "lucid.recipe"
local schedule = require "lucid.schedule"
local trainable = require "lucid.trainable"

local M = {}

--- What recipes that train share (groups = { lucid.train.OPTIONS }).
M.OPTIONS = { title = "steps",
  { "non-finite", "stop", "a loss or gradient that is no number: stop, or skip the step and count it", { choices = "stop skip" } },
}

local SHOWN = 8         -- samples that an error names

local function add(total, stats, weight)
  for k, v in pairs(stats) do
    if type(v) ~= "number" then v = v:item() end
    total[k] = (total[k] or 0) + v * weight
  end
end

local function finite(x) return x == x and x ~= math.huge and x ~= -math.huge end

---@class lucid.TrainOptions
---@field model table                the model whose parameters are trained
---@field out string|nil             the folder of the log
---@field run lucid.TrainingRun|nil  in its place: the run that keeps checkpoints and may go on from one
---@field steps integer              optimizer steps
---@field draw fun(step: integer, part: integer): table[]|nil    the next batch, called in order from step 1 on; nil: this
---                                  step has no more
---@field loss fun(batch: table[]): any, table, number|nil     one micro-batch: a loss to descend, numbers to log, and
---                                  its share of the step where it is no mean of its own
---@field split (fun(batches: table[][]): table[][])|nil   makes micro-batches of a step's batches; default: these are they
---@field evaluate (fun(): table)|nil              numbers of what was held out, loss among them: with each checkpoint
---@field accumulate integer|nil     batches a step, default 1
---@field epoch integer|nil          samples of an epoch
---@field lr number                  peak learning rate
---@field schedule string|nil        "cosine" (default), "linear", "wsd", "constant"
---@field warmup integer|nil         steps
---@field betas number[]|nil         default { 0.9, 0.999 }
---@field eps number|nil             default 1e-8
---@field weight_decay number|nil    default 0
---@field clip number|nil            global norm; 0 or nil: none
---@field non_finite string|nil      "stop" (default) or "skip"
---@field label string|nil           before the progress bar
---@field quiet boolean|nil
---@field unit string|nil            what stats.count counts, default "pairs"

-- Forward and backward passes of a step's micro-batches, or of this process's share of them. Returns its numbers; and
-- what was not finite, in which batch.
local function pass(opt, batches)
  local stats = {}
  for _, batch in ipairs(batches) do
    local value = native.scope(function()
      local loss, numbers, share = opt.loss(batch)
      local value = loss:item()
      if not finite(value) then return value end
      if not share and #batches > 1 then loss = loss * (1 / #batches) end
      loss:backward()
      add(stats, numbers, share or 1 / #batches)
      return value
    end)
    if not finite(value) then return { loss = value }, ("the loss is %s"):format(tostring(value)), { batch } end
  end
  return stats
end

-- " on desc/1/1, pope/7 ...": the samples of batches that have ids.
local function named(batches)
  local ids, count = {}, 0
  for _, batch in ipairs(batches) do
    for _, sample in ipairs(batch) do
      if type(sample) == "table" and sample.id ~= nil then
        count = count + 1
        if count <= SHOWN then ids[count] = tostring(sample.id) end
      end
    end
  end
  if count == 0 then return "" end
  return (" on %s%s"):format(table.concat(ids, ", "), count > SHOWN and (" ... (%d)"):format(count) or "")
end

local function reason(opt, step, fault, where)
  return ("step %d: %s%s; nothing was saved over earlier results. Lower the learning rate (%g), or leave such steps out with --non-finite skip")
    :format(step, fault, named(where), opt.lr)
end

-- One optimizer step: what it logs, and whether it was taken. Every process comes to the same end.
local function descend(opt, optimizer, step, lr, batches)
  local stats, fault, where = pass(opt, opt.split and opt.split(batches) or batches)
  if fault and opt.non_finite ~= "skip" then error(reason(opt, step, fault, where), 0) end
  stats = dist.sum(stats)
  fault = fault or not finite(stats.loss) and "another process's loss is not finite"
  if not fault then dist.reduce(optimizer.parameters) end
  local norm = not fault and optimizer:norm()
  if norm and not finite(norm) then fault = "a gradient is not finite" end
  stats.learning_rate = lr
  if not fault then
    stats.grad_norm = optimizer:step(lr, norm)
    return stats, true
  end
  if opt.non_finite ~= "skip" then error(reason(opt, step, fault, batches), 0) end
  optimizer:clear()
  return stats, false
end

local function draw(opt, step)
  local batches = {}
  for part = 1, opt.accumulate or 1 do batches[#batches + 1] = opt.draw(step, part) end
  return batches
end

-- Adds to a run's counts what a step has done, and to the step's numbers what the run knows.
local function count(run, stats, taken, batches)
  for _, batch in ipairs(batches) do run.samples = run.samples + #batch end
  if not taken then run.skipped = run.skipped + 1 end
  if run.skipped > 0 then stats.skipped = run.skipped end
end

local function measure(opt, stats)
  for name, value in pairs(opt.evaluate()) do stats["eval_" .. name] = value end
end

local function save(opt, optimizer, record, stats)
  local eval_loss = stats.eval_loss
  opt.run:save(opt.model, optimizer, {
    step = stats.step, steps = opt.steps,
    epoch = opt.epoch and opt.run.samples / opt.epoch, log = record:position(),
    schedule = { name = opt.schedule or "cosine", peak = opt.lr, warmup = opt.warmup or 0 },
    eval_loss = eval_loss and finite(eval_loss) and eval_loss or nil,
  })
end

-- The loop; opt.run is there or opt.out.
local function loop(opt, optimizer, rate, record, bar)
  local run, history = opt.run, {}
  local done = run and run.step or 0
  for step = 1, done do draw(opt, step) end            -- what a resumed run has behind it is drawn and no more
  for step = done + 1, opt.steps do
    local batches = draw(opt, step)
    local stats, taken = descend(opt, optimizer, step, rate(step), batches)
    local due = run and run:due(step, opt.steps)
    stats.step = step
    if run then count(run, stats, taken, batches) end
    if due and opt.evaluate then measure(opt, stats) end
    history[#history + 1] = stats
    if record then record(stats) end
    bar:step(step, stats)
    local stopped = run and dist.stopping()
    if record and (due or stopped) then save(opt, optimizer, record, stats) end
    if stopped then
      dist.wait()                             -- for what the first one saves: whoever ends now ends it, too
      bar:done()
      if record then
        io.stderr:write(("stopped after step %d; --resume auto goes on from %s/checkpoint-%d\n"):format(step, run.out, step))
      end
      break
    end
  end
  return history
end

--- Runs the loop; returns the list of log records of the steps that were taken now. A run finishes the step and saves a
--- checkpoint when SIGINT or SIGTERM comes.
---@param opt lucid.TrainOptions
---@return table[]
function M.run(opt)
  local parameters, run = opt.model:parameters(), opt.run
  if #parameters == 0 then error("train: the model has nothing to train; call m:lora or m:train", 2) end
  local optimizer = optim.adamw(parameters, {
    betas = opt.betas or { 0.9, 0.999 },
    eps = opt.eps or 1e-8,
    weight_decay = opt.weight_decay or 0,
    clip = opt.clip,
  })
  local rate = schedule[opt.schedule or "cosine"] {
    peak = opt.lr, warmup = opt.warmup or 0, steps = opt.steps,
  }
  if run then
    run:restore(opt.model, optimizer)
    run:announce(opt.steps)
  end
  if not opt.quiet and not recipe.nested() then io.stderr:write(trainable.table(parameters)) end
  dist.broadcast(parameters)
  local record = dist.first() and (run and run:log() or log(opt.out)) or nil
  local bar = progress { total = opt.steps, from = run and run.step, label = opt.label, quiet = opt.quiet,
    unit = opt.unit or "pairs" }
  local history
  if run then history = native.held(loop, opt, optimizer, rate, record, bar)
  else history = loop(opt, optimizer, rate, record, bar) end
  if record then record:close() end
  bar:done()
  return history
end

return M
