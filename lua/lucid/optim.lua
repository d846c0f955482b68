-- Optimizers over a list of { name, tensor }.
local ffi = require "ffi"
local native = require "lucid.native"

local C = native.C
local M = {}
local AdamW = {}
AdamW.__index = AdamW

---@class lucid.AdamWOptions
---@field betas number[]|nil         default { 0.9, 0.999 }
---@field eps number|nil             default 1e-8
---@field weight_decay number|nil    decoupled, default 0
---@field clip number|nil            gradients are scaled down to this global 2-norm; 0 or nil: never

--- AdamW (Loshchilov and Hutter 2019) with f32 state.
---@param parameters table[]         { name, tensor }, as model:parameters() gives them
---@param opt lucid.AdamWOptions|nil
---@return table
function M.adamw(parameters, opt)
  opt = opt or {}
  local betas = opt.betas or { 0.9, 0.999 }
  local handle = ffi.gc(native.check(C.lc_adamw_new(betas[1], betas[2], opt.eps or 1e-8,
    opt.weight_decay or 0)), C.lc_adamw_free)
  for _, p in ipairs(parameters) do native.check(C.lc_adamw_add(handle, p.tensor, p.name)) end
  return setmetatable({ handle = handle, parameters = parameters, clip = opt.clip or 0 }, AdamW)
end

--- The gradients' global 2-norm; NaN when one of them is not finite.
---@return number
function AdamW:norm()
  local norm = C.lc_adamw_grad_norm(self.handle)
  if norm == -1 then native.fail() end
  return norm
end

--- Clears all gradients, as a step does that is not taken.
function AdamW:clear()
  for _, p in ipairs(self.parameters) do C.lc_tensor_zero_grad(p.tensor) end
end

--- One step: every parameter that has a gradient is changed, all gradients are cleared. Returns the
--- gradients' global 2-norm before clipping. A norm that is not finite raises, and changes nothing.
---@param lr number
---@param norm number|nil    the norm, where it is known
---@return number
function AdamW:step(lr, norm)
  norm = norm or self:norm()
  if norm ~= norm then error("step: a gradient is not finite; nothing was changed", 2) end
  -- PyTorch's clip_grad_norm_ divides by the norm plus 1e-6.
  local scale = self.clip > 0 and math.min(1, self.clip / (norm + 1e-6)) or 1
  native.check(C.lc_adamw_step(self.handle, lr, scale))
  return norm
end

--- Steps taken so far.
---@return integer
function AdamW:steps() return tonumber(C.lc_adamw_steps(self.handle)) end

--- Adds the state to a checkpoint that is being written; reads it back from one.
---@param writer ffi.cdata*
function AdamW:save(writer) native.check(C.lc_adamw_save(self.handle, writer)) end
--- Takes over a saved state.
---@param checkpoint ffi.cdata*
function AdamW:load(checkpoint) native.check(C.lc_adamw_load(self.handle, checkpoint)) end

return M
