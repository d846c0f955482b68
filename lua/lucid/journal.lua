-- A journal of answers that were paid for: JSON lines { "key": hash of the request, "reply": { "text", ... }, ... }. A line is
-- appended and fsynced before its answer counts, so what was answered is never asked for again, whatever ended the
-- program. One process writes at a time. A last line that was cut off by a crash is taken away.
--
--   local j = journal.open("runs/a/judge.jsonl");   j:get(key);   j:add { { key = key, reply = {...} } }
local file = require "lucid.file"
local json = require "lucid.json"

local M = {}
local Journal = {}
Journal.__index = Journal

-- Those that are open in this process, by path.
local opened = setmetatable({}, { __mode = "v" })

local function parse(line)
  local ok, record = pcall(json.decode, line)
  if ok and type(record) == "table" and type(record.key) == "string" and type(record.reply) == "table"
    and type(record.reply.text) == "string" then return record end
end

-- Takes away a last line that is not whole; one that lacks its line end alone gets it.
local function repair(path, text, quiet)
  local whole = #text
  while whole > 0 and text:byte(whole) ~= 10 do whole = whole - 1 end
  local tail = text:sub(whole + 1)
  if tail == "" then return text end
  if parse(tail) then
    file.append(path, "\n", true)
    return text .. "\n"
  end
  if not quiet then
    io.stderr:write(("%s: the last line was cut off by a crash; its %d bytes are taken away\n"):format(path, #tail))
  end
  file.truncate(path, whole)
  return text:sub(1, whole)
end

local function load(self, quiet)
  local number = 0
  for line in repair(self.path, file.read(self.path), quiet):gmatch("([^\n]*)\n") do
    number = number + 1
    local record = parse(line)
    if not record then
      error(("%s: line %d is damaged; take that line away, and what it held is asked for again"):format(self.path, number), 0)
    end
    self.records[record.key] = record
  end
end

--- Opens a journal, or begins one.
---@param path string
---@param quiet boolean|nil     nothing on stderr
---@return table
function M.open(path, quiet)
  if opened[path] then return opened[path] end
  local folder = path:match("^(.*)/[^/]*$")
  if folder and folder ~= "" then file.mkdir(folder) end
  local self = setmetatable({ path = path, held = file.lock(path), records = {} }, Journal)
  load(self, quiet)
  opened[path] = self
  return self
end

--- The record of a key, or nil.
---@param key string
---@return table|nil
function Journal:get(key) return self.records[key] end

--- Every record, in no order.
---@return function, table
function Journal:each() return pairs(self.records) end

--- The key of some record; nil: there is none yet.
---@return string|nil
function Journal:first() return (next(self.records)) end

--- Keeps records whose keys it does not have, on the disk before it returns; those that it kept.
---@param records table[]     { key =, reply =, ... }
---@return table[]
function Journal:add(records)
  local lines, new, kept = {}, {}, {}
  for _, record in ipairs(records) do
    if not self.records[record.key] and not new[record.key] then
      lines[#lines + 1] = json.encode(record) .. "\n"
      new[record.key] = record
      kept[#kept + 1] = record
    end
  end
  if #lines > 0 and self.path then file.append(self.path, table.concat(lines), true) end
  for key, record in pairs(new) do self.records[key] = record end
  return kept
end

--- A journal that no file keeps.
---@return table
function M.memory() return setmetatable({ records = {} }, Journal) end

--- Lets other processes write.
function Journal:close()
  if self.path then opened[self.path] = nil end
  if self.held then file.unlock(self.held) end
  self.held = nil
end

return M
