-- Sixel, the form in which terminals take pixels: bands six rows high, drawn colour by colour. A sign holds a column of
-- one colour, its lowest bit the top row; "!N" repeats the next sign; "$" goes back to the band's left, "-" to the next.
-- Colours are a cube of 6 x 6 x 6, between which an ordered pattern mixes.
local STEPS = 5                      -- of a channel, beside 0

-- Bayer's pattern of 4 x 4, as parts of a step.
local PATTERN = { [0] = 0, 8, 2, 10, 12, 4, 14, 6, 3, 11, 1, 9, 15, 7, 13, 5 }

local function palette()
  local out = {}
  for i = 0, 215 do
    local function percent(level) return math.floor(100 * level / STEPS + 0.5) end
    out[i + 1] = ("#%d;2;%d;%d;%d"):format(i, percent(math.floor(i / 36)), percent(math.floor(i / 6) % 6), percent(i % 6))
  end
  return table.concat(out)
end

-- The columns of a band by colour: for each the places and their bits, in turn.
local function columns_of(bytes, top, rows, width)
  local found, order = {}, {}
  for x = 0, width - 1 do
    for row = 0, rows - 1 do
      local at = 3 * ((top + row) * width + x)
      local mix = (PATTERN[(top + row) % 4 * 4 + x % 4] + 0.5) / 16
      local function level(v) return math.floor(v * STEPS / 255 + mix) end
      local colour = 36 * level(bytes[at]) + 6 * level(bytes[at + 1]) + level(bytes[at + 2])
      local list = found[colour]
      if not list then
        list = {}
        found[colour] = list
        order[#order + 1] = colour
      end
      if list[#list - 1] == x then list[#list] = list[#list] + 2 ^ row
      else
        list[#list + 1] = x
        list[#list + 1] = 2 ^ row
      end
    end
  end
  return found, order
end

local function run(out, bits, count)
  if count == 0 then return end
  local sign = string.char(63 + bits)
  out[#out + 1] = count > 3 and ("!%d%s"):format(count, sign) or sign:rep(count)
end

-- One colour's row of signs.
local function draw(out, list)
  local at, bits, count = 0, 0, 0
  for i = 1, #list, 2 do
    if list[i] > at then
      run(out, bits, count)
      run(out, 0, list[i] - at)
      count = 0
    elseif list[i + 1] ~= bits then
      run(out, bits, count)
      count = 0
    end
    bits, count, at = list[i + 1], count + 1, list[i] + 1
  end
  run(out, bits, count)
end

--- The text that draws a picture.
---@param bytes ffi.cdata*      u8 [height, width, 3] from 0
---@param height integer
---@param width integer
---@return string
return function(bytes, height, width)
  local out = { ("\27P0;1q\"1;1;%d;%d"):format(width, height), palette() }
  for top = 0, height - 1, 6 do
    local found, order = columns_of(bytes, top, math.min(6, height - top), width)
    for i, colour in ipairs(order) do
      out[#out + 1] = (i > 1 and "$#" or "#") .. colour
      draw(out, found[colour])
    end
    out[#out + 1] = "-"
  end
  out[#out + 1] = "\27\\\n"
  return table.concat(out)
end
