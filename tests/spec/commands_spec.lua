-- What holds of every command, whatever it does: its help, its options, what goes to which stream.
local args = require "lucid.args"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local lucid = require "lucid"
local runs = require "tests.support.runs"
local training = require "tests.support.training"

local BIN = require "tests.support.program"
local CONVERSATION = { chat = true }          -- what is said there is no result

local names = {}
for _, entry in ipairs(file.list "recipes") do names[#names + 1] = entry:match "^([%w_]+)%.lua$" end

local dir
-- Runs lucid with words: its exit status, stdout and stderr.
local function run(words)
  local status = os.execute(("%s %s >%s/out 2>%s/err </dev/null"):format(BIN, words, dir, dir))
  return status / 256, file.read(dir .. "/out"), file.read(dir .. "/err")
end

setup(function() dir = folder.folder() end)
teardown(function() folder.remove(dir) end)

for _, name in ipairs(names) do
  describe("lucid " .. name, function()
    local path = ("recipes/%s.lua"):format(name)
    local spec = args.spec_of(path)
    local list, places = args.options(spec)

    it("begins with a line for lucid help, and names its options", function()
      assert.truthy(file.read(path):find "^%-%- %u[^\n]*%.\n")
      local status, out, err = run(name .. " --help")
      assert.same({ 0, "" }, { status, err })
      assert.truthy(out:find(("usage: lucid %s [options]"):format(name), 1, true), out)
      for _, o in ipairs(list) do
        assert.truthy(out:find("  --" .. o.name .. " ", 1, true), o.name)
        assert.truthy(o.help and #o.help > 0, o.name)
      end
    end)

    it("refuses an option that there is not, and tells the nearest", function()
      for _, o in ipairs { list[1], list[#list] } do
        local status, out, err = run(("%s --%sq"):format(name, o.name))
        assert.same({ 2, "" }, { status, out })
        assert.equal(("lucid: unknown option --%sq; did you mean --%s?\n"):format(o.name, o.name), err)
      end
    end)

    it("ends with status 1 and a line that names what is not there", function()
      if name == "bench" then return end                    -- it reads nothing
      local absent = dir .. "/absent/none"
      local words, given = { name }, { model = absent, data = absent, images = absent, annotations = absent, adapter = absent,
        questions = name == "pope" and absent or nil, out = absent, layout = "original", gamma = 0 }
      if name == "demo" then given.out = "/dev/null/none" end
      if name == "pope" then given.annotations = nil end
      if name == "shr" then given = { judgements = absent } end
      for _, o in ipairs(list) do
        if given[o.name] then words[#words + 1] = ("--%s %s"):format(o.name, given[o.name]) end
      end
      if spec.positional then words[#words + 1] = absent end
      local status, out, err = run(table.concat(words, " "))
      assert.same({ 1, "" }, { status, out }, err)
      assert.truthy(err:find "^lucid: [^\n]+\n$" and err:find(name == "demo" and "/dev/null" or absent, 1, true), err)
    end)

    it("takes --quiet and --json, and prints through lucid.run alone", function()
      if CONVERSATION[name] then return end
      assert.truthy(places.quiet and places.json)
      assert.is_nil(file.read(path):find "%f[%w]print%s*[%(%{\"]")
    end)
  end)
end

-- The value of stdout, which is JSON and nothing else; stderr is empty where --quiet is asked for.
local function told(words)
  local status, out, err = run(words .. " --json --quiet")
  assert.equal(0, status, words .. "\n" .. err)
  assert.equal("", err)
  assert.equal(1, select(2, out:gsub("\n", "")), out)
  return json.decode(out)
end

describe("--json --quiet", function()
  setup(function()
    training.world(dir)
    assert(training.run(training.llava(dir, dir .. "/run", "--steps 2 --quiet"), dir) == 0)
  end)

  it("gives training's last step, and the plan where that is all", function()
    local value = told(training.llava(dir, dir .. "/again", "--steps 2"))
    assert.equal(dir .. "/again", value.out)
    assert.equal(2, value.last.step)
    assert.truthy(value.last.loss > 0)
    value = told(training.llava(dir, dir .. "/planned", "--dry-run"))
    assert.equal(6, value.steps)
    assert.truthy(value.operations.total > value.operations.policy and value.seconds > 0)
    assert.equal(2, told(training.sft(dir, dir .. "/sft", "--steps 2")).last.step)
  end)

  it("gives a scored pair, token by token or as sums that agree", function()
    local words = ("score --model %s/model --adapter %s/run --data %s/pairs --images %s/world"):format(dir, dir, dir, dir)
    local value = told(words)
    assert.equal(12, #value.pairs)
    assert.equal(12, value.score["rewards/margins"].n)
    local sum = 0
    for _, token in ipairs(told(words .. " --explain 1").chosen) do sum = sum + token.policy end
    assert.is_near(value.pairs[1].chosen, sum, 1e-3)
  end)

  it("gives what was written", function()
    local out = told(("merge --model %s/model --adapter %s/run --out %s/merged"):format(dir, dir, dir))
    assert.equal(dir .. "/merged", out.out)
    assert.truthy(out.merged > 0)
    out = told(("export --model %s/model --layout original --out %s/original"):format(dir, dir))
    assert.same({ "llava", "original" }, { out.kind, out.layout })
    out = told(("export --adapter %s/run --layout original --out %s/published"):format(dir, dir))
    assert.equal(#lucid.checkpoint(dir .. "/published/adapter_model.safetensors"):names(), out.tensors)
    assert.equal(dir .. "/page.html", told(("report %s --out %s/page.html"):format(runs.write(dir), dir)).out)
  end)

  it("is a choice: progress goes to stderr else, and not to stdout", function()
    for _, words in ipairs { ("merge --model %s/model --adapter %s/run --out %s/more"):format(dir, dir, dir),
      ("inspect %s/model --check"):format(dir), "bench --small --rounds 1 --only json --suite cpu",
      ("describe --model %s/model --max-new-tokens 2 %s/world/VG_100K/300001.jpg %s/world/VG_100K/300002.jpg"):format(dir, dir, dir) } do
      local _, out, err = run(words .. " --json")
      assert.truthy(err:find "%f[%d]%d+/%d+  0:%d%d left", words)
      json.decode(out)
    end
  end)

  it("gives what a folder holds and what a picture shows", function()
    local found = told(("inspect %s/model --check"):format(dir))
    assert.truthy(found.tensors > 0)
    assert.same({}, found.nonfinite)
    local words = ("describe --model %s/model --max-new-tokens 3 %s/world/VG_100K/300001.jpg"):format(dir, dir)
    assert.equal(3, told(words).tokens)
    assert.equal(2, #told(words .. (" %s/world/VG_100K/300002.jpg"):format(dir)))
  end)

  it("gives what was mined", function()
    local numbers = told(("mine --model %s/model --images %s/world --out %s/mined --max-new-tokens 8 --omission 1 --no-check --min-ratio 0")
      :format(dir, dir, dir))
    assert.truthy(numbers.records.desc + numbers.records.pope > 0)
    assert.equal(6, numbers.selection.pictures)
  end)
end)
