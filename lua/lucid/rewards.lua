-- What every preference loss logs, under TRL's names. A reward is beta * (policy - reference), of the sums over an
-- answer's tokens whatever the loss makes of them; reference-free it is beta * policy. A measure without gradient.
local M = {}

local function mean(list)
  local sum = 0
  for i = 1, #list do sum = sum + list[i] end
  return #list > 0 and sum / #list or 0
end

---@param s table           { chosen =, rejected =, ref_chosen =, ref_rejected = }: [N] each, the last two or nil
---@param beta number
---@return table<string, number>
function M.stats(s, beta)
  local pc, pr = s.chosen:tolist(), s.rejected:tolist()
  local rc, rr = s.ref_chosen and s.ref_chosen:tolist(), s.ref_rejected and s.ref_rejected:tolist()
  local chosen, rejected, won = {}, {}, 0
  for i = 1, #pc do
    chosen[i] = beta * (pc[i] - (rc and rc[i] or 0))
    rejected[i] = beta * (pr[i] - (rr and rr[i] or 0))
    if chosen[i] > rejected[i] then won = won + 1 end
  end
  local stats = {
    ["logps/chosen"] = mean(pc), ["logps/rejected"] = mean(pr),
    ["rewards/chosen"] = mean(chosen), ["rewards/rejected"] = mean(rejected),
    ["rewards/margins"] = mean(chosen) - mean(rejected),
    ["rewards/accuracies"] = #pc > 0 and won / #pc or 0,
  }
  if rc then stats["ref_logps/chosen"], stats["ref_logps/rejected"] = mean(rc), mean(rr) end
  return stats
end

return M
