-- An axis of a chart: from the least to the greatest value of its series, plain or logarithmic, with round numbers on it.
local M = {}
---@class lucid.Axis
---@field low number       the ends; of a logarithmic axis their logarithms
---@field high number
---@field log boolean
local Axis = {}
Axis.__index = Axis

--- Whether a value is a number that can be drawn: one whose distance from any other is a number, too.
---@param v number
---@return boolean
function M.finite(v) return v == v and math.abs(v) < 1e307 end

--- Where a value lies on the plain axis behind a logarithmic one; nil: it has no place.
---@param v number
---@return number|nil
function Axis:at(v)
  if not M.finite(v) or (self.log and v <= 0) then return nil end
  return self.log and math.log10(v) or v
end

local CLOSE = 1e-12          -- of their size: values that are nearer than this are drawn as one

--- The axis of a field of all series { x = {...}, y = {...} }.
---@param series table[]
---@param field string              "x" or "y"
---@param opt table|nil             { log = boolean, from = least value in place of theirs }
---@return lucid.Axis
function M.new(series, field, opt)
  local self = setmetatable({ log = opt and opt.log or false }, Axis)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(series) do
    for _, v in ipairs(s[field]) do
      local at = self:at(v)
      if at then low, high = math.min(low, at), math.max(high, at) end
    end
  end
  if low > high then low, high = 0, 1 end
  local size = math.max(math.abs(low), math.abs(high))
  if high - low <= CLOSE * size then
    local room = math.max(0.5, 1e-6 * size)
    low, high = low - room, high + room
  end
  self.low, self.high = opt and opt.from or low, high
  return self
end

--- How far along the axis a value lies, 0 to 1; nil: it has no place there.
---@param v number
---@return number|nil
function Axis:part(v)
  local at = self:at(v)
  return at and (at - self.low) / (self.high - self.low)
end

-- Multiples between low and high of 1, 2 or 5 times a power of ten.
local function round(low, high)
  local step = 10 ^ math.floor(math.log10((high - low) / 3))
  for _, factor in ipairs { 5, 2 } do
    if (high - low) / (step * factor) >= 3 then step = step * factor break end
  end
  local list = {}
  -- + 0: ceil makes a minus zero of what is a little below 0
  for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do list[#list + 1] = i * step + 0 end
  return list
end

-- Powers of ten, and between them 2 and 5 where there are few.
local function powers(low, high)
  local step = math.max(1, math.ceil((high - low) / 6))
  local factors = high - low < 2 and { 1, 2, 5 } or { 1 }
  local list = {}
  for power = math.floor(low), math.ceil(high), step do
    for _, factor in ipairs(factors) do
      local v = factor * 10 ^ power
      if math.log10(v) >= low - 1e-9 and math.log10(v) <= high + 1e-9 then list[#list + 1] = v end
    end
  end
  return list
end

--- Round values along the axis, ascending.
---@return number[]
function Axis:ticks()
  if not self.log then return round(self.low, self.high) end
  local list = powers(self.low, self.high)
  if #list >= 2 then return list end
  return round(10 ^ self.low, 10 ^ self.high)          -- less than a factor of two
end

--- The values along the axis with what is written at each, in four digits, or as many more as tell them apart.
---@return { value: number, text: string }[]
function Axis:labels()
  local ticks, list = self:ticks(), nil
  for digits = 4, 17 do
    local form, seen, apart = ("%%.%dg"):format(digits), {}, true
    list = {}
    for i, value in ipairs(ticks) do
      local text = form:format(value)
      apart = apart and not seen[text]
      seen[text], list[i] = true, { value = value, text = text }
    end
    if apart then break end
  end
  return list
end

return M
