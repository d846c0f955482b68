-- Visual Genome's two large files at their true size, and how long reading them takes.
--   bin/lucid tests/bench/data_files.lua make FOLDER [IMAGES]       writes them, IMAGES (108077) records each
--   bin/lucid tests/bench/data_files.lua images FOLDER              reads image_data.json
--   bin/lucid tests/bench/data_files.lua regions FOLDER CACHE       indexes region_descriptions.json, asks for 200
-- The records have the published keys in the published order; their contents are invented and the same
-- every time. regions 5,408,689 of the published file are met within a thousandth. Nothing is kept here:
-- remove FOLDER afterwards.
local lucid = require "lucid"
local native = require "lucid.native"

local C = native.C
local IMAGES, REGIONS = 108077, 5408689

-- ---- making ---------------------------------------------------------------------------------------

-- Numerical Recipes' generator: enough for phrases and boxes.
local state = 1
local function draw(n)
  state = (state * 1664525 + 1013904223) % 2 ^ 32
  return math.floor(state / 2 ^ 32 * n)
end

local THINGS = { "man", "clock", "tree", "car", "sidewalk", "woman", "street sign", "building", "shirt", "backpack",
  "window", "bicycle", "café table", "pair of shoes" }
local LOOKS = { "green in colour", "parked beside the road", "on the wall of the shop", "seen from behind",
  "made of \\\"old\\\" bricks", "with white stripes", "in the shade", "next to a lamp post, half hidden" }

local function phrase() return ("the %s is %s"):format(THINGS[1 + draw(#THINGS)], LOOKS[1 + draw(#LOOKS)]) end

local function url(id)
  return ("https://cs.stanford.edu/people/rak248/VG_100K%s/%d.jpg"):format(id % 2 == 0 and "" or "_2", id)
end

-- Ids as the published ones: some thousands from 1, the others seven digits long.
local function id_of(i) return i <= 5000 and i or 2312000 + i end

local function write_images(path, count)
  local out = assert(io.open(path, "w"))
  for i = 1, count do
    local id = id_of(i)
    local coco = draw(2) == 0 and "null" or tostring(100000 + draw(480000))
    out:write(i == 1 and "[" or ", ", ('{"width": %d, "url": "%s", "height": %d, "image_id": %d, "coco_id": %s, "flickr_id": %s}'):format(
      300 + draw(980), url(id), 300 + draw(724), id, coco, coco == "null" and "null" or tostring(2 ^ 31 + draw(2 ^ 31))))
  end
  out:write("]")
  out:close()
end

local function write_regions(path, count)
  local out = assert(io.open(path, "w"))
  local number, each = 0, REGIONS / IMAGES
  for i = 1, count do
    local id, list = id_of(i), {}
    -- Every 5,000th picture has no regions; the others have a number around the mean.
    local n = i % 5000 == 0 and 0 or math.floor(each + (draw(41) - 20) + 0.5)
    for k = 1, n do
      number = number + 1
      list[k] = ('{"region_id": %d, "width": %d, "height": %d, "image_id": %d, "phrase": "%s", "y": %d, "x": %d}'):format(
        number, 1 + draw(300), 1 + draw(300), id, phrase(), draw(300), draw(300))
    end
    out:write(i == 1 and "[" or ", ", '{"regions": [', table.concat(list, ", "), ('], "id": %d}'):format(id))
  end
  out:write("]")
  out:close()
  return number
end

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
  count = tonumber(count or IMAGES)
  lucid.file.mkdir(folder)
  write_images(folder .. "/image_data.json", count)
  local regions = write_regions(folder .. "/region_descriptions.json", count)
  print(("%d records, %d regions: %.1f and %.1f MB"):format(count, regions,
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
    for i = 1, 200 do assert(#index:get(id_of(i * 500 + 1)).regions > 0) end
  end))
end

local command = RUN[arg[1]]
if not command then error("data_files.lua: make, images or regions; the first lines of the file explain them", 0) end
command(unpack(arg, 2))
