-- Quantised weights a second time, from the formats' descriptions and number by number: codes first, then what a
-- code stands for. Doubles are rounded to f32 where the formats compute in f32.
local ffi = require "ffi"

local M = {}

local cell = ffi.new "float[1]"
local function f32(x)
  cell[0] = x
  return tonumber(cell[0])
end

local WHOLE = 1.5 * 2 ^ 52        -- what is added to it is rounded to a whole number, ties to even

-- To the nearest half, ties to even: eleven digits, or steps of 2^-24.
local function f16(x)
  local _, exponent = math.frexp(x)
  local step = 2 ^ (math.max(exponent, -13) - 11)
  return (x / step + WHOLE - WHOLE) * step
end
M.f16 = f16

-- bitsandbytes' FP4: what a magnitude must pass to have a code, from the highest on.
local FP4_PASS = { { 0.8333333, 3 }, { 0.583333, 2 }, { 0.4166667, 5 }, { 0.29166667, 4 }, { 0.20833333, 7 },
  { 0.0859375, 6 }, { 0.00260417, 1 } }
local FP4_VALUE = { [0] = 0, 0.005208333, 0.66666667, 1, 0.33333333, 0.5, 0.16666667, 0.25 }

local function fp4(u)
  for _, row in ipairs(FP4_PASS) do
    if math.abs(u) > f32(row[1]) then return f32(FP4_VALUE[row[2]]) * (u < 0 and -1 or 1) end
  end
  return 0
end

local NF4 = { -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
  0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1 }

-- The nearest level; of two that are as near the lower one.
local function nf4(u)
  local best = 1
  for i = 2, #NF4 do
    if math.abs(u - NF4[i]) < math.abs(u - NF4[best]) then best = i end
  end
  return NF4[best]
end

local function four_bits(decode)
  return function(list, from, to, out)
    local most = 0
    for i = from, to do most = math.max(most, math.abs(f16(list[i]))) end
    for i = from, to do
      out[i] = most == 0 and 0 or f16(f32(decode(f32(f16(list[i]) * f32(1 / most))) * most))
    end
  end
end

local function eight_bits(list, from, to, out)
  local most = 0
  for i = from, to do most = math.max(most, math.abs(list[i])) end
  local step = f32(most / 127)
  for i = from, to do
    local code = step == 0 and 0 or f32(list[i] * f32(1 / step))
    out[i] = (code < 0 and -1 or 1) * math.floor(math.abs(code) + 0.5) * f16(step)
  end
end

local KINDS = { q8_0 = { 32, eight_bits }, nf4 = { 64, four_bits(nf4) }, fp4 = { 64, four_bits(fp4) } }

--- What a quantised copy of a list of numbers gives back.
---@param list number[]
---@param kind string
function M.quantise(list, kind)
  local size, block = unpack(KINDS[kind])
  local out = {}
  for from = 1, #list, size do block(list, from, math.min(from + size - 1, #list), out) end
  return out
end

return M
