-- Mining that is killed (SIGKILL) at random moments, resumed, killed again ... has the files of the run that was not.
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local folder = require "tests.support.folder"
local lucid = require "lucid"
local mine = require "lucid.mine"
local mining = require "tests.support.mining"
local rng = require "lucid.rng"
local tiny = require "tests.support.tiny"

local KILLS, MOST = 30, 5        -- kills in all, and of one run

describe("mining that is killed", function()
  local dir
  setup(function()
    dir = folder.folder()
    tiny.model(dir .. "/model", 3)
    files.write { dir = dir .. "/world", split = "wild", seed = 3, count = 40, seen = 60 }
  end)
  teardown(function() folder.remove(dir) end)

  it("goes on to the same files", function()
    local whole, from = dir .. "/whole", lucid.time()
    assert.same({ 0, "" }, { mining.run(dir, whole) })
    local took, random, expected = lucid.time() - from, rng(os.time(), "kill"), mining.files(whole)
    assert.is_true(file.size(whole .. "/desc_data.json") > 2000 and file.size(whole .. "/pope_data.json") > 2000)
    local killed, i, moments = 0, 0, {}
    while killed < KILLS do
      i = i + 1
      assert.is_true(i <= 3 * KILLS, ("%d runs, but only %d were killed before their end"):format(i, killed))
      local out, done = ("%s/%d"):format(dir, i), false
      for attempt = 1, MOST do
        local after = took * random:uniform()
        local status, said = mining.run(dir, out, "--resume", ("timeout -s KILL %.3f"):format(math.max(after, 0.001)))
        if status == 0 then done = true break end
        assert.equal(137 * 256, status, said)           -- timeout ends itself as it ended the program
        killed = killed + 1
        moments[#moments + 1] = ("%d.%d: %.3f s"):format(i, attempt, after)
      end
      if not done then assert.same({ 0, "" }, { mining.run(dir, out, "--resume") }) end
      assert.same(expected, mining.files(out), table.concat(moments, ", "))
      folder.remove(out)
    end
  end)
end)

local MPIRUN = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 120 mpirun --oversubscribe --bind-to none -n "

describe("mining by several processes", function()
  it("has the files of one, however many go on with it", function()
    if os.execute "command -v mpirun >/dev/null 2>&1" ~= 0 then return pending "no mpirun" end
    local dir = folder.folder()
    tiny.model(dir .. "/model", 3)
    files.write { dir = dir .. "/world", split = "wild", seed = 3, count = 40, seen = 60 }
    assert.same({ 0, "" }, { mining.run(dir, dir .. "/one") })
    for name, words in pairs { two = "", three = "--until describe" } do
      assert.equal(0, (mining.run(dir, dir .. "/" .. name, words, MPIRUN .. (name == "two" and 2 or 3))))
    end
    assert.equal(0, (mining.run(dir, dir .. "/three", "--resume", MPIRUN .. 2)))
    for _, name in ipairs { "two", "three" } do assert.same(mining.files(dir .. "/one"), mining.files(dir .. "/" .. name)) end
    folder.remove(dir)
  end)
end)

local function write_many(dir, count)
  local pictures = {}
  for i = 1, count do
    pictures[i] = { image_id = i, objects = { mining.thing("car", "red"), mining.thing("sun", "red"), mining.thing("dog", "red") },
      sentences = { ("The %dth picture has much to tell. "):format(i):rep(20) } }
  end
  mining.write(dir, pictures)
end

describe("mining of many pictures", function()
  it("holds few of them at a time", function()
    local dir, count, most = folder.folder(), 6000, 0
    write_many(dir, count)
    local model, asked, base = { kind = "llava" }, 0, nil
    local function measure(n)
      asked = asked + n
      if asked % 1500 >= n then return end
      collectgarbage()
      base = base or collectgarbage "count"
      most = math.max(most, collectgarbage "count" - base)
    end
    function model.generate_all(_, requests)
      measure(#requests)
      local answers = {}
      for i in ipairs(requests) do answers[i] = { text = "There is a car. There is a ball. There is a dog." } end
      return answers
    end
    local judge = mining.judge()
    local watching = { ask = function(_, requests)
      measure(#requests)
      return judge:ask(requests)
    end }
    local report = mine.run(mining.options(dir, { batch = 50, min_objects = 1 }), { model = model, judge = watching })
    assert.equal(count, report.descriptions.corrected)
    assert.is_true(file.size(dir .. "/out/stages/1-select.jsonl") > 5 * 2 ^ 20)
    assert.is_true(most < 2 ^ 11, ("%d KiB"):format(most))
    folder.remove(dir)
  end)
end)
