-- A run's log: log.jsonl, a line a step under TRL's names, and TensorBoard events with the same numbers.
--
--   local record = lucid.log("runs/a")       record { step = 1, loss = 0.69 }       record:close()
local events = require "lucid.events"
local file = require "lucid.file"
local json = require "lucid.json"

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
  file.append(self.path, "", true)
  self.events:sync()
end

---@class lucid.LogPosition
---@field bytes integer            of log.jsonl
---@field events string            the event file's name
---@field events_bytes integer

--- Where the log is now, durably: what a checkpoint keeps, so that a resumed run cuts back to it.
---@return lucid.LogPosition
function Log:position()
  self:close()
  return { bytes = file.size(self.path), events = self.events.path:match("[^/]+$"),
    events_bytes = file.size(self.events.path) }
end

--- Starts the log of a run's folder, which is made. An older log there is replaced.
---@param dir string
function M.open(dir)
  file.mkdir(dir)
  local path = dir .. "/log.jsonl"
  file.write(path, "")
  events.clear(dir)
  return setmetatable({ path = path, events = events.open(dir) }, Log)
end

-- Cuts a file back; false when it is shorter.
local function cut(path, bytes)
  if not file.exists(path) or file.size(path) < bytes then return false end
  if file.size(path) > bytes then file.write(path, file.read(path):sub(1, bytes)) end
  return true
end

--- Goes on with a log behind a position: what was written later is cut off.
---@param dir string
---@param at lucid.LogPosition
function M.continue(dir, at)
  local path = dir .. "/log.jsonl"
  if not cut(path, at.bytes) then
    error(("%s: it ends before the checkpoint that the run goes on from; put it back, or give another --out"):format(path), 0)
  end
  local own = dir .. "/" .. at.events
  return setmetatable({ path = path, events = cut(own, at.events_bytes) and events.continue(own) or events.open(dir) }, Log)
end

return setmetatable(M, { __call = function(_, ...) return M.open(...) end })
