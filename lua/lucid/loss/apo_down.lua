-- APO-down (D'Oosterlinck et al. 2024, equation 8): both answers down, the rejected one further:
-- sigmoid(beta ratio+) + 1 - sigmoid(beta (ratio+ - ratio-)). For chosen answers worse than the model's own.
local preference = require "lucid.preference"

return preference { name = "apo_down", losses = function(s, opt)
  local margin = (s.chosen_ratio - s.rejected_ratio) * opt.beta
  return (s.chosen_ratio * opt.beta):sigmoid() + 1 - margin:sigmoid()
end }
