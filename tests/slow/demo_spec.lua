-- The demo's smoke run, whole: every stage, the report's keys; and the same seed gives the same adapter
-- whatever the number of threads.
local file = require "lucid.file"
local json = require "lucid.json"
local folder = require "tests.support.folder"

local dir

local function run(words)
  local status = os.execute(("timeout 600 bin/lucid %s >%s/log 2>&1"):format(words, dir))
  assert.equal(0, status, file.read(dir .. "/log"))
end

local function is_fraction(x) return type(x) == "number" and x >= 0 and x <= 1 end

describe("the demo", function()
  setup(function()
    dir = folder.folder()
    run(("demo --fast --seed 5 --quiet --out %s/demo"):format(dir))
  end)
  teardown(function() folder.remove(dir) end)

  it("reports before, after and control", function()
    local report = json.read(dir .. "/demo/report.json")
    assert.equal(5, report.seed)
    assert.is_true(report.seconds.total > 0 and report.seconds.mine > 0)
    for _, part in ipairs { "before", "after", "control" } do
      local r = report[part]
      assert.is_true(is_fraction(r.shr) and is_fraction(r.object_recall))
      assert.is_true(r.sentences_per_image >= 0 and r.words_per_image >= 0)
      for _, set in ipairs { "random", "popular", "adversarial" } do
        for _, name in ipairs { "accuracy", "precision", "recall", "f1", "yes_ratio" } do
          assert.is_true(is_fraction(r.pope[set][name]), part .. " " .. set .. " " .. name)
        end
      end
    end
    local page = file.read(dir .. "/demo/report.html")
    assert.truthy(page:find("<svg", 1, true) and page:find("data:image/", 1, true))
    assert.is_nil(page:find("<script", 1, true))
  end)

  it("is what README.md's commands and its Lua work on", function()
    run(("tests/readme.lua %s/demo"):format(dir))
    assert.truthy(file.read(dir .. "/log"):find("its Lua ran", 1, true))
  end)

  it("trains on every kind of pairs that was mined", function()
    for _, name in ipairs { "dpo", "control" } do
      local mix = json.read(("%s/demo/%s/config.json"):format(dir, name)).options.mix
      for _, kind in ipairs { "desc", "pope" } do
        local pairs_of = json.read(("%s/demo/mined/%s_data.json"):format(dir, kind))
        assert.equal(next(pairs_of) ~= nil, mix:find(kind, 1, true) ~= nil, kind)
      end
    end
  end)

  it("skips the stages that are done", function()
    run(("demo --fast --seed 5 --out %s/demo"):format(dir))
    local _, done = file.read(dir .. "/log"):gsub("already there", "")
    assert.is_true(done >= 9)
  end)

  it("gives one adapter for a seed, with 1 and with 2 threads, twice", function()
    local hashes = {}
    for i = 1, 4 do
      local out = ("%s/run%d"):format(dir, i)
      run(("llava --model %s/demo/base --data %s/demo/mined --images %s/demo/world/wild --out %s --rank 4 --alpha 8 --lr 1e-3 --steps 3 --batch 6 --seed 9 --threads %d --quiet")
        :format(dir, dir, dir, out, 1 + i % 2))
      hashes[file.hash(out .. "/adapter/adapter_model.safetensors")] = true
    end
    local count = 0
    for _ in pairs(hashes) do count = count + 1 end
    assert.equal(1, count)
  end)
end)
