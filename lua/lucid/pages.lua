-- The pages of recipes/docs: what a recipe's first lines and its options say, as Markdown. make docs writes them.
local args = require "lucid.args"
local file = require "lucid.file"
local native = require "lucid.native"

local M = {}

local ROOT = native.root

--- The recipes of this copy of lucid, sorted by name.
---@return string[]
function M.names()
  local names = {}
  for _, entry in ipairs(file.list(ROOT .. "recipes")) do names[#names + 1] = entry:match "^([%w_%-]+)%.lua$" end
  return names
end

--- What the first lines of a recipe say: its first sentence, and the lines of examples behind it.
---@param path string
---@return string about, string[] examples
function M.head(path)
  local first, examples = nil, {}
  for line in file.read(path):gmatch "([^\n]*)\n" do
    local text = line:match "^%-%-%s?(.*)$"
    if not text then break end
    if first then examples[#examples + 1] = text:gsub("^  ", "") else first = text end
  end
  return first, examples
end

-- Texts of options in a table: what would end a cell, or be taken for a tag.
local function cell(text) return (text:gsub("|", "\\|"):gsub("<", "&lt;"):gsub("\n", " ")) end

local function default_of(o)
  if o.published then return "as published" end
  if type(o.default) == "boolean" then return o.default and "on" or "off" end
  return o.default == "" and "" or "`" .. cell(tostring(o.default)) .. "`"
end

local function rule_of(o)
  local choices = o.rule.choices
  return choices and not o.help:find(choices:match "%S+", 1, true) and "; one of " .. choices:gsub(" ", ", ") or ""
end

local function word_of(o)
  if type(o.default) == "boolean" then return o.default and "--no-" .. o.name or "--" .. o.name end
  return ("--%s %s"):format(o.name, type(o.default) == "number" and "N" or "TEXT")
end

--- The page of a recipe.
---@param name string
---@return string
function M.page(name)
  local path = ("%srecipes/%s.lua"):format(ROOT, name)
  local first, examples = M.head(path)
  local spec = args.spec_of(path)
  local lines = {}
  local function add(form, ...) lines[#lines + 1] = form:format(...) end
  add("# lucid %s\n\n%s\n\n```sh\n%s\n```\n\n%s\n", name, first, table.concat(examples, "\n"), spec.about)
  if spec.positional then add("Words that are no options: %s.\n", spec.positional) end
  if spec.required then add("Required: `--%s`.\n", table.concat(spec.required, "`, `--")) end
  if spec.processes then add("Works in several processes, too: `mpirun -n N lucid %s ...`\n", name) end
  local title
  for i, o in ipairs((args.options(spec))) do
    if i == 1 or o.title ~= title then
      title = o.title
      add("%s\n\n| option | default | what it is |\n|---|---|---|", title and "\n## " .. title or "## Options")
    end
    add("| `%s` | %s | %s%s |", word_of(o), default_of(o), cell(o.help), rule_of(o))
  end
  return table.concat(lines, "\n") .. "\n"
end

local INDEX = [[
# recipes: a file is a command

`lucid NAME` runs `recipes/NAME.lua`, the user's own `recipes/` first. To change one, copy it there, or anywhere, and edit
it: `lucid ./mine.lua`. The first lines of a recipe say what it is for, its options are declared once, in `lucid.args`, and
`lucid NAME --help` shows them. `prompts/` holds the texts that judges and mining send. The pages below are made from
the recipes by `make docs`.

| command | what it does |
|---|---|
]]

--- The page of the folder, with a row for every recipe.
---@return string
function M.index()
  local rows = {}
  for _, name in ipairs(M.names()) do
    local first = M.head(("%srecipes/%s.lua"):format(ROOT, name))
    rows[#rows + 1] = ("| [`%s`](docs/%s.md) | %s |"):format(name, name, first)
  end
  return INDEX .. table.concat(rows, "\n") .. "\n"
end

--- All pages by their paths in the repository.
---@return table<string, string>
function M.all()
  local pages = { ["recipes/README.md"] = M.index() }
  for _, name in ipairs(M.names()) do pages[("recipes/docs/%s.md"):format(name)] = M.page(name) end
  return pages
end

--- Writes the pages that are not as they should be, and removes those of recipes that are gone.
---@return integer changed
function M.write()
  local pages, changed = M.all(), 0
  for path, text in pairs(pages) do
    local whole = ROOT .. path
    if not file.exists(whole) or file.read(whole) ~= text then
      file.mkdir(whole:match "^(.*)/")
      file.write(whole, text)
      changed = changed + 1
    end
  end
  for _, name in ipairs(file.list(ROOT .. "recipes/docs")) do
    if not pages["recipes/docs/" .. name] then
      file.remove(ROOT .. "recipes/docs/" .. name)
      changed = changed + 1
    end
  end
  return changed
end

return M
