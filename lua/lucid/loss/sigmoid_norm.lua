-- DPO of scores averaged over an answer's tokens (Tulu 3, Lambert et al. 2024): long answers weigh no more than
-- short ones. beta is larger by their length than DPO's.
local preference = require "lucid.preference"

return preference { name = "sigmoid_norm", divergence = true, losses = function(s, opt)
  local delta = s.chosen_score / s.chosen_count - s.rejected_score / s.rejected_count
  return -(delta * opt.beta):log_sigmoid()
end }
