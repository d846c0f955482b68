-- The f-divergences between policy and reference that a loss may be built on (f-DPO, Wang et al. 2023), under
-- TRL's names. Each is f' of the ratio of probabilities, written for its logarithm: log ratios [N] -> scores [N].
local MOST = 80            -- exp of more is near f32's largest number

local M = {}

--- KL of the policy from the reference: DPO as published.
---@param ratio lucid.Tensor
---@return lucid.Tensor
function M.reverse_kl(ratio) return ratio end

--- f'(t) = 1 - 1 / t.
---@param ratio lucid.Tensor
---@return lucid.Tensor
function M.forward_kl(ratio) return 1 - (ratio * -1):exp() end

--- f'(t) = log(2 t / (t + 1)), Jensen and Shannon's.
---@param ratio lucid.Tensor
---@return lucid.Tensor
function M.js_divergence(ratio) return ratio:log_sigmoid() + math.log(2) end

--- f'(t) = (t^(alpha - 1) - 1) / (alpha - 1); alpha 1 is its limit, reverse_kl.
---@param ratio lucid.Tensor
---@param alpha number
---@return lucid.Tensor
function M.alpha_divergence(ratio, alpha)
  local power = alpha - 1
  if math.abs(power) < 1e-6 then return ratio end
  return ((ratio * power):clamp(-math.huge, MOST):exp() - 1) / power
end

return M
