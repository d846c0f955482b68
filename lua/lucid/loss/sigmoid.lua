-- DPO (Rafailov et al. 2023): -log sigmoid(beta * delta). With label smoothing it is cDPO (Mitchell 2023), as TRL
-- before 1.0 had it; TRL from 1.0 on ignores label_smoothing here.
local preference = require "lucid.preference"

return preference { name = "sigmoid", divergence = true, options = "label_smoothing", losses = function(s, opt)
  local smoothing = opt.label_smoothing
  if s.reference and not s.weighted and smoothing == 0 and opt.f_divergence_type == "reverse_kl" then
    return s.chosen:dpo_loss(s.rejected, s.ref_chosen, s.ref_rejected, opt.beta)
  end
  local h = s.delta * opt.beta
  local losses = h:log_sigmoid() * (smoothing - 1)
  return smoothing > 0 and losses - (-h):log_sigmoid() * smoothing or losses
end }
