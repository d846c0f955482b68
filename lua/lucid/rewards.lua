-- What every preference loss logs, under TRL's names. A reward is beta * (policy - reference), a
-- measure without gradient.
local M = {}

local function mean(list)
  local sum = 0
  for i = 1, #list do sum = sum + list[i] end
  return #list > 0 and sum / #list or 0
end

---@param policy lucid.PairLogps
---@param reference lucid.PairLogps|nil
---@param beta number
---@return table<string, number>
function M.stats(policy, reference, beta)
  local pc, pr = policy.chosen:tolist(), policy.rejected:tolist()
  local stats = { ["logps/chosen"] = mean(pc), ["logps/rejected"] = mean(pr) }
  if not reference then return stats end
  local rc, rr = reference.chosen:tolist(), reference.rejected:tolist()
  local chosen, rejected, won = {}, {}, 0
  for i = 1, #pc do
    chosen[i], rejected[i] = beta * (pc[i] - rc[i]), beta * (pr[i] - rr[i])
    if chosen[i] > rejected[i] then won = won + 1 end
  end
  stats["rewards/chosen"], stats["rewards/rejected"] = mean(chosen), mean(rejected)
  stats["rewards/margins"] = mean(chosen) - mean(rejected)
  stats["rewards/accuracies"] = #pc > 0 and won / #pc or 0
  stats["ref_logps/chosen"], stats["ref_logps/rejected"] = mean(rc), mean(rr)
  return stats
end

--- How much more the policy prefers the chosen answers than the reference does: [N].
function M.margin(policy, reference)
  local own = policy.chosen - policy.rejected
  return reference and own - (reference.chosen - reference.rejected) or own
end

--- The mean over pairs of weight * loss.
---@param losses any           [N]
---@param weights any|nil      [N]
function M.mean(losses, weights)
  return (weights and losses * weights or losses):mean()
end

return M
