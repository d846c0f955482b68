-- Random numbers for Lua: Philox streams. A number is a function of (seed, stream, place) alone, so
-- what is drawn for one picture or one epoch never depends on what was drawn before.
--
--   local r = lucid.rng(42, "shuffle")      r:uniform()  r:integer(6)  r:shuffle(list)  r:pick(list)
local ffi = require "ffi"
local native = require "lucid.native"

local C = native.C
local M = {}
local Rng = {}
Rng.__index = Rng

-- A name's number: the first 53 bits of its SHA-256.
local function number_of(name)
  if type(name) == "number" then return name end
  local hex = ffi.new("char[65]")
  native.check(C.lc_sha256(name, #name, hex))
  return tonumber(ffi.string(hex, 13), 16)
end

--- The stream of a seed and a name.
---@param seed integer
---@param stream integer|string|nil    a number or a name; default 0
---@return table
function M.new(seed, stream)
  return setmetatable({ seed = seed, stream = number_of(stream or 0), place = 0 }, Rng)
end

--- A number in [0, 1) with 53 random bits.
---@return number
function Rng:uniform()
  self.place = self.place + 1
  return C.lc_uniform(self.seed, self.stream, self.place - 1)
end

--- An integer from 1 to n.
---@param n integer
---@return integer
function Rng:integer(n) return math.floor(self:uniform() * n) + 1 end

--- One element of a list.
---@param list string[]
---@return string
function Rng:pick(list) return list[self:integer(#list)] end

--- Puts a list into random order, in place, and returns it (Fisher and Yates).
---@param list table
---@return table
function Rng:shuffle(list)
  for i = #list, 2, -1 do
    local j = self:integer(i)
    list[i], list[j] = list[j], list[i]
  end
  return list
end

return setmetatable(M, { __call = function(_, ...) return M.new(...) end })
