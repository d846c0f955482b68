-- The batch form of chat completions: JSON lines { custom_id, method, url, body } go out, JSON lines { custom_id,
-- response: { status_code, body }, error } come back, in any order. custom_id is the key in the journal.
local completion = require "lucid.completion"
local file = require "lucid.file"
local json = require "lucid.json"

local M = {}

local MOST, BYTES = 50000, 190 * 2 ^ 20        -- requests and bytes of one batch, as OpenAI takes them

local function beside(path, what)
  return (path:gsub("%.jsonl$", "")) .. "." .. what .. ".jsonl"
end

--- Where the answers to a batch file are looked for.
---@param path string
---@return string
function M.output(path) return beside(path, "output") end

--- Writes questions as a batch file; how many it holds. The rest comes into the next one.
---@param path string
---@param queue table[]     key, body
---@return integer
function M.write(path, queue)
  local lines, bytes = {}, 0
  for i = 1, math.min(MOST, #queue) do
    -- The body is JSON text already.
    local line = ('{"custom_id":"%s","method":"POST","url":"/v1/chat/completions","body":%s}\n'):format(
      queue[i].key, queue[i].body)
    bytes = bytes + #line
    if bytes > BYTES and i > 1 then break end
    lines[i] = line
  end
  file.write(path, table.concat(lines))
  return #lines
end

local function record_of(entry, where)
  local id = type(entry) == "table" and entry.custom_id
  if type(id) ~= "string" then error(where .. " has no custom_id", 0) end
  local response = entry.response
  if type(response) ~= "table" or type(response.status_code) ~= "number" then return nil end
  local reply = completion.batched(response.status_code, response.body)
  return reply and { key = id, batch = true, reply = reply }
end

--- The answers that stand beside a batch file, as records of the journal; those of requests that failed for a while
--- are left out, and asked for again.
---@param path string
---@return table[]
function M.read(path)
  local records = {}
  for _, what in ipairs { "output", "error" } do
    local name = beside(path, what)
    if file.exists(name) then
      for entry, _, line in json.each(name) do
        records[#records + 1] = record_of(entry, ("%s:%s"):format(name, tostring(line)))
      end
    end
  end
  return records
end

return M
