-- examples/README.md: its commands are ones that the recipes take, and they run to their end, in the page's order and
-- words, on the tiny model and a small world in the page's layout.
local commands = require "tests.support.commands"
local downloads = require "tests.support.downloads"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local program = require "tests.support.program"

local PAGE = file.read "examples/README.md"
local HERE = io.popen("pwd"):read "*l"
local dir

setup(function()
  dir = folder.folder()
  downloads.llava(dir .. "/downloads", dir .. "/raw")
end)
teardown(function() folder.remove(dir) end)

-- Runs lucid in the folder that holds downloads/; what it says on stdout and stderr.
local function run(words)
  local status = os.execute(("cd '%s' && LUCID_CACHE=none '%s/%s' %s >'%s/out' 2>'%s/err' </dev/null"):format(dir, HERE, program,
    words, dir, dir))
  return status, file.read(dir .. "/out"), file.read(dir .. "/err")
end

describe("the check of commands", function()
  it("names what a recipe does not take", function()
    assert.is_nil(commands.fault "lucid pope --model A --questions B --images C --out D --limit 3")
    assert.is_nil(commands.fault "FOO=1 bin/lucid report a b --no-published")
    assert.truthy(commands.fault("lucid pope --modle A"):find("no --modle", 1, true))
    assert.truthy(commands.fault("lucid poop"):find("no recipe", 1, true))
    assert.truthy(commands.fault("lucid pope --limit many"):find("no number", 1, true))
    assert.truthy(commands.fault("lucid pope --limit"):find("no value", 1, true))
    assert.truthy(commands.fault("lucid pope word"):find("is no option", 1, true))
    assert.truthy(commands.fault("lucid doctor a --for llava,cat"):find("is no choice", 1, true))
    assert.truthy(commands.fault("lucid export --layout other"):find("is no choice", 1, true))
  end)
end)

describe("the walk", function()
  local lines = commands.lines(commands.fenced(PAGE, "sh"))

  it("has commands that the recipes take", function()
    assert.is_true(#lines > 9)
    for _, line in ipairs(lines) do
      assert.truthy(line:find "^lucid ", line)
      assert.is_nil(commands.fault(line))
    end
  end)

  it("shows what lucid doctor says of its layout, and of a folder that is not whole", function()
    local shown = commands.fenced(PAGE, "text")
    local status, out = run(lines[1]:gsub("^lucid ", ""))
    assert.equal(0, status)
    assert.equal(shown[1] .. "\n", out)
    local at = dir .. "/downloads/llava-1.5-7b-hf/model-00001-of-00002.safetensors"
    file.rename(at, dir .. "/kept-1")
    file.rename((at:gsub("00001%-of", "00002-of")), dir .. "/kept-2")
    file.write(at, "version https://git-lfs.github.com/spec/v1\n")
    status, out = run(lines[1]:gsub("^lucid ", ""))
    file.rename(dir .. "/kept-1", at)
    file.rename(dir .. "/kept-2", (at:gsub("00001%-of", "00002-of")))
    assert.is_true(status ~= 0)
    for line in shown[2]:gmatch "[^\n]+" do assert.truthy(out:find(line .. "\n", 1, true), out) end
  end)

  it("runs to its end: adapter, POPE, SHR, report, merge and export", function()
    for _, line in ipairs(lines) do
      if not line:find "^lucid serve" then
        -- No account, and short answers: the model has random weights and says whatever comes.
        local words = line:gsub("^lucid ", ""):gsub("%-%-judge openai", "--judge annotation")
        if line:find "^lucid shr" then words = words .. " --max-new-tokens 12" end
        local status, out, err = run(words)
        assert.equal(0, status, line .. "\n" .. out .. err)
      end
    end
    assert.truthy(file.exists(dir .. "/runs/llava/adapter/adapter_model.safetensors"))
    local pope = json.read(dir .. "/runs/pope/results.json")
    for _, set in ipairs { "random", "popular", "adversarial" } do assert.is_number(pope[set].accuracy.value) end
    assert.is_number(json.read(dir .. "/runs/shr/results.json").shr.sentences_per_image.value)
    local page = file.read(dir .. "/runs/report.html")
    assert.truthy(page:find("POPE", 1, true) and page:find("SHR", 1, true))
    assert.truthy(file.exists(dir .. "/llava-hadpo/model.safetensors.index.json"))
    assert.truthy(file.exists(dir .. "/hadpo-llava/adapter_config.json"))
  end)
end)
