-- The chosen answers alone: their negative log-likelihood, no preference in it. The control of every preference run,
-- and the anchor in a sum of losses. The mean is over tokens (TRL's); with opt.weights, over pairs of weight * the
-- pair's own mean over tokens, so that a kind of pair counts by its weight and not by its length.
local preference = require "lucid.preference"

return preference { name = "sft", divergence = true, losses = function(s, opt)
  local chosen = s.policy.chosen                      -- every token counts in full, whatever ld_alpha is
  if opt.weights then return chosen / s.chosen_count * -1 end
  return chosen:sum() / s.chosen_count:sum() * -1
end }
