-- Before anything is trained the policy is the reference, bit for bit: pairs of random ids on random models, adapters
-- on and off.
--   lucid tests/gpu/step0.lua SEED [small]
local arrays = require "tests.oracle.arrays"
local lucid = require "lucid"
local models = require "tests.gpu.models"
local start = require "lucid.start"

local seed, small = tonumber(arg[1]), arg[2] == "small"
local random = arrays.random(seed)

local function ids(n)
  local list = {}
  for i = 1, n do list[i] = random(3, 300) end
  return list
end

local function pair(number, picture, longest)
  local prompt = ids(8)
  prompt[4] = lucid.IMAGE
  return { id = number, kind = "desc", image = picture, prompt = prompt, chosen = ids(random(1, longest)),
    rejected = ids(random(1, longest)) }
end

local compared = 0
for _, dtype in ipairs { "bf16", "f16", "f32" } do
  lucid.scope(lucid.no_grad, function()
    local m = models.new(models.SMALL, { dtype = dtype, seed = seed })
    m:lora { rank = 16, alpha = 32 }
    local list = {}
    for i = 1, small and 2 or 12 do
      local picture = lucid.randn({ 16, 128 }, { seed = seed + math.ceil(i / 2), dtype = dtype, device = "cuda" })
      list[i] = pair(i, picture, small and 9 or 200)
    end
    local f = lucid.forest.pairs(list)
    local policy = m:pairs(f)
    start.compare(policy, m:base():pairs(f), list)
    compared = compared + policy.tokens:count()
  end)
end
print(("%d log-probabilities of policy and reference are equal, bit for bit"):format(compared))
