-- A random part of a picture as a square: what MiniGPT-4's and InstructBLIP's training sees in place of the whole one,
-- by the rule of torchvision's RandomResizedCrop (half of the area or more, sides of 3 to 4 to 4 to 3). What is drawn
-- depends on the seed and the crop's name alone.
--
--   crop.apply(t, { seed = 42, name = "desc/1/1:0", mirror = true }, 224)        u8 [H, W, 3] -> u8 [224, 224, 3]
local image = require "lucid.image"
local rng = require "lucid.rng"

local M = {}

---@class lucid.Crop
---@field seed integer
---@field name string          of the random stream
---@field mirror boolean|nil   half of the crops are turned left to right

local LEAST_AREA, NARROW, WIDE, TRIES = 0.5, 3 / 4, 4 / 3, 10

local function round(x) return math.floor(x + 0.5) end

-- The largest part in the middle whose sides are still in proportion.
local function middle(height, width)
  local h, w = height, width
  if width / height < NARROW then h = round(width / NARROW)
  elseif width / height > WIDE then w = round(height * WIDE) end
  return math.floor((height - h) / 2) + 1, math.floor((width - w) / 2) + 1, h, w
end

--- The part that is taken: rows from top, columns from left (from 1), and its sides.
---@param height integer
---@param width integer
---@param random table         a lucid.rng
---@return integer top, integer left, integer height, integer width
function M.box(height, width, random)
  for _ = 1, TRIES do
    local area = height * width * (LEAST_AREA + (1 - LEAST_AREA) * random:uniform())
    local ratio = math.exp(math.log(NARROW) + math.log(WIDE / NARROW) * random:uniform())
    local h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
    if h >= 1 and w >= 1 and h <= height and w <= width then
      return random:integer(height - h + 1), random:integer(width - w + 1), h, w
    end
  end
  return middle(height, width)
end

--- The crop of a picture, u8 [side, side, 3].
---@param t any                u8 [H, W, 3]
---@param crop lucid.Crop
---@param side integer
---@return lucid.Tensor
function M.apply(t, crop, side)
  local random = rng(crop.seed, "crop:" .. crop.name)
  local top, left, height, width = M.box(t:size(1), t:size(2), random)
  local part = image.resize(image.crop(t, top, left, height, width), side, side, "bicubic")
  return crop.mirror and random:uniform() < 0.5 and image.mirror(part) or part
end

return M
