-- SPPO with hard labels (Wu et al. 2024): the chosen answer's log ratio to 1 / (2 beta), the rejected one's to
-- -1 / (2 beta), squared.
local preference = require "lucid.preference"

return preference { name = "sppo_hard", losses = function(s, opt)
  local chosen, rejected = s.chosen_ratio - 0.5 / opt.beta, s.rejected_ratio + 0.5 / opt.beta
  return chosen * chosen + rejected * rejected
end }
