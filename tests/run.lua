-- Runs specs with busted under bin/lucid: the words are files or folders. The last line is
-- "N passed, N failed", with ", N skipped" where some were.
local paths = { "/usr/share/lua/5.1/?.lua", "/usr/share/lua/5.1/?/init.lua", "/usr/local/share/lua/5.1/?.lua",
  "/usr/local/share/lua/5.1/?/init.lua" }
local libraries = { "/usr/lib/x86_64-linux-gnu/lua/5.1/?.so", "/usr/lib/aarch64-linux-gnu/lua/5.1/?.so",
  "/usr/local/lib/lua/5.1/?.so" }
package.path = package.path .. ";" .. table.concat(paths, ";") .. ";./?.lua"
package.cpath = package.cpath .. ";" .. table.concat(libraries, ";")

local ok, runner = pcall(require, "busted.runner")
if not ok then
  io.stderr:write("tests: busted is not installed; make deps installs it\n")
  os.exit(1)
end
local words = arg
_G.arg = { [0] = "lucid", "--output=tests/handler.lua", "--pattern=_spec", unpack(words) }
local passed, reason = pcall(runner, { standalone = false })
if not passed then -- busted ends a run that has failures with an error of nil
  if reason then io.stderr:write(tostring(reason), "\n") end
  os.exit(1)
end
