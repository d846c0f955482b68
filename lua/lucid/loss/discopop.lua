-- DiscoPOP (Lu et al. 2024, equation 5), a loss that a language model found: between DPO's -log sigmoid(h) and
-- exp(-h), mixed by sigmoid(h / tau), h = beta * delta.
local preference = require "lucid.preference"

return preference { name = "discopop", divergence = true, options = "discopop_tau", losses = function(s, opt)
  local h = s.delta * opt.beta
  local mix = (h / opt.discopop_tau):sigmoid()
  return (-h):exp() * mix - h:log_sigmoid() * (1 - mix)
end }
