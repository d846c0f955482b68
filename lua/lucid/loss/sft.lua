-- The chosen answers alone: their negative log-likelihood, no preference in it. The control of
-- every preference run. The mean is over tokens (TRL's); with weights, over pairs of weight * the
-- pair's own mean over tokens, so that a kind of pair counts by its weight and not by its length.
local rewards = require "lucid.rewards"

---@param policy lucid.PairLogps
---@param reference lucid.PairLogps|nil   only for the logged rewards
---@param opt table                        beta (of the logged rewards); weights = [N]
return function(policy, reference, opt)
  local stats = rewards.stats(policy, reference, opt.beta or 0.1)
  if opt.weights then
    return rewards.mean(policy.chosen / policy.chosen_count * -1, opt.weights), stats
  end
  return policy.chosen:sum() / policy.chosen_count:sum() * -1, stats
end
