-- Visual Genome's two large files at their true size, and how long reading them takes.
--   bin/lucid tests/bench/data_files.lua make FOLDER [IMAGES]       writes them, IMAGES (108077) records each
--   bin/lucid tests/bench/data_files.lua images FOLDER              reads image_data.json
--   bin/lucid tests/bench/data_files.lua regions FOLDER CACHE       indexes region_descriptions.json, asks for 200
-- lucid.bench.regions writes them. Nothing is kept here: remove FOLDER afterwards.
local lucid = require "lucid"
local native = require "lucid.native"
local regions = require "lucid.bench.regions"

local C = native.C

-- ---- measuring ------------------------------------------------------------------------------------

local function clocked(f, ...)
  collectgarbage()
  local wall, cpu = C.lc_seconds(), os.clock()
  local result = f(...)
  return C.lc_seconds() - wall, os.clock() - cpu, result
end

-- The most memory this process has had, MB; the first number of the machine's load.
local function peak() return tonumber(io.open("/proc/self/status"):read("*a"):match("VmHWM:%s*(%d+)")) / 1e3 end
local function load() return io.open("/proc/loadavg"):read("*a"):match("^%S+") end

local function report(what, wall, cpu)
  print(("%-36s %7.3f s   cpu %7.3f s   peak RSS %6.1f MB   load %s"):format(what, wall, cpu, peak(), load()))
end

local RUN = {}

function RUN.make(folder, count)
  count = tonumber(count or regions.IMAGES)
  lucid.file.mkdir(folder)
  regions.write_images(folder .. "/image_data.json", count)
  local written = regions.write(folder .. "/region_descriptions.json", count)
  print(("%d records, %d regions: %.1f and %.1f MB"):format(count, written,
    lucid.file.size(folder .. "/image_data.json") / 1e6, lucid.file.size(folder .. "/region_descriptions.json") / 1e6))
end

function RUN.images(folder)
  local times = {}
  for i = 1, 5 do
    local wall, cpu, by_id = clocked(lucid.data.vg.images, folder)
    assert(by_id[1] and by_id[1].width)
    times[i] = wall
    report("image_data.json", wall, cpu)
  end
  table.sort(times)
  print(("median %.3f s"):format(times[3]))
end

function RUN.regions(folder, cache)
  local path = folder .. "/region_descriptions.json"
  for _ = 1, 3 do
    for _, name in ipairs(lucid.file.list(cache .. "/index") or {}) do lucid.file.remove(cache .. "/index/" .. name) end
    local wall, cpu, index = clocked(lucid.json.index, path, "regions/image_id", cache)
    assert(index.how == "built")
    report(("index: %d records, %d empty"):format(index.count, index.empty), wall, cpu)
  end
  local wall, cpu, index = clocked(lucid.json.index, path, "regions/image_id", cache)
  assert(index.how == "kept")
  report("index from the cache", wall, cpu)
  report("200 records by their ids", clocked(function()
    for i = 1, 200 do assert(#index:get(regions.id(i * 500 + 1)).regions > 0) end
  end))
end

local command = RUN[arg[1]]
if not command then error("data_files.lua: make, images or regions; the first lines of the file explain them", 0) end
command(unpack(arg, 2))
