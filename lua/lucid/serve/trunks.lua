-- What many prompts begin with, run once and kept: a picture with the words before it. The least recently used go
-- when they hold more bytes than they may; a prompt that has joined one keeps what it needs of it.
local M = {}
local Trunks = {}
Trunks.__index = Trunks

---@class lucid.Trunks
---@field bytes number          held by those that are kept
---@field hits integer          prompts that found theirs
---@field misses integer

--- An empty set.
---@param budget number         bytes that may be held
---@param drop fun(leaf: integer)   lets a trunk's leaf go
---@return table
function M.new(budget, drop)
  return setmetatable({ budget = budget, drop = drop, kept = {}, count = 0, bytes = 0, clock = 0, hits = 0,
    misses = 0 }, Trunks)
end

local function touch(self, trunk)
  self.clock = self.clock + 1
  trunk.used = self.clock
  return trunk
end

local function oldest(self, except)
  local found
  for _, trunk in pairs(self.kept) do
    if trunk ~= except and (not found or trunk.used < found.used) then found = trunk end
  end
  return found
end

local function let_go(self, trunk)
  self.kept[trunk.key] = nil
  self.count, self.bytes = self.count - 1, self.bytes - trunk.bytes
  self.drop(trunk.leaf)
end

--- The leaf of a trunk; make() -> leaf, bytes runs it where it is not kept. The one asked for last stays until another
--- is made, however large it is.
---@param key string
---@param make fun(): integer, number
---@return integer
function Trunks:get(key, make)
  local trunk = self.kept[key]
  if trunk then
    self.hits = self.hits + 1
    return touch(self, trunk).leaf
  end
  self.misses = self.misses + 1
  local leaf, bytes = make()
  trunk = touch(self, { key = key, leaf = leaf, bytes = bytes })
  self.kept[key], self.count, self.bytes = trunk, self.count + 1, self.bytes + bytes
  while self.bytes > self.budget do
    local old = oldest(self, trunk)
    if not old then break end
    let_go(self, old)
  end
  return leaf
end

return M
