-- Estimates with their standard errors. Questions about one picture are no independent trials, so
-- errors are computed over clusters: what belongs to one picture.
local M = {}

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
function M.mean(list)
  local clusters = {}
  for i, v in ipairs(list) do clusters[i] = { v, 1 } end
  return M.ratio(clusters, #list)
end

return M
