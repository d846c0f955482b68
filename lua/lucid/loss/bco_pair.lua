-- BCO (Jung et al. 2024) on pairs: a classifier of chosen and rejected answers by reward r = beta * ratio, shifted
-- by d: -log sigmoid(r+ - d) - log sigmoid(d - r-). d is the running mean of the batches' mean rewards, as in TRL
-- before 1.0; bco_shift "none" is TRL from 1.0 on, which has no d. The mean is kept in opt.state.bco_pair, { mean =,
-- count = }; without opt.state d is this batch's mean. A call is a batch: accumulation moves d once a part. Processes
-- that share a batch have its mean in common.
local dist = require "lucid.dist"
local preference = require "lucid.preference"

-- The running mean after one more batch.
local function moved(state, mean)
  local kept = state and state.bco_pair or { mean = 0, count = 0 }
  local now = { mean = kept.mean + (mean - kept.mean) / (kept.count + 1), count = kept.count + 1 }
  if state then state.bco_pair = now end
  return now.mean
end

-- The mean reward of a batch, over all processes.
local function mean_of(chosen, rejected, counts)
  local rewards = chosen:detach() + rejected:detach()
  local all = dist.sum {
    rewards = (counts and rewards * counts or rewards):sum():item() / 2,
    pairs = counts and counts:sum():item() or rewards:count(),
  }
  return all.rewards / all.pairs
end

local function losses(s, opt)
  local chosen, rejected = s.chosen_ratio * opt.beta, s.rejected_ratio * opt.beta
  local shift = 0
  if opt.bco_shift == "running" then
    shift = moved(opt.state, mean_of(chosen, rejected, opt.whole and opt.whole.counts))
  end
  return -(chosen - shift):log_sigmoid() - (shift - rejected):log_sigmoid()
end

return preference { name = "bco_pair", options = "bco_shift", losses = losses, across = true,
  joint = function(opt) return opt.bco_shift == "running" end }
