-- Estimates with their standard errors and intervals. Questions about one picture are no independent trials, so
-- errors are computed over clusters: what belongs to one picture.
local ffi = require "ffi"
local rng = require "lucid.rng"

local M = {}

-- ---- estimates -------------------------------------------------------------------------------------

--- A ratio of sums over clusters, sum(a) / sum(b): by linearisation, its standard error is that of
--- the clusters' residuals a - ratio * b. Without anything to divide by the value is 0 and
--- undefined is set.
---@param clusters table[]    { a, b } each
---@param n integer           what the metric reports as its n
---@return table              { value, stderr, n, undefined }
function M.ratio(clusters, n)
  local a, b = 0, 0
  for _, c in ipairs(clusters) do a, b = a + c[1], b + c[2] end
  if b == 0 then return { value = 0, n = n, undefined = true } end
  local ratio, squares, count = a / b, 0, #clusters
  for _, c in ipairs(clusters) do
    local residual = c[1] - ratio * c[2]
    squares = squares + residual * residual
  end
  local stderr = count > 1 and math.sqrt(count / (count - 1) * squares) / b or nil
  return { value = ratio, stderr = stderr, n = n }
end

--- The mean of a list of numbers.
---@param list number[]
---@return number
function M.mean(list)
  local clusters = {}
  for i, v in ipairs(list) do clusters[i] = { v, 1 } end
  return M.ratio(clusters, #list)
end

-- ---- bootstrap -------------------------------------------------------------------------------------

M.LEVEL = 0.95          -- how much an interval covers

-- The value below which this part of a sorted list lies, between two of them on a straight line.
local function quantile(sorted, part)
  local at = 1 + part * (#sorted - 1)
  local low = math.floor(at)
  local high = math.min(low + 1, #sorted)
  return sorted[low] + (at - low) * (sorted[high] - sorted[low])
end

--- Percentile intervals: clusters are drawn with replacement, as many as there are, again and again.
---@param clusters integer           how many there are
---@param opt { draws: integer, seed: integer }
---@param estimate fun(times: ffi.cdata*): table<string, number>    times[i]: how often cluster i (from 0) was drawn
---@return table<string, number[]>   { low, high } of each name; empty without draws
function M.bootstrap(clusters, opt, estimate)
  local random, times = rng(opt.seed, "bootstrap"), ffi.new("int32_t[?]", math.max(clusters, 1))
  local values, intervals = {}, {}
  for draw = 1, opt.draws do
    ffi.fill(times, ffi.sizeof(times))
    for _ = 1, clusters do
      local i = random:integer(clusters) - 1
      times[i] = times[i] + 1
    end
    for name, value in pairs(estimate(times)) do
      values[name] = values[name] or {}
      values[name][draw] = value
    end
  end
  local tail = (1 - M.LEVEL) / 2
  for name, list in pairs(values) do
    table.sort(list)
    intervals[name] = { quantile(list, tail), quantile(list, 1 - tail) }
  end
  return intervals
end

-- ---- paired answers -------------------------------------------------------------------------------

local FEW = 25          -- discordant pairs below which McNemar's test is exact

-- P(X <= k) of n fair coins.
local function fair_coins(k, n)
  local term, sum = 2 ^ -n, 0
  for i = 0, k do
    sum = sum + term
    term = term * (n - i) / (i + 1)
  end
  return sum
end

-- The probability that a normal deviate is further from 0 than x: the error function's series where x is small, its
-- continued fraction where it is large.
local function beyond(x)
  local z = x / math.sqrt(2)
  if z < 2 then
    local term, sum, n = z, z, 0
    repeat
      n = n + 1
      term = -term * z * z / n
      sum = sum + term / (2 * n + 1)
    until math.abs(term) < 1e-18
    return 1 - 2 / math.sqrt(math.pi) * sum
  end
  local f = 0
  for k = 200, 1, -1 do f = k / 2 / (z + f) end
  return math.exp(-z * z) / math.sqrt(math.pi) / (z + f)
end

--- McNemar's test of two lists of answers to the same questions, two-sided: the exact binomial one where few differ,
--- else chi-square with continuity correction.
---@param better integer     right here and wrong there
---@param worse integer      wrong here and right there
---@return number p, string test     "exact" or "chi-square"
function M.mcnemar(better, worse)
  local n = better + worse
  if n < FEW then return n == 0 and 1 or math.min(1, 2 * fair_coins(math.min(better, worse), n)), "exact" end
  return beyond(math.max(math.abs(better - worse) - 1, 0) / math.sqrt(n)), "chi-square"
end

return M
