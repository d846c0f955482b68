-- Pictures of requests: data URLs of PNG and JPEG files. Nothing is fetched.
local base64 = require "lucid.base64"
local cache = require "lucid.cache"
local refusal = require "lucid.serve.refusal"

local M = {}

local MAGIC = { png = "\137PNG\r\n\26\n", jpeg = "\255\216\255" }
local TYPES = { ["image/png"] = "png", ["image/jpeg"] = "jpeg", ["image/jpg"] = "jpeg" }

---@class lucid.ServedPicture
---@field bytes string      the file
---@field key string        its content's hash

--- The picture of an image_url.
---@param url string
---@param param string      the field, for refusals
---@return lucid.ServedPicture
function M.of(url, param)
  local head, text = url:match "^data:([^,]*),(.*)$"
  if not head then
    refusal.raise(400, "image_url: this server fetches nothing; send the picture itself: data:image/png;base64,...",
      param, "invalid_image_url")
  end
  local kind = TYPES[head:lower():match "^([^;]*)"]
  if not kind or not head:lower():find ";base64$" then
    refusal.raise(400, "image_url: data:image/png;base64,... or data:image/jpeg;base64,... is expected", param,
      "invalid_image_format")
  end
  if text:find "%s" then text = text:gsub("%s+", "") end       -- some clients break lines, as MIME does
  local bytes = base64.decode(text)
  if not bytes or bytes == "" then
    refusal.raise(400, "image_url: the picture's base64 is damaged", param, "invalid_base64_image")
  end
  if bytes:sub(1, #MAGIC[kind]) ~= MAGIC[kind] then
    refusal.raise(400, ("image_url: the picture is no %s file"):format(kind:upper()), param, "invalid_image_format")
  end
  return { bytes = bytes, key = cache.hash(bytes) }
end

return M
