-- Robust DPO (Chowdhury et al. 2024): an estimate of DPO's loss that has no bias when a share e of the labels is
-- flipped: (-(1 - e) log sigmoid(h) + e log sigmoid(-h)) / (1 - 2 e), h = beta * delta.
local preference = require "lucid.preference"

return preference { name = "robust", divergence = true, options = "label_smoothing", losses = function(s, opt)
  local h, e = s.delta * opt.beta, opt.label_smoothing
  return ((-h):log_sigmoid() * e - h:log_sigmoid() * (1 - e)) / (1 - 2 * e)
end }
