-- What the executable asks: which file a command is, the list of commands, the version.
local ffi = require "ffi"
local native = require "lucid.native"
local options = require "lucid.options"
local file = require "lucid.file"
local recipe = require "lucid.recipe"

local M = {}

local function names()
  local seen, list = {}, {}
  for _, dir in ipairs(recipe.folders()) do
    for _, entry in ipairs(file.list(dir) or {}) do
      local name = entry:match("^([%w_%-]+)%.lua$")
      if name and not seen[name] then
        seen[name] = dir .. "/" .. entry
        list[#list + 1] = name
      end
    end
  end
  table.sort(list)
  return list, seen
end

--- The file of a command; nil and one line when there is none.
---@param name string
---@return string|nil, string|nil
function M.find(name)
  local path = recipe.find(name)
  if path then return path end
  local near = options.nearest(name, (names()))
  return nil, ("there is no command '%s'%s; lucid help lists them"):format(name,
    near and " (did you mean " .. near .. "?)" or "")
end

--- Prints the commands with the first line of each.
function M.help()
  print("usage: lucid                      the REPL")
  print("       lucid COMMAND [options]    lucid COMMAND --help lists its options")
  print("       lucid FILE.lua [words]     a script")
  print("       lucid -e 'chunk'           one chunk; lucid is preloaded")
  print("       lucid --version\n\ncommands:")
  local list, paths = names()
  for _, name in ipairs(list) do
    local f = io.open(paths[name])
    local first = f and f:read("*l") or ""
    if f then f:close() end
    print(("  %-14s %s"):format(name, (first:gsub("^%-%-%s*", ""))))
  end
end

--- Prints versions and which features this build has.
function M.version()
  print("lucid " .. native.version .. ", " .. jit.version)
  io.write(ffi.string(native.C.lc_features()))
end

return M
