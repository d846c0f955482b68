-- A loss of one's own: a DPO margin that must reach a target.      lucid llava ... --loss examples/04_own_loss.lua
-- policy and reference hold chosen and rejected, [N] sums of log-probabilities; opt holds beta.
local TARGET = 1

return function(policy, reference, opt)
  local margin = (policy.chosen - policy.rejected) - (reference.chosen - reference.rejected)
  local loss = ((margin * opt.beta - TARGET) * -1):relu():mean()
  return loss, { ["rewards/margins"] = (margin * opt.beta):mean() }
end
