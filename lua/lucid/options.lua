-- Option tables of functions: a name that there is not is an error that tells the nearest one, not a default that is
-- taken without a word.
--
--   local LORA = options "rank alpha targets seed"        LORA:check("lora", opt)
local native = require "lucid.native"

local M = {}

-- Edit distance of two short words.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = diagonal + (a:byte(i) == b:byte(j) and 0 or 1)
      diagonal = row[j]
      row[j] = math.min(row[j] + 1, row[j - 1] + 1, cost)
    end
  end
  return row[#b]
end

--- The name of a list that is nearest to a mistyped one; nil when none is near.
---@param name string
---@param names string[]
---@return string|nil
function M.nearest(name, names)
  local best, least = nil, math.max(2, math.floor(#name / 3)) + 1
  for _, candidate in ipairs(names) do
    if math.abs(#name - #candidate) < least then          -- a distance is no less than that
      local d = distance(name, candidate)
      if d < least then best, least = candidate, d end
    end
  end
  return best
end

---@class lucid.Options
---@field names string[]
---@field known table<string, boolean>
local Options = {}
Options.__index = Options

--- The names that a function's option table may have.
---@param text string      the names, with spaces between
---@return lucid.Options
function M.of(text)
  local self = setmetatable({ names = {}, known = {} }, Options)
  for name in text:gmatch("%S+") do
    self.names[#self.names + 1], self.known[name] = name, true
  end
  return self
end

--- Raises at the caller's line when an option table is none, or has a name that there is not.
---@param what string      the function, as errors call it
---@param opt table|nil
function Options:check(what, opt)
  if opt == nil then return end
  if type(opt) ~= "table" then native.raise(("%s: options are a table, not a %s"):format(what, type(opt))) end
  for name in pairs(opt) do
    if not self.known[name] then
      local near = M.nearest(tostring(name), self.names)
      native.raise(("%s: there is no option '%s'; %s"):format(what, tostring(name),
        near and ("did you mean '%s'?"):format(near) or "known are " .. table.concat(self.names, ", ")))
    end
  end
end

return setmetatable(M, { __call = function(_, text) return M.of(text) end })
