-- Pictures that are read ahead on a thread of their own are those that are read at once, whatever the order.
local image = require "lucid.image"
local file = require "lucid.file"
local features = require "lucid.features"
local support = require "tests.support.folder"
local tiny = require "tests.support.tiny"
local C = require("lucid.native").C

describe("a reader", function()
  local folder, paths
  setup(function()
    folder = support.folder()
    paths = tiny.pictures(folder, 12)
  end)
  teardown(function() support.remove(folder) end)

  local function same(reader, path) assert.same(image.load(path):tolist(), reader:take(path):tolist()) end

  it("gives what was asked for, in any order", function()
    local reader = image.reader()
    for round = 1, 20 do
      reader:ask(paths)
      for i = 1, #paths do same(reader, paths[(i * 5 + round) % #paths + 1]) end
    end
  end)

  it("gives a picture as often as it was asked for", function()
    local reader = image.reader()
    reader:ask { paths[1], paths[2], paths[1], paths[1] }
    for _ = 1, 3 do same(reader, paths[1]) end
    same(reader, paths[2])
  end)

  it("gives what was not asked for, and what was given already", function()
    local reader = image.reader()
    same(reader, paths[1])
    reader:ask { paths[2] }
    same(reader, paths[2])
    same(reader, paths[2])
    same(reader, paths[3])
  end)

  it("has the errors of a picture that is read at once", function()
    local reader, broken = image.reader(), folder .. "/broken.png"
    file.write(broken, file.read(paths[1]):sub(1, 60))
    for _, path in ipairs { broken, folder .. "/nowhere.png", folder } do
      local _, want = pcall(image.load, path)
      reader:ask { paths[1], path, paths[2] }
      local ok, reason = pcall(reader.take, reader, path)
      assert.is_false(ok)
      assert.equal((want:gsub("^.-%.lua:%d+: ", "")), (reason:gsub("^.-%.lua:%d+: ", "")))
      same(reader, paths[2])
    end
  end)

  it("keeps the errors of pictures that are read while another is waited for", function()
    local large, broken = folder .. "/large.png", folder .. "/cut.png"
    image.save(image.resize(image.load(paths[1]), 900, 900), large)
    file.write(broken, file.read(paths[1]):sub(1, 60))
    for _ = 1, 5 do
      local reader = image.reader()
      reader:ask { large, broken, paths[2], broken }
      assert.equal(900, reader:take(large):size(1))
      same(reader, paths[2])
      for _ = 1, 2 do assert.error_matches(function() reader:take(broken) end, "cut.png") end
    end
  end)

  it("keeps no interruption: what it has stopped is read again", function()
    local slow, stopped = folder .. "/slow.png", folder .. "/stopped.jpg"
    for _, path in ipairs { slow, stopped } do image.save(image.resize(image.load(paths[1]), 900, 900), path) end
    for _ = 1, 5 do
      local reader = image.reader()
      C.lc_interrupt(1)                                    -- which a PNG does not heed
      reader:ask { slow, stopped }
      local ok, reason = pcall(reader.take, reader, slow)
      C.lc_interrupt(0)
      assert.is_true(ok, reason)
      assert.equal(900, reader:take(stopped):size(1))
    end
  end)

  it("forgets what was asked for before, and may go at any time", function()
    for _ = 1, 50 do
      local reader = image.reader()
      reader:ask(paths)
      reader:ask { paths[3] }
      same(reader, paths[3])
      reader:ask(paths)
      reader = nil                                         -- luacheck: ignore
      collectgarbage()
    end
  end)

  it("reads on where more is asked for than may be ready", function()
    local big, many = folder .. "/big.bmp", {}
    image.save(image.resize(image.load(paths[1]), 2400, 2400), big)      -- 17 MB of pixels
    for i = 1, 8 do
      many[i] = ("%s/big%d.bmp"):format(folder, i)
      file.write(many[i], file.read(big))
    end
    local reader, want = image.reader(), image.load(big):size(1)
    reader:ask(many)
    for i = #many, 1, -1 do assert.equal(want, reader:take(many[i]):size(1)) end
  end)

  it("begins nothing that is no longer asked for", function()
    local path, list, least = folder .. "/wanted_once.bmp", {}, math.huge
    image.save(image.resize(image.load(paths[1]), 2000, 2000), path)     -- 12 MB of pixels
    for i = 1, 6 do list[i] = path end
    for _ = 1, 5 do                                        -- a busy machine may read some before they are forgotten
      for _ = 1, 2 do collectgarbage() end
      local reader, held = image.reader(), tonumber(C.lc_memory_used())
      C.lc_memory_peak_reset()
      reader:ask(list)
      local started = C.lc_seconds()
      repeat until tonumber(C.lc_memory_used()) > held + 1e6 or C.lc_seconds() > started + 1 -- one is begun
      reader:ask {}
      least = math.min(least, (tonumber(C.lc_memory_peak()) - held) / 12e6)
    end
    assert.is_true(least < 4, ("room for %.1f pictures"):format(least))
  end)

  it("is asked for the pictures of a batch that no one has seen", function()
    local m = tiny.model(folder .. "/model", 3)
    m:features(paths[1])
    local asked
    m.seen.reader = { ask = function(_, list) asked = list end, take = function(_, path) return image.load(path) end }
    m.seen:ahead { paths[1], paths[2], paths[3], paths[2] }
    assert.same({ paths[2], paths[3] }, asked)
    asked = nil
    m.seen:ahead { paths[1], paths[2] }                    -- one is read as soon as it can be
    assert.is_nil(asked)
    assert.equal(features.new(m):get(paths[2]):size(1), m:features(paths[2]):size(1))
  end)
end)
