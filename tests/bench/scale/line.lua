-- Straight lines through measured points.
local M = {}

--- The line of least squares y = a + b x, and how far the points are from it at most, as a part of their values.
---@param x number[]
---@param y number[]
---@return { a: number, b: number, off: number }
function M.fit(x, y)
  local n, sx, sy, sxx, sxy = #x, 0, 0, 0, 0
  for i = 1, n do sx, sy = sx + x[i], sy + y[i] end
  for i = 1, n do
    sxx, sxy = sxx + (x[i] - sx / n) ^ 2, sxy + (x[i] - sx / n) * (y[i] - sy / n)
  end
  local line = { b = sxy / sxx, off = 0 }
  line.a = (sy - line.b * sx) / n
  for i = 1, n do line.off = math.max(line.off, math.abs(line.a + line.b * x[i] - y[i]) / math.abs(y[i])) end
  return line
end

return M
