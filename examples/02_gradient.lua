-- Gradients: a line fitted by gradient descent, and a check of the derivative.
local lucid = require "lucid"

local x = lucid.randn({ 100, 1 }, { seed = 1 })
local y = x * 3 + 0.5
local slope, offset = lucid.zeros({ 1, 1 }):requires_grad(), lucid.zeros({ 1 }):requires_grad()
local adamw = lucid.optim.adamw { { name = "slope", tensor = slope }, { name = "offset", tensor = offset } }

local function loss()
  local miss = x:linear_bias(slope, offset) - y
  return (miss * miss):mean()
end

for step = 1, 300 do
  lucid.scope(function()
    local l = loss()
    l:backward()
    adamw:step(0.05)
    if step % 100 == 0 then print(step, l:item(), slope:item(), offset:item()) end
  end)
end
print(lucid.gradcheck(function(v) return (v:silu() * v):sum() end, { lucid.randn({ 4, 3 }, { seed = 2 }) }))
