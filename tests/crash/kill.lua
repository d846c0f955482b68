-- make crash: MOMENTS kills over at least RUNS whole cycles.
--   bin/lucid tests/crash/kill.lua [MOMENTS [RUNS [SEED]]]
package.path = package.path .. ";./?.lua;/usr/share/lua/5.1/?.lua;/usr/local/share/lua/5.1/?.lua"
local folder = require "tests.support.folder"
local judge = require "tests.support.judge"
local kills = require "tests.crash.kills"
local lucid = require "lucid"

if judge.missing() then error("crash: " .. judge.missing(), 0) end
local moments, runs, seed = tonumber(arg[1] or 1000), tonumber(arg[2] or 20), tonumber(arg[3] or os.time())
local dir, from = folder.folder(), lucid.time()
print(("seed %d, in %s"):format(seed, dir))
local done = kills(dir, { moments = moments, runs = runs, seed = seed, note = function(state)
  if state.runs % 5 == 0 then
    print(("%d whole runs, %d kills, %.0f s"):format(state.runs, state.killed, lucid.time() - from))
    io.stdout:flush()
  end
end })
folder.remove(dir)
print(("%d kills in %d whole runs: every file as without them, %d answers paid for twice (%.0f s)"):format(done.killed, done.runs,
  done.twice, lucid.time() - from))
