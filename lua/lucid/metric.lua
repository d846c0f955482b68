-- lucid.metric.NAME.score(records, opt) -> { NAME = { value, stderr, n } }: one file each in metric/, or a
-- .lua file of the user's own.
local find = require("lucid.plug")("metric")

local M = {}

local function is_number(v) return type(v) == "number" and v == v and math.abs(v) < math.huge end

-- What a metric has made of the records, when it is what a metric makes.
local function checked(name, metrics)
  if type(metrics) ~= "table" then
    error(("metric %s: its score returns a %s, not { NAME = { value = } }"):format(name, type(metrics)), 0)
  end
  for key, m in pairs(metrics) do
    if type(m) ~= "table" or not is_number(m.value) then
      error(("metric %s: %s has no value that is a finite number"):format(name, tostring(key)), 0)
    end
  end
  return metrics
end

-- A function that makes metrics of records, its results checked.
local function checking(name, f)
  return f and function(...) return checked(name, f(...)) end
end

---@class lucid.Metric
---@field needs string|nil
---@field score function            (records, opt) -> { NAME = { value, stderr, n } }
---@field compare function|nil      the same of records that have an earlier answer each
---@field decided function|nil      whether nothing that may follow an answer's text changes how it is read
---@field shape function|nil        metrics as --json prints them, where that is another form

--- The metric of a name, for records that hold "answers" or "descriptions"; its results are checked.
---@param name string
---@param holds string
---@return lucid.Metric
function M.of(name, holds)
  local metric = find[name]
  if metric.needs ~= nil and metric.needs ~= holds then
    error(("metric %s needs %s; here are %s"):format(name, metric.needs, holds), 0)
  end
  return { needs = metric.needs, score = checking(name, metric.score), compare = checking(name, metric.compare),
    decided = metric.decided, shape = metric.shape }
end

return setmetatable(M, { __index = find })
