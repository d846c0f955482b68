-- TensorBoard's event files: records of (length, masked CRC-32C of it, data, masked CRC-32C of them),
-- where data is a protobuf Event: 1 = wall time (double), 2 = step (varint), 3 = file version (string),
-- 5 = Summary { 1 = Value { 1 = tag (string), 2 = simple value (float) } }.
local bit = require "bit"
local ffi = require "ffi"
local file = require "lucid.file"

local M = {}
local Events = {}
Events.__index = Events

-- CRC-32C (Castagnoli), reflected polynomial 0x82F63B78.
local crc_table = ffi.new("uint32_t[256]")
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do
    c = bit.bxor(bit.rshift(c, 1), bit.band(c, 1) ~= 0 and 0x82F63B78 or 0)
  end
  crc_table[i] = c
end

--- CRC-32C of a string, as an unsigned number.
---@param text string
---@return integer
function M.crc32c(text)
  local c = bit.bnot(0)
  for i = 1, #text do
    c = bit.bxor(bit.rshift(c, 8), bit.tobit(crc_table[bit.band(bit.bxor(c, text:byte(i)), 255)]))
  end
  return bit.bnot(c) % 2 ^ 32
end

local function masked(text)
  local c = bit.tobit(M.crc32c(text))
  return (bit.ror(c, 15) % 2 ^ 32 + 0xa282ead8) % 2 ^ 32
end

local function bytes_of(ctype, value)
  local box = ffi.new(ctype .. "[1]", value)
  return ffi.string(box, ffi.sizeof(ctype))
end

local function varint(n)
  local out = {}
  repeat
    local low = n % 128
    n = (n - low) / 128
    out[#out + 1] = string.char(n > 0 and low + 128 or low)
  until n == 0
  return table.concat(out)
end

local function message(field, text) return varint(field * 8 + 2) .. varint(#text) .. text end

local function record(data)
  local length = bytes_of("uint64_t", #data)
  return length .. bytes_of("uint32_t", masked(length)) .. data .. bytes_of("uint32_t", masked(data))
end

local function event(wall, step, body)
  return record(varint(1 * 8 + 1) .. bytes_of("double", wall) .. varint(2 * 8) .. varint(step) .. body)
end

--- Starts an event file in a folder.
---@param dir string
---@param now integer
---@return table
function M.open(dir, now)
  now = now or os.time()
  local self = setmetatable({ path = ("%s/events.out.tfevents.%d.lucid"):format(dir, now) }, Events)
  file.append(self.path, event(now, 0, message(3, "brain.Event:2")))
  return self
end

--- Goes on with an event file.
---@param path string
---@return table
function M.continue(path) return setmetatable({ path = path }, Events) end

--- Removes the event files that this module has written into a folder.
---@param dir string
function M.clear(dir)
  for _, name in ipairs(file.list(dir) or {}) do
    if name:find("^events%.out%.tfevents%.%d+%.lucid$") then file.remove(dir .. "/" .. name) end
  end
end

--- Makes what was written durable.
function Events:sync() file.append(self.path, "", true) end

--- Adds the numbers of one step.
---@param step integer
---@param values table<string, number>
---@param now integer
function Events:add(step, values, now)
  local tags = {}
  for tag, value in pairs(values) do
    if type(value) == "number" then tags[#tags + 1] = tag end
  end
  table.sort(tags)
  local summary = {}
  for i, tag in ipairs(tags) do
    summary[i] = message(1, message(1, tag) .. varint(2 * 8 + 5) .. bytes_of("float", values[tag]))
  end
  file.append(self.path, event(now or os.time(), step, message(5, table.concat(summary))))
end

return M
