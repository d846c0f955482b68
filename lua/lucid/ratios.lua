-- Metrics that are ratios of sums over pictures, with their standard errors and, where they are asked
-- for, intervals.
--
--   ratios(counts, { accuracy = function(c) return c.right, c.n end }, { n = 3000, bootstrap = 1000, seed = 1 })
local statistics = require "lucid.statistics"

-- The parts of one metric for every cluster, summed up with multiplicities.
local function resampled(list, times)
  local a, b = 0, 0
  for i = 1, #list do
    local k = times[i - 1]
    if k > 0 then a, b = a + k * list[i][1], b + k * list[i][2] end
  end
  return b == 0 and 0 or a / b
end

---@class lucid.RatioOptions
---@field n integer                what metrics report as their n
---@field bootstrap integer|nil    draws of the intervals, default 0: none
---@field seed integer|nil         what the draws depend on
---@field derived table<string, fun(values: table): number>|nil    metrics that follow from the values of others

--- One metric a function.
---@param counts table[]           of every picture
---@param parts table<string, fun(counts: table): number, number>    what is divided by what
---@param opt lucid.RatioOptions
---@return table<string, table>    { value, stderr, n, low, high, undefined }
return function(counts, parts, opt)
  local metrics, lists = {}, {}
  for name, f in pairs(parts) do
    local list = {}
    for i, c in ipairs(counts) do list[i] = { f(c) } end
    metrics[name], lists[name] = statistics.ratio(list, opt.n), list
  end
  local derived, values = opt.derived or {}, {}
  for name, m in pairs(metrics) do values[name] = m.value end
  for name, f in pairs(derived) do metrics[name] = { value = f(values), n = opt.n } end
  local intervals = statistics.bootstrap(#counts, { draws = opt.bootstrap or 0, seed = opt.seed or 0 }, function(times)
    local drawn = {}
    for name, list in pairs(lists) do drawn[name] = resampled(list, times) end
    for name, f in pairs(derived) do drawn[name] = f(drawn) end
    return drawn
  end)
  for name, interval in pairs(intervals) do
    local m = metrics[name]
    if not m.undefined then m.low, m.high = unpack(interval) end
  end
  return metrics
end
