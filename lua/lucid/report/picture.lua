-- Pictures inside a page: no larger than they are shown, without what else their files hold (places, cameras).
local base64 = require "lucid.base64"
local file = require "lucid.file"
local image = require "lucid.image"

local M = {}

local SMALL = 128     -- below this a picture is drawn with its pixels, and kept without loss

-- A picture's file in the format that the suffix names.
local function encoded(pixels, suffix)
  local name = os.tmpname()
  local path = name .. suffix
  local ok, bytes = pcall(function()
    image.save(pixels, path, { quality = 82 })
    return file.read(path)
  end)
  os.remove(path)
  os.remove(name)
  return ok and bytes or error(bytes, 0)
end

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
  local bytes = encoded(pixels, small and ".png" or ".jpg")
  return { url = ("data:image/%s;base64,%s"):format(small and "png" or "jpeg", base64.encode(bytes)), width = width,
    height = height, small = small }
end

return M
