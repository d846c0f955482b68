-- Rows of the bench: pictures, large JSON, checkpoints, and the program's own start.
local ffi = require "ffi"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local image = require "lucid.image"
local json = require "lucid.json"
local models = require "lucid.bench.models"
local native = require "lucid.native"
local photos = require "lucid.bench.photos"
local regions = require "lucid.bench.regions"
local scratch = require "lucid.bench.scratch"

local C = native.C
local M = {}

-- Work over a folder, which goes when it is done.
local function in_folder(make)
  local dir = scratch.new()
  local ok, work = pcall(make, dir)
  if not ok then
    scratch.remove(dir)
    error(work, 0)
  end
  work.close = function() scratch.remove(dir) end
  return work
end

-- Decoding on a thread of its own, the rest here.
local function pictures(dir, count)
  local paths = {}
  for i, name in ipairs(photos.write(dir, count)) do paths[i] = dir .. "/" .. name end
  models.write(dir, models.LAYERS_OF_7B)
  local process = image.processor(json.read(dir .. "/preprocessor_config.json"))
  local reader = image.reader()
  return { tokens = count, run = function()
    reader:ask(paths)
    for _, path in ipairs(paths) do process(reader:take(path)) end
  end }
end

local function index(dir, images)
  local path = dir .. "/regions.json"
  local count = regions.write(path, images)
  return { tokens = count, bytes = file.size(path), run = function() json.index(path, "regions/image_id") end }
end

-- All numbers of a file that is in memory already.
local function weights(dir, o)
  models.write(dir, o.size(models.SMALL, models.TINY))
  require("lucid.model").open(dir, { init = true, device = "cpu", dtype = "bf16", seed = 1 }):save(dir)
  local sum = ffi.new "uint64_t[1]"
  return { bytes = file.size(dir .. "/model.safetensors"), run = function()
    local c = checkpoint.open(dir)
    for _, name in ipairs(c:names()) do native.check(C.lc_bandwidth_read(c:tensor(name), sum)) end
  end }
end

-- This program, once more: until a recipe says its first line.
local function start()
  local command = io.popen "readlink /proc/$PPID/exe 2>/dev/null":read "*l"
  if not command or not command:find "lucid[^/]*$" then error("only the executable lucid can be started again", 0) end
  return { run = function()
    if os.execute(("'%s' inspect --help >/dev/null"):format(command)) ~= 0 then error(command .. " does not start", 0) end
  end }
end

--- Times the rows of reading files.
---@param add fun(row: lucid.BenchRow)
---@param o lucid.BenchOptions
function M.rows(add, o)
  if o.device ~= "cpu" then return end
  add { group = "pictures", unit = "pictures", about = "JPEG of 640 x 480 to a tower's 336 x 336, two threads",
    make = function() return in_folder(function(dir) return pictures(dir, o.size(32, 2)) end) end }
  add { group = "json", unit = "regions", limit = "read", about = "index of a Visual Genome region file", make = function()
    return in_folder(function(dir) return index(dir, o.size(3000, 5)) end)
  end }
  add { group = "checkpoint", limit = "read", about = "safetensors opened and every byte read", make = function()
    return in_folder(function(dir) return weights(dir, o) end)
  end }
  add { group = "startup", about = "lucid until a recipe's first line", make = start }
end

return M
