-- IPO (Azar et al. 2023): (margin - 1 / (2 beta))^2, with log-probabilities averaged over an
-- answer's tokens, as its authors and TRL have it.
local rewards = require "lucid.rewards"

local function averaged(logps)
  return { chosen = logps.chosen / logps.chosen_count, rejected = logps.rejected / logps.rejected_count }
end

---@param policy lucid.PairLogps
---@param reference lucid.PairLogps|nil
---@param opt table                        beta; weights = [N]
return function(policy, reference, opt)
  local beta = opt.beta or 0.1
  local p, r = averaged(policy), reference and averaged(reference)
  local distance = rewards.margin(p, r) + -1 / (2 * beta)
  return rewards.mean(distance * distance, opt.weights), rewards.stats(p, r, beta)
end
