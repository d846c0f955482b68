-- Tensors on disk by their keys: a folder with one file of elements and one index, both appended to.
--
--   local s = store.open(folder)
--   s:put(key, t)      s:sync()      local t = s:get(key)          -- nil: there is none
--
-- What is put waits in memory and goes out in quantity: first the elements, synced, then their lines of the index, so
-- that a line stands for elements that are there. A tail that a crash left half written is dropped by the next
-- writer. Any number of processes may read and write; each sees what was there when it last wrote or opened.
local ffi = require "ffi"
local cache = require "lucid.cache"
local file = require "lucid.file"
local native = require "lucid.native"
local tensor = require "lucid.tensor"

local C = native.C
local M = {}
local Store = {}
Store.__index = Store

local WAITING, COUNT = 64 * 2 ^ 20, 256     -- bytes and tensors that wait before they are written

local SIZE = { f32 = 4, bf16 = 2, f16 = 2 }

local function bytes_of(t) return t:count() * SIZE[t:dtype()] end

-- A line of the index: key, place of the first byte, dtype, rows, width, hash of the elements' bytes.
local LINE = "^(%x+) (%d+) (%w+) (%d+) (%d+) (%x+)$"

-- Reads what the index has beyond what is known; a line that is damaged, or whose elements are not all there, ends it.
local function catch_up(self)
  if not file.exists(self.index) then return end
  local text, room = file.read(self.index), file.exists(self.data) and file.size(self.data) or 0
  for line, stop in text:sub(self.read + 1):gmatch("([^\n]*)\n()") do
    local key, offset, dtype, rows, width, sum = line:match(LINE)
    if not SIZE[dtype] then break end
    local r = { offset = tonumber(offset), dtype = dtype, rows = tonumber(rows), width = tonumber(width), sum = sum }
    local after = r.offset + r.rows * r.width * SIZE[dtype]
    if after > room then break end
    self.records[key], self.ends = r, math.max(self.ends, after)
    self.done = self.read + stop - 1
  end
  self.read = self.done
end

--- Opens a store; the folder is made when the first tensors are written.
---@param folder string
---@return table
function M.open(folder)
  local self = setmetatable({ folder = folder, index = folder .. "/index", data = folder .. "/data", records = {},
    read = 0, done = 0, ends = 0, waiting = {}, order = {}, bytes = 0 }, Store)
  catch_up(self)
  return self
end

--- Whether there is a tensor of this key.
---@param key string
---@return boolean
function Store:has(key) return self.waiting[key] ~= nil or self.records[key] ~= nil end

--- The tensor [rows, width] of a key; nil: there is none, or its bytes are not what they were.
---@param key string
---@return lucid.Tensor|nil
function Store:get(key)
  if self.waiting[key] then return self.waiting[key] end
  local r = self.records[key]
  if not r then return nil end
  local t = tensor.empty({ r.rows, r.width }, { dtype = r.dtype })
  local n = bytes_of(t)
  local bytes = ffi.new("uint8_t[?]", n)
  if C.lc_file_read_at(self.data, r.offset, bytes, n) ~= 0 or cache.hash(bytes, n) ~= r.sum then
    self.records[key] = nil
    return nil
  end
  native.check(C.lc_tensor_write(t, bytes, n))
  return t
end

--- Takes a tensor [rows, width], which stays alive until it is written.
---@param key string
---@param t lucid.Tensor
function Store:put(key, t)
  if self:has(key) then return end
  self.waiting[key] = t:keep()
  self.order[#self.order + 1] = key
  self.bytes = self.bytes + bytes_of(t)
  if self.bytes >= WAITING or #self.order >= COUNT then self:sync() end
end

local function write(self)
  catch_up(self)
  if file.size(self.index) > self.done then file.truncate(self.index, self.done) end
  if file.exists(self.data) and file.size(self.data) > self.ends then file.truncate(self.data, self.ends) end
  local lines, at = {}, self.ends
  for i, key in ipairs(self.order) do
    local t = self.waiting[key]
    local n = bytes_of(t)
    local bytes = ffi.new("uint8_t[?]", n)
    native.check(C.lc_tensor_read(t, bytes, n))
    native.check(C.lc_file_append(self.data, bytes, n, i == #self.order and 1 or 0))
    lines[i] = ("%s %d %s %d %d %s\n"):format(key, at, t:dtype(), t:size(1), t:size(2), cache.hash(bytes, n))
    at = at + n
  end
  file.append(self.index, table.concat(lines), true)
  catch_up(self)
end

--- Writes what waits, and learns what other processes have written.
function Store:sync()
  if #self.order == 0 then return end
  file.mkdir(self.folder)
  local lock = native.check(C.lc_file_lock(self.index))
  local ok, reason = pcall(write, self)
  C.lc_file_unlock(lock)
  if not ok then error(reason, 0) end
  self.waiting, self.order, self.bytes = {}, {}, 0
end

return M
