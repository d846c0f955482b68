-- EXO (Ji et al. 2024, equation 16): the KL divergence of the policy's preference, sigmoid(beta * delta), from the
-- labels' (1 - e, e); e is label_smoothing.
local preference = require "lucid.preference"

local function demand(opt)
  if opt.label_smoothing == 0 then
    return "label_smoothing: exo_pair needs more than 0; its authors advise 0.001"
  end
end

return preference { name = "exo_pair", divergence = true, options = "label_smoothing", demand = demand,
  losses = function(s, opt)
    local h, e = s.delta * opt.beta, opt.label_smoothing
    local won, lost = h:log_sigmoid(), (-h):log_sigmoid()
    return h:sigmoid() * (won - math.log(1 - e)) + (-h):sigmoid() * (lost - math.log(e))
  end }
