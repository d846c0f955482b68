-- Hinge on the margin (SLiC, Zhao et al. 2023; RSO, Liu et al. 2023): max(0, 1 - beta * margin).
local rewards = require "lucid.rewards"

---@param policy lucid.PairLogps
---@param reference lucid.PairLogps|nil
---@param opt table                        beta; weights = [N]
return function(policy, reference, opt)
  local beta = opt.beta or 0.1
  local losses = (rewards.margin(policy, reference) * -beta + 1):relu()
  return rewards.mean(losses, opt.weights), rewards.stats(policy, reference, beta)
end
