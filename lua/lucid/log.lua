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
---@field events string            the event file's name
---@field events_bytes integer

--- Where the events are now, with all that was logged on the disk: what a checkpoint keeps, so that a resumed run cuts
--- back to it. The lines of log.jsonl say themselves which step they are of.
---@return lucid.LogPosition
function Log:position()
  self:close()
  return { events = self.events.path:match("[^/]+$"), events_bytes = file.size(self.events.path) }
end

--- Starts the log of a run's folder, which is made. An older log there is replaced.
---@param dir string
---@return table
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

-- Cuts a log's lines back to those of steps up to one; a line that is none, as a cut-off write leaves it, goes, too.
-- Returns what there is to say of it, or nil.
local function repair(path, step)
  local text, kept, later, damaged = file.exists(path) and file.read(path) or "", {}, 0, 0
  for line in text:gmatch("[^\n]+") do
    local ok, record = pcall(json.decode, line)
    if not ok or type(record) ~= "table" or type(record.step) ~= "number" then damaged = damaged + 1
    elseif record.step > step then later = later + 1
    else kept[#kept + 1] = line .. "\n" end
  end
  local whole, said = table.concat(kept), {}
  if whole ~= text or not file.exists(path) then file.write(path, whole) end
  local function add(n, one, many)
    if n > 0 then said[#said + 1] = ("%d %s"):format(n, n == 1 and one or many) end
  end
  add(later, "line of a later step is dropped", "lines of later steps are dropped")
  add(damaged, "damaged line is cut off", "damaged lines are cut off")
  add(step - #kept, "of its steps is missing", "of its steps are missing")
  return said[1] and ("%s: %s"):format(path, table.concat(said, ", "))
end

--- Goes on with a log behind a step, whatever is there of it: lines of later steps and torn ones are cut off. The second
--- value says what was not as the run had left it, nil where all was.
---@param dir string
---@param step integer
---@param at lucid.LogPosition
---@return table, string|nil
function M.continue(dir, step, at)
  local path = dir .. "/log.jsonl"
  local said, own = repair(path, step), dir .. "/" .. at.events
  return setmetatable({ path = path, events = cut(own, at.events_bytes) and events.continue(own) or events.open(dir) },
    Log), said
end

return setmetatable(M, { __call = function(_, ...) return M.open(...) end })
