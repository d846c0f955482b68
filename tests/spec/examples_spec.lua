-- The scripts of examples/: each runs, is short, and has its row in the folder's page. What is a loss, a metric, a
-- judge or a template is loaded as the recipes load it; slow/install_spec.lua runs recipes with them.
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local folder = require "tests.support.folder"
local lucid = require "lucid"
local program = require "tests.support.program"
local tiny = require "tests.support.tiny"

local dir
setup(function()
  dir = folder.folder()
  tiny.model(dir .. "/model", 3)
  files.write { dir = dir .. "/world", split = "eval", seed = 3, count = 2, seen = 24 }
end)
teardown(function() folder.remove(dir) end)

local function run(words)
  local status = os.execute(("%s examples/%s >%s/out 2>%s/err"):format(program, words, dir, dir))
  assert.equal(0, status, words .. "\n" .. file.read(dir .. "/err"))
  return file.read(dir .. "/out")
end

describe("the examples", function()
  it("are short, and each has its row", function()
    local page = file.read "examples/README.md"
    for _, name in ipairs(file.list "examples") do
      if name:find "%.lua$" then
        local _, lines = file.read("examples/" .. name):gsub("\n", "")
        assert.is_true(lines <= 40, name)
        assert.truthy(page:find("| `" .. name .. "` |", 1, true), name)
      end
    end
    for name in page:gmatch "| `(%d+_[%w_]+%.lua)` |" do assert.truthy(file.exists("examples/" .. name), name) end
  end)

  it("run", function()
    assert.truthy(run("01_tensor.lua"):find("f32 [2, 2]", 1, true))
    local step, loss, slope, offset = run("02_gradient.lua"):match "(300)%s+(%S+)%s+(%S+)%s+(%S+)"
    assert.equal("300", step)
    assert.is_true(tonumber(loss) < 1e-3)
    assert.is_near(3, tonumber(slope), 0.05)
    assert.is_near(0.5, tonumber(offset), 0.05)
    local picture = dir .. "/world/VG_100K/300001.jpg"
    assert.truthy(run(("03_describe.lua %s/model %s 'Is it red?'"):format(dir, picture)):find "%d+ tokens, ended by ")
    local said = run(("07_own_recipe.lua --model %s/model --images %s/world --limit 2 --quiet"):format(dir, dir))
    assert.equal(2, select(2, said:gsub("SHR %d", "")))
  end)

  it("are there for every option that takes a file of one's own", function()
    local said = file.read("README.md"):match "one file and name it: (.-)%. `examples/` has"
    local options = 0
    for option in said:gmatch "`%-%-(%l+) %./mine%.lua`" do
      assert.truthy(file.read("examples/README.md"):find("for `--" .. option .. "` |", 1, true), option)
      options = options + 1
    end
    assert.equal(5, options)
  end)

  it("are what the recipes take", function()
    local chosen, rejected = lucid.tensor { -1, -2 }, lucid.tensor { -3, -1 }
    local logps = { chosen = chosen, rejected = rejected }
    local none = { chosen = chosen * 0, rejected = rejected * 0 }
    local loss = lucid.loss["examples/04_own_loss.lua"](logps, none, { beta = 0.5 })
    assert.is_near((0 + 1.5) / 2, loss:item(), 1e-6)          -- margins of 1 and -0.5, the target 1
    local metric = lucid.metric.of("examples/05_own_metric.lua", "answers")
    assert.equal(0.5, metric.score({ { answer = "Yes." }, { answer = "No." } }).says_yes.value)
    local judge = lucid.judge["examples/06_own_judge.lua"].new {}
    local reply = judge:ask({ { regions = { { phrase = "a red car" } }, sentences = { "A car stands there.", "A dog." } } })[1]
    assert.equal("Judgement:\n1. correct: by words\n2. hallucination: by words", reply.text)
    local asked = lucid.recipe.load "examples/09_own_prompt.lua" { regions = { { phrase = "a red car" } }, sentences = { "A dog." } }
    assert.truthy(asked:find("- a red car\n", 1, true) and asked:find("1. A dog.", 1, true), asked)
  end)
end)
