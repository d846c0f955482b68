-- A run's log: log.jsonl, a line a step under TRL's names, and TensorBoard events with the same numbers.
--
--   local record = lucid.log("runs/a")       record { step = 1, loss = 0.69 }       record:close()
local ffi = require "ffi"
local events = require "lucid.events"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"

local M = {}
local Log = {}
Log.__index = Log

--- Appends one record; numbers that are not finite are written as null.
function Log:__call(values)
  local line = {}
  for key, value in pairs(values) do
    local finite = type(value) ~= "number" or (value == value and math.abs(value) < math.huge)
    line[key] = finite and value or json.null
  end
  file.append(self.path, json.encode(line) .. "\n")
  self.events:add(values.step or 0, values)
end

--- Makes what was written durable.
function Log:close()
  native.check(native.C.lc_file_append(self.path, ffi.new("char[1]"), 0, 1))
end

--- Starts the log of a run's folder, which is made. An older log there is replaced.
---@param dir string
function M.open(dir)
  native.check(native.C.lc_make_folder(dir))
  local path = dir .. "/log.jsonl"
  file.write(path, "")
  return setmetatable({ path = path, events = events.open(dir) }, Log)
end

return setmetatable(M, { __call = function(_, ...) return M.open(...) end })
