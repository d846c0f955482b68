-- Pictures in the terminal: pixels, half-blocks or signs, by what the terminal says and the user wants.
local ffi = require "ffi"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local lucid = require "lucid"
local sixel = require "lucid.image.sixel"
local terminal = require "tests.support.terminal"

local BIN = require "tests.support.program"

-- Half red, half blue, above black and white: u8 [2, 2, 3].
local FOUR = "lucid.tensor({ { { 255, 0, 0 }, { 0, 0, 255 } }, { { 0, 0, 0 }, { 255, 255, 255 } } }):to('u8')"

-- The pixels of a sixel text as { [y] = { [x] = "r;g;b" } }, percent, from 0.
local function decoded(text)
  local width, height, data = text:match('^\27P0;1q"1;1;(%d+);(%d+)(.*)\27\\\n$')
  local palette, rows, top, x, colour = {}, {}, 0, 0, nil
  data = data:gsub("#(%d+);2;(%d+;%d+;%d+)", function(n, rgb) palette[n] = rgb return "" end)
  local at = 1
  while at <= #data do
    local kind = data:sub(at, at)
    local count = 1
    if kind == "#" then
      colour = data:match("^#(%d+)", at)
      at = at + 1 + #colour
    elseif kind == "$" then x, at = 0, at + 1
    elseif kind == "-" then x, top, at = 0, top + 6, at + 1
    else
      local digits = data:match("^!(%d+)", at)
      if digits then count, at = tonumber(digits), at + 1 + #digits end
      local bits = data:byte(at) - 63
      assert(bits >= 0 and bits < 64)
      for _ = 1, count do
        for row = 0, 5 do
          if bit.band(bits, 2 ^ row) ~= 0 then
            rows[top + row] = rows[top + row] or {}
            assert(not rows[top + row][x], "a pixel is drawn twice")
            rows[top + row][x] = palette[colour]
          end
        end
        x = x + 1
      end
      at = at + 1
    end
  end
  return rows, tonumber(height), tonumber(width)
end

local function bytes_of(t)
  local n = t:count()
  local bytes = ffi.new("uint8_t[?]", n)
  for i, v in ipairs(t:view(n):tolist()) do bytes[i - 1] = v end
  return bytes
end

describe("sixel", function()
  it("draws every pixel once, within half a step of its colour", function()
    for _, size in ipairs { { 1, 1 }, { 6, 5 }, { 13, 31 } } do
      local height, width = size[1], size[2]
      local t = (lucid.rand({ height, width, 3 }, { seed = 3 }) * 255):to "u8"
      local rows, h, w = decoded(sixel(bytes_of(t), height, width))
      assert.same(size, { h, w })
      local values = t:tolist()
      for y = 0, height - 1 do
        for x = 0, width - 1 do
          local got = { rows[y][x]:match("(%d+);(%d+);(%d+)") }
          for c = 1, 3 do assert.is_true(math.abs(got[c] * 2.55 - values[y + 1][x + 1][c]) <= 52) end
        end
      end
      assert.is_nil(rows[height])
      assert.is_nil(rows[0][width])
    end
  end)

  it("mixes colours to the mean, and repeats signs by number", function()
    local grey = lucid.full({ 48, 48, 3 }, 100, { dtype = "u8" })
    local rows, sum = decoded(sixel(bytes_of(grey), 48, 48)), 0
    for y = 0, 47 do
      for x = 0, 47 do sum = sum + tonumber(rows[y][x]:match("^%d+")) end
    end
    assert.is_true(math.abs(sum / 48 / 48 * 2.55 - 100) < 4)
    assert.truthy(sixel(bytes_of(lucid.zeros({ 6, 40, 3 }, { dtype = "u8" })), 6, 40):find("#0!40~-", 1, true))
  end)
end)

describe("lucid.image.show", function()
  local dir
  before_each(function() dir = folder.folder() end)
  after_each(function() folder.remove(dir) end)

  local function script(chunk)
    file.write(dir .. "/show.lua", 'local lucid = require "lucid"\n' .. chunk)
    return ("%s %s/show.lua"):format(BIN, dir)
  end

  it("writes a file where it is given a path", function()
    local path = dir .. "/a.png"
    lucid.image.show(lucid.tensor { { { 0, 0.5 }, { 1, 1 } }, { { 0, 0 }, { 0, 0 } }, { { 1, 1 }, { 1, 1 } } }, path)
    assert.same({ { { 0, 0, 255 }, { 128, 0, 255 } }, { { 255, 0, 255 }, { 255, 0, 255 } } }, lucid.image.load(path):tolist())
    lucid.image.show(lucid.tensor { { -1, 0 }, { 1, 0 } }, path)
    assert.same({ { { 0, 0, 0 }, { 128, 128, 128 } }, { { 255, 255, 255 }, { 128, 128, 128 } } }, lucid.image.load(path):tolist())
    lucid.image.show(lucid.full({ 2, 2, 3 }, 7, { dtype = "u8" }), path)
    assert.same({ 7, 7, 7 }, lucid.image.load(path):tolist()[1][1])
    lucid.image.show(path, dir .. "/b.png")                    -- a picture's file will do
    assert.equal(file.read(path), file.read(dir .. "/b.png"))
    local ok, reason = pcall(lucid.image.show, 7)
    assert.is_false(ok)
    assert.truthy(reason:find("show: argument 1 is a number; a tensor or a picture's path is expected", 1, true), reason)
  end)

  it("draws signs into a pipe", function()
    local pipe = io.popen(script("lucid.image.show(lucid.image.resize(" .. FOUR .. ", 8, 8, 'nearest'))") .. " 2>&1")
    assert.equal("::::....\n::::....\n    @@@@\n    @@@@\n", pipe:read("*a"))
    pipe:close()
  end)

  it("refuses what is no picture", function()
    for _, t in ipairs { lucid.zeros { 4 }, lucid.zeros { 4, 4, 2 }, lucid.zeros { 0, 4, 3 }, lucid.zeros { 1, 2, 3, 4 } } do
      local ok, reason = pcall(lucid.image.show, t)
      assert.is_false(ok)
      assert.truthy(reason:find("is no picture; [H, W, 3]", 1, true), reason)
    end
    assert.is_false((pcall(lucid.image.show, 5)))
  end)

  local function shown(environment, reply)
    local ok, why = terminal.possible()
    if not ok then return pending(why) end
    local t = terminal.start(("NO_COLOR= TERM=xterm %s %s"):format(environment, script("lucid.image.show(" .. FOUR .. ") print 'end'")))
    if reply then
      t:wait("\27[c")
      t:type(reply)
    end
    local text = t:wait("end", 30):gsub("\r", "")
    assert.equal(0, t:status())
    t:close()
    return text
  end

  it("draws half-blocks where a terminal says that it has no sixels, or nothing", function()
    local blocks = "\27[38;2;255;0;0;48;2;0;0;0m▀\27[38;2;0;0;255;48;2;255;255;255m▀\27[0m\n"
    assert.equal(blocks, shown("", "\27[?62;22c"))
    assert.equal(blocks, (shown(""):gsub("^\27%[c", "")))
  end)

  it("draws pixels where a terminal says that it can", function()
    local rows, height, width = decoded(shown("", "\27[?62;4;22c"))
    assert.same({ 256, 256 }, { height, width })
    assert.equal("100;0;0", rows[0][0])
    assert.equal("0;0;100", rows[127][255])
    assert.equal("100;100;100", rows[255][255])
  end)

  it("asks nothing and colours nothing where it shall not", function()
    for _, environment in ipairs { "NO_COLOR=1", "TERM=dumb" } do
      assert.equal(".+\n", shown(environment))
    end
  end)
end)
