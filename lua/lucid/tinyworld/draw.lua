-- The tiny world's pictures: a scene drawn into RGB bytes, row by row. Light background with a
-- vertical gradient, flat pictograms, a little noise; the same scene and stream give the same
-- bytes.
local ffi = require "ffi"
local bit = require "bit"
local native = require "lucid.native"
local world = require "lucid.tinyworld.world"

local C = native.C
local M = {}
local SIDE = world.SIDE

-- ---- pictograms ----------------------------------------------------------------------------------
-- Each says what is at (u, v), both in 0..1 with v downwards: nil nothing, INK the object's colour,
-- DARK or LIGHT a shade of it.

local INK, DARK, LIGHT = 1, 2, 3

local function within(x, low, high) return x >= low and x <= high end

local function disc(u, v, x, y, radius)
  return (u - x) * (u - x) + (v - y) * (v - y) <= radius * radius
end

local PICTOGRAM = {}

function PICTOGRAM.car(u, v)
  if disc(u, v, 0.25, 0.8, 0.15) or disc(u, v, 0.75, 0.8, 0.15) then return DARK end
  if within(v, 0.28, 0.48) and (within(u, 0.28, 0.46) or within(u, 0.54, 0.72)) then return LIGHT end
  if within(v, 0.2, 0.5) and within(u, 0.2, 0.8) then return INK end
  if within(v, 0.48, 0.8) then return INK end
end

function PICTOGRAM.road(u, v)
  if math.abs(u - 0.5) < 0.06 and math.floor(v * 5) % 2 == 0 then return LIGHT end
  if math.abs(u - 0.5) < 0.14 + 0.36 * v then return INK end
end

function PICTOGRAM.boat(u, v)
  if within(v, 0.66, 0.95) and math.abs(u - 0.5) < 0.5 - 0.6 * (v - 0.66) then return INK end
  if math.abs(u - 0.46) < 0.05 and v < 0.66 then return DARK end
  if within(v, 0.06, 0.58) and within(u, 0.52, 0.52 + 0.85 * (v - 0.06)) then return INK end
end

function PICTOGRAM.water(u, v)
  local wave = math.abs((2 * u) % 1 - 0.5) * 0.3
  for k = 0, 2 do
    if math.abs(v - 0.12 - 0.32 * k - wave) < 0.075 then return INK end
  end
end

function PICTOGRAM.house(u, v)
  if v < 0.45 then return math.abs(u - 0.5) < 0.5 * (v + 0.06) / 0.45 and DARK or nil end
  if within(u, 0.42, 0.6) and v > 0.65 then return LIGHT end
  if within(u, 0.12, 0.88) then return INK end
end

function PICTOGRAM.tree(u, v)
  if disc(u, v, 0.5, 0.35, 0.35) then return INK end
  if math.abs(u - 0.5) < 0.1 and v > 0.6 then return DARK end
end

function PICTOGRAM.sun(u, v)
  local x, y = math.abs(u - 0.5), math.abs(v - 0.5)
  if disc(u, v, 0.5, 0.5, 0.25) then return INK end
  if disc(u, v, 0.5, 0.5, 0.33) then return nil end
  if x < 0.05 or y < 0.05 or math.abs(x - y) < 0.06 then return INK end
end

function PICTOGRAM.cloud(u, v)
  if disc(u, v, 0.26, 0.58, 0.23) or disc(u, v, 0.5, 0.42, 0.25) or disc(u, v, 0.75, 0.58, 0.22)
    or (within(v, 0.55, 0.78) and within(u, 0.25, 0.76)) then
    return v < 0.34 and LIGHT or INK
  end
end

function PICTOGRAM.table(u, v)
  if within(v, 0.28, 0.46) then return INK end
  if within(v, 0.46, 0.96) and (within(u, 0.08, 0.22) or within(u, 0.78, 0.92)) then return DARK end
end

function PICTOGRAM.chair(u, v)
  if within(u, 0.18, 0.34) then return INK end
  if within(v, 0.48, 0.64) and within(u, 0.18, 0.82) then return INK end
  if within(u, 0.68, 0.82) and v > 0.64 then return INK end
end

function PICTOGRAM.dog(u, v)
  if disc(u, v, 0.84, 0.26, 0.06) then return LIGHT end
  if disc(u, v, 0.78, 0.3, 0.2) then return INK end
  if within(v, 0.42, 0.7) and within(u, 0.12, 0.76) then return INK end
  if within(u, 0.02, 0.14) and within(v, 0.2, 0.52) then return INK end
  if v > 0.7 and (within(u, 0.14, 0.28) or within(u, 0.6, 0.74)) then return DARK end
end

function PICTOGRAM.ball(u, v)
  if not disc(u, v, 0.5, 0.5, 0.48) then return nil end
  return math.abs(v - 0.5) < 0.09 and LIGHT or INK
end

-- A pictogram's bytes at one size, made once.
local masks = {}

local function mask(name, size)
  local key = name .. size
  if not masks[key] then
    local bytes = ffi.new("uint8_t[?]", size * size)
    for y = 0, size - 1 do
      for x = 0, size - 1 do
        bytes[y * size + x] = PICTOGRAM[name]((x + 0.5) / size, (y + 0.5) / size) or 0
      end
    end
    masks[key] = bytes
  end
  return masks[key]
end

-- ---- noise ------------------------------------------------------------------------------------------
-- Rounded normal deviates of standard deviation 4, picked by one random byte each: entry i is the
-- quantile at (i + 0.5) / 256.

local NOISE = ffi.new("int8_t[256]")
do
  local SIGMA, STEP = 4, 1 / 64
  local cumulated, x, total = 0, -5, 0
  for k = 0, 10 / STEP do
    local z = -5 + k * STEP
    total = total + math.exp(-z * z / 2)
  end
  for i = 0, 255 do
    local wanted = (i + 0.5) / 256 * total
    while cumulated < wanted do
      cumulated = cumulated + math.exp(-x * x / 2)
      x = x + STEP
    end
    NOISE[i] = math.floor(SIGMA * (x - STEP) + 0.5)
  end
end

local words = ffi.new("uint32_t[4]")

local function clamp(v) return v < 0 and 0 or v > 255 and 255 or v end

local function add_noise(pixels, seed, stream)
  for i = 0, SIDE * SIDE * 3 / 16 - 1 do
    C.lc_philox(seed, stream, i, words)
    local at = i * 16
    for w = 0, 3 do
      local v = words[w]
      for b = 0, 3 do
        local n = NOISE[bit.band(bit.rshift(v, 8 * b), 255)]
        pixels[at] = clamp(pixels[at] + n)
        at = at + 1
      end
    end
  end
end

-- ---- the picture ----------------------------------------------------------------------------------------

local function paint_background(pixels, background, slope)
  local at = 0
  for y = 0, SIDE - 1 do
    local lift = slope * (2 * y / (SIDE - 1) - 1)
    local red = clamp(math.floor(background[1] + lift))
    local green = clamp(math.floor(background[2] + lift))
    local blue = clamp(math.floor(background[3] + lift))
    for _ = 0, SIDE - 1 do
      pixels[at], pixels[at + 1], pixels[at + 2] = red, green, blue
      at = at + 3
    end
  end
end

-- The three inks of a pictogram: channel c of level l at [l * 3 + c].
local inks = ffi.new("uint8_t[12]")

local function paint_object(pixels, object)
  for c = 0, 2 do
    local v = object.shade[c + 1]
    inks[INK * 3 + c] = v
    inks[DARK * 3 + c] = math.floor(v * 0.45)
    inks[LIGHT * 3 + c] = math.floor(v * 0.4 + 255 * 0.6)
  end
  local left, top, size = world.box(object)
  local bytes = mask(object.name, size)
  for y = 0, size - 1 do
    local at = ((top + y) * SIDE + left) * 3
    for x = 0, size - 1 do
      local level = bytes[y * size + x]
      if level ~= 0 then
        pixels[at] = inks[level * 3]
        pixels[at + 1] = inks[level * 3 + 1]
        pixels[at + 2] = inks[level * 3 + 2]
      end
      at = at + 3
    end
  end
end

--- Draws a scene into bytes: uint8_t[64 * 64 * 3], RGB, row by row.
---@param scene table
---@param seed integer
---@param stream integer    of the noise
---@param pixels any|nil    a buffer to reuse
---@return ffi.cdata*
function M.bytes(scene, seed, stream, pixels)
  pixels = pixels or ffi.new("uint8_t[?]", SIDE * SIDE * 3)
  paint_background(pixels, scene.background, scene.slope)
  for _, object in ipairs(scene.objects) do paint_object(pixels, object) end
  add_noise(pixels, seed, stream)
  return pixels
end

local buffer = ffi.new("uint8_t[?]", SIDE * SIDE * 3)
local shape = ffi.new("int64_t[3]", SIDE, SIDE, 3)

--- The picture of a scene as a u8 tensor [64, 64, 3].
---@param scene table
---@param seed integer
---@param stream integer
---@return lucid.Tensor
function M.picture(scene, seed, stream)
  local t = native.adopt(C.lc_tensor_new(3, shape, C.LC_U8, C.LC_HOST))
  native.check(C.lc_tensor_write(t, M.bytes(scene, seed, stream, buffer), SIDE * SIDE * 3))
  return t
end

return M
