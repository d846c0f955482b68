-- White space as the published scorers' language has it: Unicode's, and the four separators of
-- ASCII. Lua's own %s knows six characters.
local M = {}

-- Those of more than one byte, in UTF-8.
local WIDE = {}
for _, space in ipairs { "\194\133", "\194\160", "\225\154\128", "\226\128\168", "\226\128\169", "\226\128\175",
  "\226\129\159", "\227\128\128" } do
  WIDE[space] = true
end
for last = 128, 138 do WIDE["\226\128" .. string.char(last)] = true end

local function is_narrow(byte)
  return byte == 32 or (byte ~= nil and (byte >= 9 and byte <= 13 or byte >= 28 and byte <= 31))
end

-- The bytes of the white space that begins at a place; 0: there is none.
local function space_at(text, i)
  local byte = text:byte(i)
  if is_narrow(byte) then return 1 end
  if not byte or byte < 194 then return 0 end
  return WIDE[text:sub(i, i + 1)] and 2 or WIDE[text:sub(i, i + 2)] and 3 or 0
end

-- The same for the white space that ends at a place.
local function space_before(text, i)
  local byte = text:byte(i)
  if is_narrow(byte) then return 1 end
  if not byte or byte < 128 or byte > 191 then return 0 end
  return WIDE[text:sub(i - 1, i)] and 2 or WIDE[text:sub(i - 2, i)] and 3 or 0
end

--- A text without the white space at its ends.
---@param text string
---@return string
function M.trim(text)
  local first, last = 1, #text
  local n = space_at(text, first)
  while n > 0 do
    first = first + n
    n = space_at(text, first)
  end
  n = last > first and space_before(text, last) or 0
  while n > 0 do
    last = last - n
    n = space_before(text, last)
  end
  return text:sub(first, last)
end

--- The pieces of a text between white space.
---@param text string
---@return string[]
function M.words(text)
  local words, first, i = {}, nil, 1
  while i <= #text do
    local n = space_at(text, i)
    if n > 0 then
      if first then words[#words + 1] = text:sub(first, i - 1) end
      first = nil
    else
      first = first or i
    end
    i = i + math.max(n, 1)
  end
  if first then words[#words + 1] = text:sub(first) end
  return words
end

--- The characters of a UTF-8 text.
---@param text string
---@return integer
function M.characters(text)
  return #text - select(2, text:gsub("[\128-\191]", ""))
end

return M
