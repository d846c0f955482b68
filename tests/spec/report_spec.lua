-- Pages of runs: what tells the runs apart, charts' axes.
local file = require "lucid.file"
local report = require "lucid.report"
local run = require "lucid.run"
local folder = require "tests.support.folder"

describe("a page of runs", function()
  local dir
  setup(function() dir = folder.folder() end)
  teardown(function() folder.remove(dir) end)

  -- Runs of two steps each; what the page calls them.
  local function names(paths)
    local runs = {}
    for i, path in ipairs(paths) do
      runs[i] = dir .. "/" .. path
      file.mkdir(runs[i])
      file.write(runs[i] .. "/log.jsonl", '{"step": 1, "loss": 0}\n{"step": 2, "loss": 1}\n')
    end
    local page, list = report { title = "runs" }, {}
    run.curves(page, runs)
    page:write(dir .. "/page.html")
    for name in file.read(dir .. "/page.html"):gmatch('style="fill:[^"]*">([^<]*)<') do list[#list + 1] = name end
    return list
  end

  it("calls them by what tells them apart", function()
    assert.same({ "dpo", "control" }, names { "dpo", "control" })
    assert.same({ "before", "after" }, names { "eval/before/shr", "eval/after/shr" })
    assert.same({ "a/x", "b/x", "a/y" }, names { "a/x", "b/x", "a/y" })
    assert.same({ "alone" }, names { "alone" })
  end)

  it("has no minus zero on its axes", function()
    local chart = report.chart { { name = "x", x = { 1, 2 }, y = { -1e-12, 0.0006 } } }
    assert.is_nil(chart:find(">-0<", 1, true))
    assert.truthy(chart:find(">0<", 1, true))
  end)
end)
