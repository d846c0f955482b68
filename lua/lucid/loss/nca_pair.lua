-- NCA (Chen et al. 2024): pairs seen through rewards r = beta * ratio, each answer against noise:
-- -log sigmoid(r+) - (log sigmoid(-r+) + log sigmoid(-r-)) / 2. It keeps the chosen answer's likelihood from falling.
local preference = require "lucid.preference"

return preference { name = "nca_pair", losses = function(s, opt)
  local chosen, rejected = s.chosen_ratio * opt.beta, s.rejected_ratio * opt.beta
  return -chosen:log_sigmoid() - ((-chosen):log_sigmoid() + (-rejected):log_sigmoid()) * 0.5
end }
