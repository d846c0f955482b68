-- Training runs: what each came to, and the curves of those that the same recipe made.
local keys = require "lucid.keys"
local source = require "lucid.report.source"

local M = {}

local CURVES = { "loss", "eval_loss", "rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected",
  "eval_rewards/margins", "eval_rewards/accuracies", "grad_norm", "learning_rate" }

local function number(v) return type(v) == "number" and v or nil end

-- The first and the last value of a log under a name.
local function ends(log, name)
  local first, last
  for _, record in ipairs(log) do
    local v = number(record[name])
    if v then first, last = first or v, v end
  end
  return first, last
end

--- Adds the curves of runs; a series has its run's place as its colour.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
function M.curves(page, runs)
  for _, name in ipairs(CURVES) do
    local series = {}
    for i, run in ipairs(runs) do
      local s = { name = run.label, x = {}, y = {}, index = i }
      for _, record in ipairs(run.log) do
        if number(record[name]) and number(record.step) then
          s.x[#s.x + 1], s.y[#s.y + 1] = record.step, record[name]
        end
      end
      if #s.x > 1 then series[#series + 1] = s end
    end
    if #series > 0 then page:curves(name, series) end
  end
end

local function labels(runs)
  local names = {}
  for i, run in ipairs(runs) do names[i] = run.label end
  return names
end

local function digits(v) return v and ("%.4f"):format(v) or "" end

local function summary(page, runs)
  local rows = {}
  for i, run in ipairs(runs) do
    local first, last = ends(run.log, "loss")
    local _, margin = ends(run.log, "rewards/margins")
    local _, accuracy = ends(run.log, "rewards/accuracies")
    local _, steps = ends(run.log, "step")
    rows[i] = { run.label, run.options.loss or "", run.options.lr or "", run.options.batch or "", steps or "",
      digits(first), digits(last), digits(margin), digits(accuracy) }
  end
  page:table({ "run", "loss", "peak rate", "batch", "steps", "first loss", "last loss", "last margin",
    "last accuracy" }, rows)
end

--- The section of training runs.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
function M.section(page, runs)
  local by_command = {}
  for _, run in ipairs(runs) do
    if #run.log > 0 then
      local command = run.command or "training"
      by_command[command] = by_command[command] or {}
      table.insert(by_command[command], run)
    end
  end
  local commands = keys(by_command)
  if #commands == 0 then return end
  page:heading("Training")
  for _, command in ipairs(commands) do
    local list = by_command[command]
    page:subheading(source.TRAINING[command] and ("lucid " .. command) or command)
    summary(page, list)
    if #list > 1 then page:legend(labels(list)) end
    M.curves(page, list)
  end
end

return M
