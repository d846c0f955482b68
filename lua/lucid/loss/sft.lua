-- The chosen answers alone: their negative log-likelihood, no preference in it. The control of every preference run,
-- and the anchor in a sum of losses. The mean is over tokens (TRL's); with opt.weights, over pairs of weight * the
-- pair's own mean over tokens, so that a kind of pair counts by its weight and not by its length. WPO's weights come on
-- top of the batch's mean, which makes parts of a batch depend on each other.
local preference = require "lucid.preference"

local function losses(s, opt)
  local chosen = s.policy.chosen                      -- every token counts in full, whatever ld_alpha is
  if opt.weights then return chosen / s.chosen_count * -1 end
  local whole = opt.whole
  if not whole then return chosen:sum() / s.chosen_count:sum() * -1 end
  return (whole.counts and chosen * whole.counts or chosen):sum() * (-1 / whole.tokens)
end

return preference { name = "sft", divergence = true, losses = losses,
  joint = function(opt) return opt.use_weighting end }
