-- Random crops: parts of the right size and shape, drawn by seed and name.
local crop = require "lucid.crop"
local lucid = require "lucid"
local rng = require "lucid.rng"

describe("a random crop", function()
  it("has at least half of the area, and sides of 3 to 4 to 4 to 3, inside the picture", function()
    local corners, first = {}, 0
    for i = 1, 500 do
      local top, left, height, width = crop.box(90, 120, rng(1, "box" .. i))
      assert.is_true(top >= 1 and left >= 1 and top + height - 1 <= 90 and left + width - 1 <= 120)
      assert.is_true(height * width >= 0.48 * 90 * 120, height .. " x " .. width)
      assert.is_true(width / height >= 0.73 and width / height <= 1.37, height .. " x " .. width)
      corners[top .. " " .. left] = true
      if top == 1 and left == 1 then first = first + 1 end
    end
    local count = 0
    for _ in pairs(corners) do count = count + 1 end
    assert.is_true(count > 300 and first < 50)
  end)

  it("is the middle of a picture in which no such part fits", function()
    local function box(height, width) return { crop.box(height, width, rng(1, "x")) } end
    assert.same({ 1, 44, 10, 13 }, box(10, 100))
    assert.same({ 44, 1, 13, 10 }, box(100, 10))
  end)

  it("is the same for a seed and a name, and turned left to right in half of the cases", function()
    local t = lucid.image.load("tests/golden/llava_tiny/picture.png")
    local function values(seed, name, mirror)
      return crop.apply(t, { seed = seed, name = name, mirror = mirror }, 12):tolist()
    end
    assert.same({ 12, 12, 3 }, crop.apply(t, { seed = 1, name = "a" }, 12):shape())
    assert.same(values(1, "a"), values(1, "a"))
    assert.are_not.same(values(1, "a"), values(1, "b"))
    assert.are_not.same(values(1, "a"), values(2, "a"))
    local turned = 0
    for i = 1, 60 do
      local plain, maybe = values(1, "n" .. i), values(1, "n" .. i, true)
      if plain[1][1][1] ~= maybe[1][1][1] or plain[5][3][2] ~= maybe[5][3][2] then
        turned = turned + 1
        for y = 1, 12 do
          for x = 1, 12 do assert.same(plain[y][x], maybe[y][13 - x]) end
        end
      end
    end
    assert.is_true(turned > 15 and turned < 45, turned)
  end)
end)
