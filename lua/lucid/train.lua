-- The training loop that sft and the HA-DPO recipes share: batches in, parameters changed, every step
-- logged. What a step computes is the caller's: a function that returns a loss and its numbers.
--
--   train.run { model = m, out = dir, steps = 40, lr = 4e-4, loss = function(step) ... return loss, stats end }
local native = require "lucid.native"
local log = require "lucid.log"
local optim = require "lucid.optim"
local progress = require "lucid.progress"
local schedule = require "lucid.schedule"

local M = {}

local function add(total, stats, weight)
  for k, v in pairs(stats) do
    if type(v) ~= "number" then v = v:item() end
    total[k] = (total[k] or 0) + v * weight
  end
end

local function finite(x) return x == x and x ~= math.huge and x ~= -math.huge end

---@class lucid.TrainOptions
---@field model table                the model whose parameters are trained
---@field out string                 the run's folder
---@field steps integer              optimizer steps
---@field loss fun(step: integer, part: integer): any, table   one micro-batch: a loss to descend and numbers to log
---@field accumulate integer|nil     micro-batches a step, default 1
---@field lr number                  peak learning rate
---@field schedule string|nil        "cosine" (default), "linear", "wsd", "constant"
---@field warmup integer|nil         steps
---@field betas number[]|nil         default { 0.9, 0.999 }
---@field eps number|nil             default 1e-8
---@field weight_decay number|nil    default 0
---@field clip number|nil            global norm; 0 or nil: none
---@field save_every integer|nil     steps between checkpoints; 0 or nil: none
---@field save fun(dir: string)|nil  writes a checkpoint's own files
---@field label string|nil           before the progress bar
---@field quiet boolean|nil
---@field unit string|nil            what stats.count counts, default "pairs"

--- Runs the loop; returns the list of log records.
---@param opt lucid.TrainOptions
function M.run(opt)
  local parameters = opt.model:parameters()
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
  local record = log(opt.out)
  local bar = progress { total = opt.steps, label = opt.label, quiet = opt.quiet, unit = opt.unit or "pairs" }
  local history, parts = {}, opt.accumulate or 1
  for step = 1, opt.steps do
    local stats = {}
    for part = 1, parts do
      native.scope(function()
        local loss, numbers = opt.loss(step, part)
        if parts > 1 then loss = loss * (1 / parts) end
        loss:backward()
        add(stats, numbers, 1 / parts)
      end)
    end
    if not finite(stats.loss) then
      error(("step %d: the loss is %s; nothing was saved over earlier results. Lower the learning rate (%g)"):format(
        step, tostring(stats.loss), opt.lr), 0)
    end
    stats.learning_rate = rate(step)
    stats.grad_norm = optimizer:step(stats.learning_rate)
    stats.step = step
    history[#history + 1] = stats
    record(stats)
    bar:step(step, stats)
    if opt.save_every and opt.save_every > 0 and step % opt.save_every == 0 and opt.save then
      opt.save(("%s/checkpoint-%d"):format(opt.out, step))
    end
  end
  record:close()
  bar:done()
  return history
end

return M
