-- Tensors: making, operators, views, printing.      lucid examples/01_tensor.lua
local lucid = require "lucid"

local a = lucid.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
local b = lucid.randn({ 3, 2 }, { seed = 7 })
print(a)
print(a:matmul(b))
print((a + 1) * 2 - a / 2)
print(a:slice(2, 2, 3), a:t(), a:view(3, 2))
print(a:sum():item(), a:mean(1), a:softmax())

-- A scope gives the memory of everything made in it back at its end; what it returns stays.
local kept = lucid.scope(function()
  local big = lucid.zeros { 1000, 1000 }
  return (big + 1):mean()
end)
print(kept, lucid.memory().used)
