-- Numbers with so many decimal places, rounded as C and Python do it: to the nearest by their exact
-- value, and to an even last digit where two are equally near. LuaJIT's own %.2f rounds those up, and
-- they are common: 100 of 800 pixels are 0.125.
local M = {}

--- A number as a text with so many places.
---@param v number
---@param places integer
---@return string
function M.text(v, places)
  -- Half-way between two decimals of p places lie exactly the odd multiples of 1 / 2^(p + 1).
  local halves = v * 2 ^ (places + 1)
  if halves % 2 == 1 then
    local below = math.floor(v * 10 ^ places)
    v = (below % 2 == 0 and below or below + 1) / 10 ^ places
  end
  return (("%%.%df"):format(places)):format(v)
end

--- The number that such a text stands for.
---@param v number
---@param places integer
---@return number
function M.round(v, places) return tonumber(M.text(v, places)) end

return M
