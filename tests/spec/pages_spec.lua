-- The pages of recipes/: made from the recipes' own options, and as they stand in the repository.
local args = require "lucid.args"
local file = require "lucid.file"
local pages = require "lucid.pages"

describe("the pages of recipes/", function()
  it("are those that make docs writes", function()
    local all, stale = pages.all(), {}
    for path, text in pairs(all) do
      if not file.exists(path) or file.read(path) ~= text then stale[#stale + 1] = path end
    end
    for _, name in ipairs(file.list "recipes/docs") do
      if not all["recipes/docs/" .. name] then stale[#stale + 1] = "recipes/docs/" .. name end
    end
    assert.same({}, stale, "run make docs")
  end)

  it("have a row for every option, with its default and its group", function()
    for _, name in ipairs(pages.names()) do
      local page = pages.page(name)
      for _, o in ipairs((args.options(args.spec_of("recipes/" .. name .. ".lua")))) do
        local on = o.default == true and "no-" or ""
        assert.truthy(page:find("\n| `--" .. on .. o.name, 1, true), name .. " --" .. o.name)
        if o.title then assert.truthy(page:find("\n## " .. o.title .. "\n", 1, true), o.title) end
      end
    end
    local page = pages.page "pope"
    assert.truthy(page:find("| `--pictures N` | `500` | with --annotations: pictures that are asked about; 0: all |", 1, true))
    assert.truthy(page:find("| `--beams N` | as published |", 1, true))
  end)

  it("have the first lines and the examples of the recipe", function()
    local first, examples = pages.head "recipes/export.lua"
    assert.equal("A model in its other layout, or an adapter as the published ones are.", first)
    assert.equal(3, #examples)
    assert.equal(1, (examples[1]:find("lucid export ", 1, true)))
    for _, name in ipairs(pages.names()) do
      local _, list = pages.head("recipes/" .. name .. ".lua")
      assert.truthy(list[1] and list[1]:find("lucid " .. name, 1, true), name)
    end
    assert.truthy(pages.index():find("[`doctor`](docs/doctor.md)", 1, true))
  end)
end)
