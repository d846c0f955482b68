-- Base64 (RFC 4648): bytes as text and back.
local bit = require "bit"
local ffi = require "ffi"

local M = {}

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

--- The text of a string of bytes.
---@param bytes string
---@return string
function M.encode(bytes)
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local word = bit.bor(bit.lshift(a, 16), bit.lshift(b or 0, 8), c or 0)
    for j = 3, 0, -1 do
      local at = bit.band(bit.rshift(word, 6 * j), 63) + 1
      out[#out + 1] = ALPHABET:sub(at, at)
    end
    if not c then out[#out] = "=" end
    if not b then out[#out - 1] = "=" end
  end
  return table.concat(out)
end

local VALUES = ffi.new("uint8_t[256]")
ffi.fill(VALUES, 256, 255)
for i = 1, #ALPHABET do VALUES[ALPHABET:byte(i)] = i - 1 end

--- The bytes of a text; nil where it is no base64. White space is none.
---@param text string
---@return string|nil
function M.decode(text)
  local n = #text
  local padding = text:sub(-2) == "==" and 2 or text:sub(-1) == "=" and 1 or 0
  if n % 4 ~= 0 then return nil end
  local out, from, used, word = ffi.new("uint8_t[?]", math.max(n / 4 * 3, 1)), ffi.cast("const uint8_t *", text), 0, 0
  for i = 0, n - padding - 1 do
    local value = VALUES[from[i]]
    if value == 255 then return nil end
    word = bit.bor(bit.lshift(bit.band(word, 0x3FFFF), 6), value)
    local at = i % 4
    if at > 0 then
      out[used] = bit.band(bit.rshift(word, 6 - 2 * at), 255)
      used = used + 1
    end
  end
  return ffi.string(out, used)
end

return M
