-- IPO (Azar et al. 2023): (delta - 1 / (2 beta))^2 of scores averaged over an answer's tokens, as its authors and
-- TRL have it.
local preference = require "lucid.preference"

return preference { name = "ipo", divergence = true, losses = function(s, opt)
  local distance = s.chosen_score / s.chosen_count - s.rejected_score / s.rejected_count - 1 / (2 * opt.beta)
  return distance * distance
end }
