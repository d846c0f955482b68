-- What the executable asks: which file a command is, the list of commands, the version.
local args = require "lucid.args"
local ffi = require "ffi"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"
local options = require "lucid.options"
local recipe = require "lucid.recipe"
local terminal = require "lucid.terminal"
local wrap = require "lucid.wrap"

local M = {}

-- A recipe's first line, which lucid help says of it, and the indented ones below it: calls as examples.
local function about(path)
  local first, examples = nil, {}
  for line in io.lines(path) do
    local words = line:match("^%-%-%s*(.*)$")
    if not words then break end
    if not first then first = words elseif line:find("^%-%-   ") then examples[#examples + 1] = line:sub(6) end
  end
  return first or "", examples
end

---@class lucid.Command
---@field name string
---@field about string      a sentence
---@field examples string[]  lines of calls
---@field spec table        what the recipe gives to lucid.args

--- The commands of one folder, sorted.
---@param dir string
---@return lucid.Command[]
function M.of(dir)
  local list = {}
  for _, entry in ipairs(file.list(dir) or {}) do
    local name, path = entry:match("^([%w_%-]+)%.lua$"), dir .. "/" .. entry
    if name then
      local first, examples = about(path)
      list[#list + 1] = { name = name, about = first, examples = examples, spec = args.spec_of(path) }
    end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- What a command's exit status says.
M.STATUS = {
  { "0", "done" },
  { "1", "failed: a file, data, a judge, the disk, memory or the device; one line says what and what to do" },
  { "2", "wrong usage: no such command or option, or a value that it cannot have; nothing was done" },
  { "130, 143", "stopped by Ctrl-C or by SIGTERM; training, mining and judging go on from there when they are asked again" },
  { "141", "whoever read standard output has gone, as head does; nothing is said" },
}

--- The file of a command; nil and one line when there is none.
---@param name string
---@return string|nil, string|nil
function M.find(name)
  local path = recipe.find(name)
  if path then return path end
  local near = options.nearest(name, (recipe.names()))
  return nil, ("there is no command '%s'%s; lucid help lists them"):format(name,
    near and " (did you mean " .. near .. "?)" or "")
end

--- How the program is called, and what that does.
M.USAGE = {
  { "lucid", "the REPL" },
  { "lucid COMMAND [options]", "lucid COMMAND --help lists its options" },
  { "lucid FILE.lua [words]", "a script" },
  { "lucid -e 'chunk'", "one chunk; lucid is preloaded" },
  { "lucid --version [--json]", "versions, and what this build has" },
}

--- Prints the commands with the first line of each.
function M.help()
  for i, form in ipairs(M.USAGE) do print(("%-6s %-26s %s"):format(i == 1 and "usage:" or "", form[1], form[2])) end
  local columns = terminal.width()
  local function row(name, text) print(("  %-14s %s"):format(name, wrap(text, 17, columns))) end
  print("\ncommands:")
  local list, paths = recipe.names()
  for _, name in ipairs(list) do row(name, (about(paths[name]))) end
  print("\nexit status:")
  for _, status in ipairs(M.STATUS) do row(status[1], status[2]) end
end

--- Prints versions and which features this build has.
---@param word string|nil     "--json": as JSON
function M.version(word)
  local features = ffi.string(native.C.lc_features())
  if word == "--json" then
    local list = {}
    for name, what in features:gmatch("([%w_]+): ([^\n]+)") do list[name] = what end
    print(json.encode { lucid = native.version, luajit = jit.version, features = list })
  elseif word then
    args.usage(("--version takes --json alone, not '%s'"):format(word))
  else
    io.write("lucid ", native.version, ", ", jit.version, "\n", features)
  end
end

return M
