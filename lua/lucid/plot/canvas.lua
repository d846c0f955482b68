-- A small raster that becomes text: eight dots a character (braille), or one mark a character where a terminal may know
-- no more. A character has the colour of what was drawn there last.
local M = {}
---@class lucid.Canvas
---@field width integer       in dots
---@field height integer
local Canvas = {}
Canvas.__index = Canvas

-- The bit of a dot: dots of a character count 1 2 3 7 down the left column and 4 5 6 8 down the right one.
local BITS = { [0] = { [0] = 1, 8 }, { [0] = 2, 16 }, { [0] = 4, 32 }, { [0] = 64, 128 } }
local MARKS = "*+ox#%"
local COLOURS = { 34, 33, 32, 35, 31, 36 }     -- of a terminal: in the order of a page's curves

local function braille(bits)
  local code = 0x2800 + bits
  return string.char(0xE2, 0x80 + math.floor(code / 64) % 64, 0x80 + code % 64)
end

--- A canvas of so many characters.
---@param columns integer
---@param rows integer
---@param opt table       { braille = boolean, colours = boolean }
---@return lucid.Canvas
function M.new(columns, rows, opt)
  local across, down = opt.braille and 2 or 1, opt.braille and 4 or 1
  return setmetatable({ columns = columns, rows = rows, braille = opt.braille, colours = opt.colours, width = across * columns,
    height = down * rows, across = across, down = down, bits = {}, owner = {} }, Canvas)
end

--- Sets a dot, from 0 at the top left, of the n-th series.
---@param x integer
---@param y integer
---@param n integer
function Canvas:dot(x, y, n)
  local at = math.floor(y / self.down) * self.columns + math.floor(x / self.across)
  self.bits[at] = bit.bor(self.bits[at] or 0, BITS[y % self.down][x % self.across])
  self.owner[at] = n
end

--- Draws a line between two dots.
---@param x0 integer
---@param y0 integer
---@param x1 integer
---@param y1 integer
---@param n integer
function Canvas:line(x0, y0, x1, y1, n)
  local steps = math.max(1, math.abs(x1 - x0), math.abs(y1 - y0))
  for i = 0, steps do
    self:dot(math.floor(x0 + (x1 - x0) * i / steps + 0.5), math.floor(y0 + (y1 - y0) * i / steps + 0.5), n)
  end
end

local function painted(self, text, n)
  return self.colours and ("\27[%dm%s\27[0m"):format(COLOURS[(n - 1) % #COLOURS + 1], text) or text
end

local function mark(n)
  local i = (n - 1) % #MARKS + 1
  return MARKS:sub(i, i)
end

--- What stands for the n-th series in a legend.
---@param n integer
---@return string
function Canvas:sample(n) return painted(self, self.braille and braille(0x12):rep(2) or mark(n):rep(2), n) end

--- A row's text, from 0 at the top.
---@param row integer
---@return string
function Canvas:row(row)
  local out = {}
  for column = 0, self.columns - 1 do
    local at = row * self.columns + column
    local bits = self.bits[at]
    out[#out + 1] = not bits and " " or painted(self, self.braille and braille(bits) or mark(self.owner[at]), self.owner[at])
  end
  return (table.concat(out):gsub(" +$", ""))
end

return M
