-- What a tower saw is kept by content: live and kept features are the same bits, and another tower finds none.
local lucid = require "lucid"
local cache = require "lucid.cache"
local file = require "lucid.file"
local layout = require "lucid.layout"
local program = require "tests.support.program"
local support = require "tests.support.folder"
local tiny = require "tests.support.tiny"

describe("features", function()
  local folder, pictures, dir, m
  setup(function()
    folder = support.folder()
    dir = folder .. "/model"
    m = tiny.model(dir, 3)
    pictures = tiny.pictures(folder, 4)
  end)
  teardown(function() support.remove(folder) end)

  -- The model with its own count of the pictures that its tower saw.
  local function open(at, opt)
    opt = opt or {}
    local seen = lucid.model(opt.dir or dir, { cache = at, dtype = opt.dtype })
    local vision = seen.vision
    seen.runs = 0
    function seen:vision(...)
      self.runs = self.runs + 1
      return vision(self, ...)
    end
    return seen
  end

  local function look(model)
    local list = {}
    for i, path in ipairs(pictures) do list[i] = model:features(path):tolist() end
    model.seen:sync()
    return list
  end

  it("from the cache are the tower's, bit for bit, and the tower does not run", function()
    local at = folder .. "/kept"
    local live, filling, reading = open("none"), open(at), open(at)
    local want = look(live)
    assert.same(want, look(filling))
    assert.same(want, look(reading))
    assert.same({ 4, 4, 0 }, { live.runs, filling.runs, reading.runs })
    assert.is_true(reading.seen:has(pictures[1]))
  end)

  it("give the log-probabilities that live ones give", function()
    local at = folder .. "/logps"
    local function logps(model)
      return lucid.no_grad(model.logps, model, lucid.forest.of {
        { image = pictures[1], ids = { 1, lucid.IMAGE, 40, 41, 2 }, score_from = 4 },
        { image = pictures[2], ids = { 1, lucid.IMAGE, 40, 41, 2 }, score_from = 4 } }):tolist()
    end
    look(open(at))
    assert.same(logps(m), logps(open(at)))
  end)

  it("are those of the content: a copy has them, a changed file has not", function()
    local at, copy = folder .. "/content", folder .. "/copy.png"
    look(open(at))
    local again = open(at)
    file.write(copy, file.read(pictures[1]))
    again:features(copy)
    assert.equal(0, again.runs)
    file.write(copy, file.read(pictures[2]):sub(1, -13) .. file.read(pictures[2]):sub(-12))
    again:features(copy)
    assert.equal(0, again.runs)
    local drawn = tiny.pictures(support.folder(), 6)
    again:features(drawn[6])
    assert.equal(1, again.runs)
  end)

  it("are of regular files alone: a device may have no end", function()
    local link = folder .. "/endless.png"
    assert(os.execute(("ln -s /dev/zero '%s'"):format(link)))
    for _, f in ipairs { function() m:features(link) end, function() lucid.forest.image_key(link) end } do
      local ok, reason = pcall(f)
      assert.is_false(ok)
      assert.equal(link .. ": a picture is a regular file, and this is none", reason)
    end
  end)

  it("have a key for each tower, processor and dtype, and none for the language model", function()
    local features = require "lucid.features"
    local function key(model) return cache.key(features.settings(model)) end
    local first = key(m)
    assert.equal(first, key(lucid.model(dir)))
    assert.equal(first, key(lucid.model(dir):lora { rank = 2, alpha = 4 }))
    assert.not_equal(first, key(lucid.model(dir, { dtype = "bf16" })))
    assert.not_equal(first, key(tiny.model(folder .. "/other", 4)))
    local taught = lucid.model(dir)
    for _, p in ipairs(taught:all_parameters()) do
      if p.name:find("lm_head") then lucid.no_grad(function() p.tensor:copy(p.tensor * 2) end) end
    end
    assert.equal(first, key(taught))
    local resampled = lucid.model(dir)
    resampled.processing = { resample = 0 }
    assert.not_equal(first, key(resampled))
    local layer = lucid.model(dir)
    layer.config = setmetatable({ vision_feature_layer = -2 }, { __index = m.config })
    assert.not_equal(first, key(layer))
    assert.is_false(layout.keeps_class(layer.config))
  end)

  it("are not looked up once the tower is trained", function()
    local at = folder .. "/trained"
    look(open(at))
    local trained = open(at)
    trained:train("vision")
    look(trained)
    assert.equal(4, trained.runs)
  end)

  it("go on without a cache that cannot be written", function()
    file.write(folder .. "/plain", "")
    local chunk = ([[
      local m = require("lucid").model("%s", { cache = "%s/plain/cache" })
      print(m:features("%s"):size(1))
      m.seen:sync()]]):format(dir, folder, pictures[1])
    local pipe = assert(io.popen(("%s -e '%s' 2>&1"):format(program, chunk)))
    local said = pipe:read("*a")
    assert.is_true(pipe:close())
    assert.is_truthy(said:find("16", 1, true))
    assert.is_truthy(said:find("the features of pictures are not kept: " .. folder .. "/plain", 1, true))
  end)

  it("of more pictures than memory has room for are read again", function()
    local at = folder .. "/room"
    local narrow = open(at)
    narrow.seen.bytes = 2 ^ 40                              -- as after many pictures: the next one begins a generation
    look(narrow)
    narrow.seen.bytes = 2 ^ 40
    narrow:features(pictures[4])
    assert.equal(4, narrow.runs)
  end)
end)
