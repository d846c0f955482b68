-- AOT, unpaired (Melnyk et al. 2024): the chosen answers' log ratios as a distribution above the rejected ones',
-- sorted over the batch and compared rank by rank with DPO's loss. Which answers make a pair plays no part.
local preference = require "lucid.preference"

return preference { name = "aot_unpaired", options = "label_smoothing", sorts = true, losses = function(s, opt)
  local e, h = opt.label_smoothing, (s.chosen_ratio:sort() - s.rejected_ratio:sort()) * opt.beta
  return h:log_sigmoid() * (e - 1) - (-h):log_sigmoid() * e
end }
