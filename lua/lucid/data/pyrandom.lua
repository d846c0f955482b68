-- Python's random.Random for integer seeds: MT19937 (Matsumoto and Nishimura 1998) and the draws
-- that CPython makes from it, so that what the reference drew with `random` can be drawn again.
local bit = require "bit"

local band, bor, bxor, lshift, rshift = bit.band, bit.bor, bit.bxor, bit.lshift, bit.rshift

local M = {}
local Random = {}
Random.__index = Random

local N, SHIFT = 624, 397

-- a * b modulo 2^32, exact: the halves of b keep every product under 2^53.
local function multiply(a, b)
  a = a % 2 ^ 32
  local high = (a * rshift(b, 16)) % 2 ^ 32
  return bit.tobit((high * 2 ^ 16 + a * band(b, 0xffff)) % 2 ^ 32)
end

local function init(state, seed)
  state[0] = bit.tobit(seed)
  for i = 1, N - 1 do
    local p = state[i - 1]
    state[i] = bit.tobit(multiply(bxor(p, rshift(p, 30)), 1812433253) + i)
  end
end

-- init_by_array with the seed's 32-bit words.
local function init_by_words(state, words)
  init(state, 19650218)
  local i, j = 1, 1
  local function next_place()
    i = i + 1
    if i >= N then
      state[0] = state[N - 1]
      i = 1
    end
  end
  for _ = 1, math.max(N, #words) do
    local p = state[i - 1]
    local mixed = bxor(state[i], multiply(bxor(p, rshift(p, 30)), 1664525))
    state[i] = bit.tobit(mixed + words[j] + j - 1)
    next_place()
    j = j % #words + 1
  end
  for _ = 1, N - 1 do
    local p = state[i - 1]
    local mixed = bxor(state[i], multiply(bxor(p, rshift(p, 30)), 1566083941))
    state[i] = bit.tobit(mixed - i)
    next_place()
  end
  state[0] = bit.tobit(0x80000000)
end

local function refill(state)
  for i = 0, N - 1 do
    local y = bor(band(state[i], 0x80000000), band(state[(i + 1) % N], 0x7fffffff))
    local v = bxor(state[(i + SHIFT) % N], rshift(y, 1))
    state[i] = band(y, 1) == 1 and bxor(v, 0x9908b0df) or v
  end
end

--- random.Random(seed).
---@param seed integer    0 to 2^53
---@return table
function M.new(seed)
  local words = {}
  repeat
    words[#words + 1] = seed % 2 ^ 32
    seed = math.floor(seed / 2 ^ 32)
  until seed == 0
  local state = {}
  init_by_words(state, words)
  return setmetatable({ state = state, at = N }, Random)
end

--- The next 32 bits, 0 to 2^32 - 1.
---@return integer
function Random:word()
  if self.at >= N then
    refill(self.state)
    self.at = 0
  end
  local y = self.state[self.at]
  self.at = self.at + 1
  y = bxor(y, rshift(y, 11))
  y = bxor(y, band(lshift(y, 7), 0x9d2c5680))
  y = bxor(y, band(lshift(y, 15), 0xefc60000))
  return bxor(y, rshift(y, 18)) % 2 ^ 32
end

--- random.choice over n things: 1 to n.
---@param n integer
---@return integer
function Random:choice(n)
  local bits, k = n, 0
  while bits > 0 do bits, k = math.floor(bits / 2), k + 1 end
  local r
  repeat r = math.floor(self:word() / 2 ^ (32 - k)) until r < n
  return r + 1
end

return setmetatable(M, { __call = function(_, seed) return M.new(seed) end })
