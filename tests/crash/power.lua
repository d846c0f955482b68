-- A train-eval cycle whose power goes: its calls on files are recorded, and behind every one of them a disk is made that has
-- lost what was not synced by then (disk_image.lua). A run that goes on from such a disk has the right answer.
--   LD_PRELOAD=build/faults.so bin/lucid tests/crash/power.lua [MOST]      at most so many disks, spread over all
package.path = package.path .. ";./?.lua"
local cache = require "lucid.cache"
local disk_image = require "tests.crash.disk_image"
local ffi = require "ffi"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local forked = require "tests.crash.forked"
local keys = require "lucid.keys"

local C = ffi.C
local LOST = { "data", "torn", "names" }
local dir = forked.open()

-- The calls of a cycle, and its results.
local function record()
  local at, log = dir .. "/whole", dir .. "/log"
  file.mkdir(at)
  local results, why = forked.apart(function()
    C.faults_files(at .. "/", log)
    forked.cycle(at, true)
    C.faults_files("", nil)
    return forked.hashes(at)
  end)
  if not results then error(why, 0) end
  return disk_image.read(file.read(log)), results
end

local function signature(left)
  local parts = {}
  for i, path in ipairs(keys(left)) do
    local what = left[path]
    parts[i] = path .. "\t" .. (type(what) == "string" and cache.hash(what) or what == true and "folder" or what.link)
  end
  return cache.hash(table.concat(parts, "\n"))
end

local function write(at, left)
  folder.remove(at)
  file.mkdir(at)
  for _, path in ipairs(keys(left)) do        -- a folder comes before what is in it
    local what, to = left[path], at .. "/" .. path
    if what == true then file.mkdir(to)
    elseif type(what) == "table" then file.link(what.link, to)
    else
      local f = assert(io.open(to, "wb"))
      f:write(what)
      f:close()
    end
  end
end

local calls, results = record()
local image, cases, seen = disk_image.new(), {}, {}
for i, call in ipairs(calls) do
  image:apply(call)
  for _, lost in ipairs(LOST) do
    local left = image:left(lost)
    local hash = signature(left)
    if not seen[hash] then
      seen[hash] = true
      cases[#cases + 1] = { left = left, name = ("behind call %d, %s %s, %s lost"):format(i, call.call, call.path, lost) }
    end
  end
end
print(("%d calls, %d different disks"):format(#calls, #cases))
forked.all(cases, tonumber(arg[1]), function(case)
  local at = dir .. "/case"
  write(at, case.left)
  local after, why = forked.apart(function()
    forked.cycle(at, true)
    return forked.hashes(at)
  end)
  if not after then error(why, 0) end
  if after ~= results then error("it goes on to other results", 0) end
  return forked.fault(at) and error(forked.fault(at), 0) or "right answers"
end)
