-- Endless draws from a list, reshuffled every time round: a function of (seed, name) alone.
local rng = require "lucid.rng"

---@param list any[]
---@param seed integer
---@param name string      of the random stream
---@return fun(): any
return function(list, seed, name)
  local order, at, round = {}, 0, 0
  return function()
    if at == #order then
      order, at, round = {}, 0, round + 1
      for i = 1, #list do order[i] = list[i] end
      rng(seed, name .. ":" .. round):shuffle(order)
    end
    at = at + 1
    return order[at]
  end
end
