-- Pictures that cost what photographs cost: smooth areas under fine grain, as JPEG.
local image = require "lucid.image"
local tensor = require "lucid.tensor"

local M = {}

local HEIGHT, WIDTH, COARSE, GRAIN, QUALITY = 480, 640, 32, 24, 90

--- One picture, u8 [480, 640, 3].
---@param seed integer
---@return lucid.Tensor
function M.picture(seed)
  local coarse = (tensor.rand({ HEIGHT / COARSE, WIDTH / COARSE, 3 }, { seed = seed }) * (255 - GRAIN)):to "u8"
  local smooth = image.resize(coarse, HEIGHT, WIDTH, "bicubic"):to "f32"
  local grain = tensor.rand({ HEIGHT, WIDTH, 3 }, { seed = seed + 1000 }) * GRAIN
  return (smooth + grain):clamp(0, 255):to "u8"
end

--- Writes pictures into a folder; their names.
---@param dir string
---@param count integer
---@return string[]
function M.write(dir, count)
  local names = {}
  for i = 1, count do
    names[i] = ("%d.jpg"):format(i)
    image.save(M.picture(i), dir .. "/" .. names[i], { quality = QUALITY })
  end
  return names
end

return M
