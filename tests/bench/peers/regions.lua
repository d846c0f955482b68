-- Visual Genome's region file, ready to look up by picture: seconds and the most memory.
--   lucid tests/bench/peers/regions.lua make FILE [PICTURES]      writes one of the published size
--   lucid tests/bench/peers/regions.lua FILE
local json = require "lucid.json"
local lucid = require "lucid"
local regions = require "lucid.bench.regions"

if arg[1] == "make" then
  return print(json.encode { regions = regions.write(arg[2], tonumber(arg[3] or regions.IMAGES)) })
end
local started = lucid.time()
local index = json.index(arg[1], "regions/image_id")
local seconds = lucid.time() - started
local kilobytes = io.open("/proc/self/status"):read "*a":match "VmHWM:%s*(%d+)"
print(json.encode { seconds = { seconds }, bytes = tonumber(kilobytes) * 1024, records = index.count })
