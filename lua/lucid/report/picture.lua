-- Pictures inside a page: no larger than they are shown, without what else their files hold (places, cameras).
local base64 = require "lucid.base64"
local image = require "lucid.image"

local M = {}

local SMALL = 128     -- below this a picture is drawn with its pixels, and kept without loss

--- A picture file as the source of an image element.
---@param path string
---@param side integer        its longer side is made at most this
---@return table              { url, width, height, small: it is drawn with its pixels }
function M.embed(path, side)
  local pixels = image.load(path)
  local height, width = pixels:size(1), pixels:size(2)
  local longer = math.max(height, width)
  if longer > side then
    local function scaled(n) return math.max(1, math.floor(n * side / longer + 0.5)) end
    height, width = scaled(height), scaled(width)
    pixels = image.resize(pixels, height, width)
  end
  local small = longer <= SMALL
  local bytes = image.encode(pixels, small and ".png" or ".jpg", { quality = 82 })
  return { url = ("data:image/%s;base64,%s"):format(small and "png" or "jpeg", base64.encode(bytes)), width = width,
    height = height, small = small }
end

return M
