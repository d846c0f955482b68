-- Hinge on the margin (SLiC, Zhao et al. 2023; RSO, Liu et al. 2023): max(0, 1 - beta * delta).
local preference = require "lucid.preference"

return preference { name = "hinge", divergence = true, losses = function(s, opt)
  return (1 - s.delta * opt.beta):relu()
end }
