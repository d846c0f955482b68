-- APO-zero (D'Oosterlinck et al. 2024, equation 7): the chosen answer up, the rejected one down:
-- 1 - sigmoid(beta ratio+) + sigmoid(beta ratio-). For chosen answers better than the model's own.
local preference = require "lucid.preference"

return preference { name = "apo_zero", losses = function(s, opt)
  return 1 - (s.chosen_ratio * opt.beta):sigmoid() + (s.rejected_ratio * opt.beta):sigmoid()
end }
