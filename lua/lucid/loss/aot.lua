-- AOT, paired (Melnyk et al. 2024): the policy's margins as a distribution above the reference's. Both are sorted
-- over the batch and compared rank by rank with DPO's loss, so the batch is part of the loss: its size matters.
local preference = require "lucid.preference"

return preference { name = "aot", options = "label_smoothing", sorts = true, losses = function(s, opt)
  local e, delta = opt.label_smoothing, (s.chosen - s.rejected):sort()
  if s.reference then delta = delta - (s.ref_chosen - s.ref_rejected):sort() end
  local h = delta * opt.beta
  return h:log_sigmoid() * (e - 1) - (-h):log_sigmoid() * e
end }
