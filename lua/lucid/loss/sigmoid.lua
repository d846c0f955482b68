-- DPO (Rafailov et al. 2023): -log sigmoid(beta * margin), the mean over pairs.
local rewards = require "lucid.rewards"

---@param policy lucid.PairLogps
---@param reference lucid.PairLogps|nil   nil: reference-free
---@param opt table                        beta; weights = [N]; label_smoothing
return function(policy, reference, opt)
  local beta, smoothing = opt.beta or 0.1, opt.label_smoothing or 0
  local stats = rewards.stats(policy, reference, beta)
  if reference and not opt.weights and smoothing == 0 then
    return policy.chosen:dpo_loss(policy.rejected, reference.chosen, reference.rejected, beta), stats
  end
  local h = rewards.margin(policy, reference) * beta
  local losses = h:log_sigmoid() * (smoothing - 1)
  if smoothing > 0 then losses = losses - (h * -1):log_sigmoid() * smoothing end
  return rewards.mean(losses, opt.weights), stats
end
