-- What every preference loss logs, under TRL's names. A reward is beta * (policy - reference), of the sums over an
-- answer's tokens whatever the loss makes of them; reference-free it is beta * policy. A measure without gradient.
local M = {}

-- The mean of a list in which element i stands counts[i] times.
local function mean(list, counts)
  local sum, n = 0, 0
  for i = 1, #list do
    local count = counts and counts[i] or 1
    sum, n = sum + list[i] * count, n + count
  end
  return n > 0 and sum / n or 0
end

--- What a step logs of its pairs.
---@param s table           { chosen =, rejected =, ref_chosen =, ref_rejected = }: [N] each, the last two or nil
---@param beta number
---@param counts any|nil    [N]: how often each pair counts; nil: once
---@return table<string, number>
function M.stats(s, beta, counts)
  counts = counts and counts:tolist()
  local pc, pr = s.chosen:tolist(), s.rejected:tolist()
  local rc, rr = s.ref_chosen and s.ref_chosen:tolist(), s.ref_rejected and s.ref_rejected:tolist()
  local chosen, rejected, won = {}, {}, {}
  for i = 1, #pc do
    chosen[i] = beta * (pc[i] - (rc and rc[i] or 0))
    rejected[i] = beta * (pr[i] - (rr and rr[i] or 0))
    won[i] = chosen[i] > rejected[i] and 1 or 0
  end
  local margin = mean(chosen, counts) - mean(rejected, counts)
  local stats = {
    ["logps/chosen"] = mean(pc, counts), ["logps/rejected"] = mean(pr, counts),
    ["rewards/chosen"] = mean(chosen, counts), ["rewards/rejected"] = mean(rejected, counts),
    ["rewards/margins"] = margin, ["rewards/accuracies"] = mean(won, counts),
  }
  if rc then stats["ref_logps/chosen"], stats["ref_logps/rejected"] = mean(rc, counts), mean(rr, counts) end
  return stats
end

return M
