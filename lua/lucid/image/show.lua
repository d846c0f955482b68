-- A picture in the terminal: as pixels where it draws sixels, as half-blocks of 24-bit colour where it shows colours,
-- and as signs of different darkness everywhere else.
local ffi = require "ffi"
local native = require "lucid.native"
local sixel = require "lucid.image.sixel"
local terminal = require "lucid.terminal"

local C = native.C
local ops = native.ops

-- ---- any tensor as a picture ---------------------------------------------------------------------------

local function wrong(t)
  native.raise(("show: %s [%s] is no picture; [H, W, 3], [3, H, W] and [H, W] are"):format(t:dtype(), table.concat(t:shape(), ", ")))
end

-- u8 as it is; of other numbers the least becomes black and the greatest white.
local function bytes_of(t)
  if t:dtype() == "u8" then return t end
  local out = ffi.new "double[5]"
  native.check(C.lc_tensor_summary(t, out))
  local least, greatest = out[0], out[1]
  if least ~= least then least, greatest = 0, 1 end
  return (ops.scale(t:to("f32") - least, 255 / math.max(greatest - least, 1e-30)) + 0.5):to("u8")
end

-- u8 [H, W, 3] of what looks like a picture.
local function picture(t)
  local shape = t:to("cpu"):shape()
  if #shape == 3 and shape[3] ~= 3 and shape[3] ~= 1 and (shape[1] == 3 or shape[1] == 1) then
    t = t:transpose(1, 2):transpose(2, 3)
  elseif #shape == 2 then
    t = ops.contiguous(t):view(shape[1], shape[2], 1)
  end
  shape = t:shape()
  if #shape ~= 3 or shape[1] * shape[2] == 0 or not (shape[3] == 3 or shape[3] == 1) then wrong(t) end
  t = bytes_of(t:to("cpu"))
  if shape[3] == 1 then
    local three = ffi.new("lc_tensor *[3]", t, t, t)
    t = native.adopt(C.lc_cat(3, three, 2))
  end
  return ops.contiguous(t)
end

-- ---- drawing -----------------------------------------------------------------------------------------------

-- The size at which a picture fits into so many pixels; nothing is enlarged but for small ones, by whole numbers.
local function fitted(height, width, high, wide, least)
  local scale = math.min(1, high / height, wide / width)
  if least and scale == 1 then
    scale = math.max(1, math.min(math.floor(least / math.max(height, width)), math.floor(high / height), math.floor(wide / width)))
  end
  return math.max(1, math.floor(height * scale + 0.5)), math.max(1, math.floor(width * scale + 0.5))
end

-- Its bytes at a size, [height, width, 3] from 0.
local function pixels(t, height, width)
  local image = require "lucid.image"
  if height ~= t:size(1) or width ~= t:size(2) then
    t = image.resize(t, height, width, height > t:size(1) and "nearest" or "bicubic")
  end
  local bytes = ffi.new("uint8_t[?]", height * width * 3)
  native.check(C.lc_tensor_read(t, bytes, height * width * 3))
  return bytes
end

-- Two pixels a character, one above the other: the upper one's colour on the lower one's.
local function blocks(bytes, height, width)
  local out = {}
  for y = 0, height - 1, 2 do
    local last
    for x = 0, width - 1 do
      local upper, lower = 3 * (y * width + x), 3 * ((y + 1) * width + x)
      local colour = ("\27[38;2;%d;%d;%d"):format(bytes[upper], bytes[upper + 1], bytes[upper + 2])
      if y + 1 < height then colour = ("%s;48;2;%d;%d;%d"):format(colour, bytes[lower], bytes[lower + 1], bytes[lower + 2]) end
      out[#out + 1] = (colour ~= last and colour .. "m" or "") .. "▀"
      last = colour
    end
    out[#out + 1] = "\27[0m\n"
  end
  return table.concat(out)
end

local DARKNESS = " .:-=+*#%@"

-- A character is twice as high as it is wide.
local function signs(bytes, height, width)
  local out = {}
  for y = 0, height - 1 do
    for x = 0, width - 1 do
      local at = 3 * (y * width + x)
      local light = (0.299 * bytes[at] + 0.587 * bytes[at + 1] + 0.114 * bytes[at + 2]) / 256
      local i = 1 + math.floor(light * #DARKNESS)
      out[#out + 1] = DARKNESS:sub(i, i)
    end
    out[#out + 1] = "\n"
  end
  return table.concat(out)
end

local WIDEST, ENLARGED = 480, 256     -- pixels of a sixel picture; those that a small one is enlarged to

local function drawn(t)
  t = picture(t)
  local columns, rows = terminal.size()
  local height, width = t:size(1), t:size(2)
  if terminal.sixel() then
    height, width = fitted(height, width, WIDEST, WIDEST, ENLARGED)
    return sixel(pixels(t, height, width), height, width)
  elseif terminal.colours() then
    height, width = fitted(height, width, 2 * (rows - 2), columns)
    return blocks(pixels(t, height, width), height, width)
  end
  height, width = fitted(height, width, 2 * (rows - 2), columns)
  height = math.max(1, math.floor(height / 2))
  return signs(pixels(t, height, width), height, width)
end

return function(t, path)
  if type(t) == "string" then t = require("lucid.image").load(t) end
  if not native.is_tensor(t) then native.bad_argument("show", 1, t, "a tensor or a picture's path") end
  if path then
    if type(path) ~= "string" then native.bad_argument("show", 2, path, "a path") end
    native.scope(function() require("lucid.image").save(picture(t), path) end)
  else
    io.write(native.scope(native.no_grad, drawn, t))
  end
end
