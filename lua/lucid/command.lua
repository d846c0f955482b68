-- What the executable asks: which file a command is, the list of commands, the version.
local ffi = require "ffi"
local native = require "lucid.native"
local options = require "lucid.options"
local recipe = require "lucid.recipe"

local M = {}

--- What a command's exit status says.
M.STATUS = {
  { "0", "done" },
  { "1", "failed: a file, data, a judge, the disk, memory or the device; one line says what and what to do" },
  { "2", "wrong usage: no such command or option, or a value that it cannot have; nothing was done" },
  { "130, 143", "stopped by Ctrl-C or by SIGTERM; training, mining and judging go on from there when they are asked again" },
  { "141", "whoever read standard output has gone, as head does; nothing is said" },
}

--- The file of a command; nil and one line when there is none.
function M.find(name)
  local path = recipe.find(name)
  if path then return path end
  local near = options.nearest(name, (recipe.names()))
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
  local list, paths = recipe.names()
  for _, name in ipairs(list) do
    local f = io.open(paths[name])
    local first = f and f:read("*l") or ""
    if f then f:close() end
    print(("  %-14s %s"):format(name, (first:gsub("^%-%-%s*", ""))))
  end
  print("\nexit status:")
  for _, status in ipairs(M.STATUS) do print(("  %-14s %s"):format(status[1], status[2])) end
end

--- Prints versions and which features this build has.
function M.version()
  print("lucid " .. native.version .. ", " .. jit.version)
  io.write(ffi.string(native.C.lc_features()))
end

return M
