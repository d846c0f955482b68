-- Learning-rate schedules, as functions of the step (counted from 1). With s = step - 1 steps done:
-- a linear rise from 0 over the warm-up, so that the first step of a warm-up uses 0, then the curve.
local M = {}

---@class lucid.ScheduleOptions
---@field peak number
---@field warmup integer|nil    steps
---@field steps integer         of the whole run

local function with_warmup(opt, curve)
  local warmup = opt.warmup or 0
  local rest = math.max(1, opt.steps - warmup)
  return function(step)
    local s = step - 1
    if s < warmup then return opt.peak * s / warmup end
    return opt.peak * curve(math.min(1, (s - warmup) / rest))
  end
end

--- Half a cosine down to 0.
---@param opt lucid.ScheduleOptions
---@return function
function M.cosine(opt)
  return with_warmup(opt, function(x) return 0.5 * (1 + math.cos(math.pi * x)) end)
end

--- A straight line down to 0.
---@param opt table
---@return function
function M.linear(opt)
  return with_warmup(opt, function(x) return 1 - x end)
end

--- Warm-up, stable, decay: the peak for three fifths of what follows the warm-up, then a straight
--- line down to 0.
---@param opt table
---@return function
function M.wsd(opt)
  return with_warmup(opt, function(x) return math.min(1, (1 - x) / 0.4) end)
end

--- The peak throughout.
---@param opt table
---@return function
function M.constant(opt)
  return with_warmup(opt, function() return 1 end)
end

return M
