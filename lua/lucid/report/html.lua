-- Text that is safe inside a page, and what every part of a page is made with.
local M = {}

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" }
local NO_CHARACTER = "\239\191\189"     -- U+FFFD, for control characters: a page may not hold them

--- A value as text of a page, in an element or between the quotes of an attribute.
---@param text string
---@return string
function M.escape(text)
  return (tostring(text):gsub("[%z\1-\8\11\12\14-\31\127]", NO_CHARACTER):gsub("[&<>\"']", ENTITIES))
end

--- At most so many bytes of a text, not cut within a character; what was left out is said.
---@param text string
---@param bytes integer
---@return string
function M.clip(text, bytes)
  if #text <= bytes then return text end
  local at = bytes
  while at > 0 and (text:byte(at + 1) or 0) >= 0x80 and text:byte(at + 1) < 0xC0 do at = at - 1 end
  return ("%s … (%d more bytes)"):format(text:sub(1, at), #text - at)
end

--- A value as people read it: whole numbers as they are, others to four digits.
---@param v boolean|number|string|nil
---@return string
function M.shown(v)
  if v == nil then return "" end
  if type(v) ~= "number" then return tostring(v) end
  if v ~= v then return "–" end
  if v == math.floor(v) and math.abs(v) < 1e15 then return ("%d"):format(v) end
  return ("%.4g"):format(v)
end

return M
