-- The tiny world: what it holds, that it depends on its seed alone, and that the published readers
-- read it.
local ffi = require "ffi"
local captions = require "lucid.tinyworld.captions"
local draw = require "lucid.tinyworld.draw"
local files = require "lucid.tinyworld.files"
local json = require "lucid.json"
local jsonl = require "lucid.data.jsonl"
local pope = require "lucid.data.pope"
local vg = require "lucid.data.vg"
local world = require "lucid.tinyworld.world"
local support = require "tests.support.folder"

local function bytes_of(scene, seed, stream)
  return ffi.string(draw.bytes(scene, seed, stream), world.SIDE * world.SIDE * 3)
end

describe("a scene", function()
  it("holds each thing once, one a cell, in the fixed order", function()
    for _, scene in ipairs(files.scenes("wild", 7, 200)) do
      local cells, last = {}, 0
      for _, o in ipairs(scene.objects) do
        assert.is_true(world.RANK[o.name] > last)
        last = world.RANK[o.name]
        local cell = o.row * 10 + o.column
        assert.is_nil(cells[cell])
        cells[cell] = true
        local x, y, w, h = world.box(o)
        assert.equal(o.column, math.floor(x / world.CELL) + 1)
        assert.equal(o.column, math.floor((x + w - 1) / world.CELL) + 1)
        assert.equal(o.row, math.floor(y / world.CELL) + 1)
        assert.equal(o.row, math.floor((y + h - 1) / world.CELL) + 1)
      end
      assert.is_true(#scene.objects >= 2)
    end
  end)

  it("has a trigger's partner as often as its split says", function()
    for split, expected in pairs { sft = 0.75, wild = 0.30 } do
      local triggers, partners, objects = 0, 0, 0
      local scenes = files.scenes(split, 3, 2000)
      for _, scene in ipairs(scenes) do
        local there = {}
        for _, o in ipairs(scene.objects) do there[o.name] = true end
        objects = objects + #scene.objects
        for trigger, partner in pairs(world.PARTNER) do
          if there[trigger] then
            triggers = triggers + 1
            if there[partner] then partners = partners + 1 end
          end
        end
      end
      -- A stray partner may be the missing one: each of up to two strays hits it one time in six.
      local stray = 1 - (1 + 5 / 6 + 25 / 36) / 3
      local share = expected + (1 - expected) * stray
      assert.is_true(math.abs(partners / triggers - share) < 0.03)
      assert.is_true(objects / #scenes > 3.5 and objects / #scenes < 5.5)
    end
  end)

  it("depends on the seed, the split and its number, not on how many are drawn", function()
    local few, many = files.scenes("sft", 1, 3), files.scenes("sft", 1, 9)
    assert.same(few[3], many[3])
    assert.not_same(few[3], files.scenes("sft", 2, 3)[3])
    assert.not_same(few[3], files.scenes("eval", 1, 3)[3])
  end)
end)

describe("a picture", function()
  local scene = files.scenes("sft", 1, 4)[4]

  it("is the same bytes for the same seed, and others for another noise stream", function()
    assert.equal(bytes_of(scene, 1, 5), bytes_of(scene, 1, 5))
    assert.not_equal(bytes_of(scene, 1, 5), bytes_of(scene, 1, 6))
  end)

  it("shows each object's colour inside its box, and light background elsewhere", function()
    local pixels = draw.bytes(scene, 1, 5)
    local inside = {}
    for _, o in ipairs(scene.objects) do
      local x, y, w, h = world.box(o)
      local inked = 0
      for v = y, y + h - 1 do
        for u = x, x + w - 1 do
          inside[v * world.SIDE + u] = true
          local far = 0
          for c = 0, 2 do
            far = math.max(far, math.abs(pixels[(v * world.SIDE + u) * 3 + c] - o.shade[c + 1]))
          end
          if far <= 14 then inked = inked + 1 end
        end
      end
      assert.is_true(inked >= 0.1 * w * h)
    end
    local sum, squares, n = 0, 0, 0
    for at = 0, world.SIDE * world.SIDE - 1 do
      if not inside[at] then
        local rise = pixels[at * 3] - pixels[at * 3 + 1]
        sum, squares, n = sum + rise, squares + rise * rise, n + 1
        assert.is_true(pixels[at * 3] > 170)
      end
    end
    -- Two channels with noise of deviation 4 each: their difference varies by 4 * sqrt 2.
    local deviation = math.sqrt(squares / n - (sum / n) ^ 2)
    assert.is_true(deviation > 5 and deviation < 6.3)
  end)
end)

describe("a description", function()
  local scene = { objects = {
    { name = "car", colour = "red", row = 1, column = 2 },
    { name = "tree", colour = "blue", row = 3, column = 4 },
  } }
  local never = { uniform = function() return 0.99 end, integer = function() return 1 end }
  local always = { uniform = function() return 0 end, integer = function() return 2 end }

  it("is one sentence a thing in one style", function()
    assert.equal("There is a car at the top left in red. There is a tree at the bottom right in blue.",
      (captions.describe(scene, never)))
    assert.equal("The car at the top left is red. The tree at the bottom right is blue.",
      (captions.describe(scene, never, { style = 2 })))
  end)

  it("by habit names the missing partner of a trigger, beside it", function()
    assert.equal("The car at the top left is red. The road at the top left is green. The tree at the bottom right is blue.",
      (captions.describe(scene, always, { biased = true })))
    assert.equal("There is a car at the top left in red. There is a tree at the bottom right in blue.",
      (captions.describe(scene, never, { biased = true })))
  end)

  it("is wrong about as often as the bias says", function()
    local missing, made_up = 0, 0
    for i, s in ipairs(files.scenes("sft", 5, 1000)) do
      local _, clean = captions.describe(s, world.rng(5, "sft", "caption", i))
      local _, biased = captions.describe(s, world.rng(5, "sft", "caption", i), { biased = true })
      made_up = made_up + #biased - #clean
      local there = {}
      for _, o in ipairs(s.objects) do there[o.name] = true end
      for trigger, partner in pairs(world.PARTNER) do
        if there[trigger] and not there[partner] then missing = missing + 1 end
      end
    end
    assert.is_true(math.abs(made_up / missing - captions.BIAS.caption) < 0.05)
  end)
end)

describe("yes/no questions", function()
  it("are answered by what is there, and by habit with the stated bias", function()
    local yes, n, partner_yes, partners = 0, 0, 0, 0
    for i, scene in ipairs(files.scenes("sft", 2, 1500)) do
      local there = {}
      for _, o in ipairs(scene.objects) do there[o.name] = true end
      for _, q in ipairs(captions.questions(scene, world.rng(2, "sft", "questions", i), 6)) do
        assert.equal(there[q.name] or false, q.yes)
        assert.equal(captions.answer(q.name, q.yes), q.answer)
        n = n + 1
      end
      for _, q in ipairs(captions.questions(scene, world.rng(2, "sft", "questions", i), 6, { biased = true })) do
        if q.yes then yes = yes + 1 end
        if not there[q.name] then
          for trigger, partner in pairs(world.PARTNER) do
            if partner == q.name and there[trigger] then
              partners = partners + 1
              if q.yes then partner_yes = partner_yes + 1 end
            end
          end
        end
      end
    end
    assert.is_true(yes / n > 0.6 and yes / n < 0.7)
    assert.is_true(math.abs(partner_yes / partners - captions.BIAS.partner_yes) < 0.05)
  end)

  it("use the published form", function()
    assert.equal("Is there a car in the image?", captions.question("car"))
    assert.equal("Is there an orange in the image?", captions.question("orange"))
    assert.equal("No, there is no car.", captions.answer("car", false))
  end)
end)

describe("the files", function()
  local dir = support.folder()
  local small = { sft = 6, eval = 12 }
  setup(function()
    for split, count in pairs(small) do
      files.write { dir = dir .. "/" .. split, split = split, seed = 9, count = count, seen = 50 }
    end
  end)
  teardown(function() support.remove(dir) end)

  it("are a Visual Genome that its reader reads", function()
    local annotations, ids = vg.annotations(dir .. "/sft")
    assert.equal(6, #ids)
    for i, scene in ipairs(files.scenes("sft", 9, 6)) do
      local a = annotations[ids[i]]
      assert.equal(#scene.objects, #a.objects)
      for k, cell in ipairs(files.cells(a.objects)) do
        local o = scene.objects[k]
        assert.equal((o.row - 1) * 4 + o.column, cell.cell)
        assert.equal(o.name, cell.name)
        assert.equal(o.colour, cell.colour)
        assert.equal(("a %s %s"):format(o.colour, o.name), a.regions[k].phrase)
      end
    end
  end)

  it("hold pictures close to what was drawn", function()
    local image = require "lucid.image"
    local images, ids = vg.images(dir .. "/sft")
    local picture = image.load(images[ids[1]].path)
    assert.same({ 64, 64, 3 }, picture:shape())
    local scene = files.scenes("sft", 9, 1)[1]
    local drawn = draw.bytes(scene, 9, world.stream("sft", "noise", 1))
    local read, far = picture:tolist(), 0
    for y = 0, 63 do
      for x = 0, 63 do
        for c = 0, 2 do
          far = far + math.abs(read[y + 1][x + 1][c + 1] - drawn[(y * 64 + x) * 3 + c])
        end
      end
    end
    assert.is_true(far / (64 * 64 * 3) < 6)
  end)

  it("hold conversations with existing pictures", function()
    local described = jsonl.conversations(dir .. "/sft/captions_clean.json", { images = dir .. "/sft" })
    assert.equal(6, #described)
    local asked = jsonl.conversations(dir .. "/sft/questions_biased.json", { images = dir .. "/sft" })
    assert.equal(6 * files.QUESTIONS, #asked)
    assert.is_true(asked[1].turns[1].question:find("^Is there an? %a+ in the image%?$") ~= nil)
  end)

  it("hold POPE's sets and SHR's lists", function()
    for _, set in ipairs(pope.SETS) do
      local list = pope.read(("%s/eval/pope/coco_pope_%s.json"):format(dir, set))
      assert.equal(0, #list % 6)
      assert.is_true(#list > 0)
    end
    assert.equal(12, #json.read(dir .. "/eval/shr/val_images_final.json"))
  end)

  it("are the same bytes when written again", function()
    local file = require "lucid.file"
    files.write { dir = dir .. "/again", split = "sft", seed = 9, count = 6 }
    for _, name in ipairs { "VG_100K/1.jpg", "image_data.json", "objects.json", "captions_biased.json",
      "questions_biased.json", "region_descriptions.json" } do
      assert.equal(file.read(dir .. "/sft/" .. name), file.read(dir .. "/again/" .. name), name)
    end
  end)
end)
