-- The pages that are written by hand: what README.md says there is, is there; every folder and module has its place
-- in a map; every figure of the comparison stands in the results that it names. Whether the demo's numbers are those
-- of README.md is for make readme-check.
local commands = require "tests.support.commands"
local file = require "lucid.file"
local pages = require "lucid.pages"
local program = require "tests.support.program"

local README = file.read "README.md"
local STATUS = require("lucid.command").STATUS

local function read(command)
  local pipe = io.popen(command)
  local text = pipe:read "*a"
  pipe:close()
  return text
end

-- The rows of the table whose head begins with some text: lists of cells.
local function rows_below(page, head)
  local at = assert(page:find("\n| " .. head, 1, true), head)
  local rows = {}
  for line in page:sub(at + 1):gmatch "([^\n]*)\n" do
    if not line:find "^|" then break end
    local cells = {}
    for cell in line:gmatch "|%s*([^|]-)%s*%f[|]" do cells[#cells + 1] = cell end
    rows[#rows + 1] = cells
  end
  return { unpack(rows, 3) }
end

describe("README.md", function()
  it("has a row for every command, and no other", function()
    local named, shown = {}, {}
    for _, row in ipairs(rows_below(README, "command |")) do
      for name in row[1]:gmatch "`([%w_%-]+)`" do named[#named + 1] = name end
    end
    local listed = (read(program .. " help"):match "\ncommands:\n(.*)" .. "\n\n"):match "^(.-\n)\n"
    for line in listed:gmatch "[^\n]+" do shown[#shown + 1] = line:match "^  ([%w_%-]+)" end
    table.sort(named)
    assert.same(pages.names(), named)
    assert.same(named, shown)
  end)

  it("has commands that the recipes take", function()
    local lines = commands.lines(commands.fenced(README, "sh"))
    assert.is_true(#lines > 12)
    for _, line in ipairs(lines) do assert.is_nil(commands.fault(line)) end
    for _, name in ipairs(pages.names()) do
      local _, examples = pages.head("recipes/" .. name .. ".lua")
      for _, line in ipairs(examples) do
        local plain = commands.lines({ (line:gsub("[%[%]]", "")) })[1]       -- [--json] may be left out
        if line:find "^lucid " then assert.is_nil(commands.fault(plain)) end
      end
    end
  end)

  it("names targets of make, and files and folders that there are", function()
    local targets = file.read "Makefile"
    for _, page in ipairs { "README.md", "lua/README.md", "native/README.md", "tests/README.md", "examples/README.md", "recipes/README.md" } do
      local text = file.read(page)
      for words in text:gmatch "%f[`\n][`\n]make ([%l%- ]+)" do
        for target in words:gmatch "%S+" do
          assert.truthy(targets:find("\n" .. target .. ":", 1, true), page .. ": make " .. target)
        end
      end
      local here = page:match "^(.*/)" or ""
      for path in text:gmatch "%]%(([^%)#]+)%)" do
        if not path:find "^https?:" then assert.truthy(file.exists(here .. path), page .. ": " .. path) end
      end
    end
    for path in README:gmatch "`([%w_/%.%-]+/[%w_/%.%-]*)`" do
      if path:find "^examples/" or path:find "^lua/" or path:find "^native/" or path:find "^recipes/" or path:find "^tests/" then
        assert.truthy(file.exists(path), path)
      end
    end
    assert.equal("\137PNG", file.read("examples/report.png"):sub(1, 4))
  end)

  -- Whether a figure stands in results; in JSON, which has all digits, what rounds to it.
  local function stands(figure, name, results)
    if not name:find "%.json$" then return results:find("%f[%w]" .. figure:gsub("%.", "%%.") .. "%f[^%w%.]") end
    local form = ("%%.%df"):format(#figure:match "%.(%d+)")
    for number in results:gmatch ":%s*(%-?%d+%.%d+)%f[^%w%.]" do
      if form:format(tonumber(number)) == figure then return true end
    end
  end

  it("has figures of comparison that stand in the results it names", function()
    local rows = rows_below(README, "what | lucid |")
    assert.is_true(#rows > 3)
    for _, row in ipairs(rows) do
      local name = row[4]:match "`(.-)`"
      local results, figures = file.read("tests/bench/results/" .. name), 0
      for figure in (row[1] .. " " .. row[2] .. " " .. row[3]):gmatch "%f[%w]%d+%.%d+%f[^%w%.]" do
        figures = figures + 1
        assert.truthy(stands(figure, name, results), row[4] .. ": " .. figure)
      end
      assert.is_true(figures > 0, row[1])
    end
  end)

  it("has exit statuses that hold, once, as lucid help has them", function()
    local shown, listed = {}, {}
    assert.equal(1, select(2, README:gsub("| status | when |", "")))
    for _, row in ipairs(rows_below(README, "status | when |")) do
      for status in row[1]:gmatch "%d+" do shown[#shown + 1] = tonumber(status) end
    end
    for _, row in ipairs(STATUS) do
      for status in row[1]:gmatch "%d+" do listed[#listed + 1] = tonumber(status) end
    end
    assert.same(listed, shown)
    local function status(words)
      local ending = os.execute(("%s %s >/dev/null 2>&1"):format(program, words))
      return ending > 255 and ending / 256 or ending
    end
    local seen = { status "-e 'return 1'", status "-e 'error \"it broke\"'", status "nothing", 130, 143 }
    assert.same(seen, { unpack(shown, 1, 5) })
    for signal, number in pairs { INT = 130, TERM = 143 } do
      local ending = os.execute(("timeout --preserve-status --foreground -k 30 -s %s %d %s -e 'while true do end' 2>/dev/null")
        :format(signal, os.getenv "LUCID_BIN" and 3 or 1, program))
      assert.equal(number, ending > 255 and ending / 256 or ending)
    end
  end)
end)

describe("the maps", function()
  it("have every folder of native/", function()
    local text = file.read "native/README.md"
    for _, name in ipairs(file.list "native") do
      if file.kind("native/" .. name) == "folder" then assert.truthy(text:find("`" .. name .. "/`", 1, true), name) end
    end
  end)

  -- What the table of lua/README.md names: words between backquotes in its rows.
  it("have every module of lua/lucid, and no other", function()
    local named = {}
    for row in file.read("lua/README.md"):gmatch "\n|([^\n]*)|%f[\n]" do
      for words in row:gmatch "`([^`]+)`" do
        for word in words:gmatch "%S+" do named[word:gsub("/[%u]+$", "/")] = true end
      end
    end
    for _, entry in ipairs(file.list "lua/lucid") do
      local path = "lua/lucid/" .. entry
      local name = file.kind(path) == "folder" and entry .. "/" or entry:match "^(.*)%.lua$"
      assert.truthy(named[name] or named[name .. "/"], "lua/README.md lacks " .. name)
    end
    local first = file.read("lua/README.md"):match "\n| files |.-\n\n"
    for row in first:gmatch "\n|%s*([^|\n]-)%s*|" do
      for name in row:gmatch "`([%w_/]+)`" do
        local path = "lua/lucid/" .. name:gsub("/[%u]+$", "")
        assert.truthy(file.exists(path) or file.exists(path .. ".lua"), "lua/README.md names " .. name)
      end
    end
  end)
end)

