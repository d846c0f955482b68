-- One record of a data file, looked at strictly: whatever is wrong with it is one line that names the
-- file, the record and the key.
--
--   local r = record.of(value, path, number)      r:text("question")   r:texts("rejected", "reject")
local json = require "lucid.json"

local M = {}
local Record = {}
Record.__index = Record

--- Whether a value is a JSON list.
---@param v table|nil
---@return boolean
function M.is_list(v)
  local meta = type(v) == "table" and getmetatable(v)
  return meta and meta.__jsontype == "array" or false
end

local is_list = M.is_list

--- The record with this number in a file; an error unless it is an object.
---@param value any             as lucid.json gave it
---@param path string
---@param number integer
---@param noun string|nil       what errors call it, default "record"
---@param outer table|nil       the record that it is part of
---@return table
function M.of(value, path, number, noun, outer)
  local r = setmetatable({ value = value, path = path, number = number, noun = noun or "record", outer = outer }, Record)
  if type(value) ~= "table" or value == json.null or is_list(value) then r:fail(" is no object") end
  return r
end

--- for value, number in record.rows(path): the records of a file that holds a list of them, of any form. Where json.each
--- takes a single one for an object of members, it is one here.
---@param path string
---@return function
function M.rows(path)
  local each, number = json.each(path), 0
  return function()
    local value, key = each()
    if value == nil then return nil end
    number = number + 1
    if number == 1 and type(key) == "string" and type(value) ~= "table" then
      each = function() end
      value = json.read(path)
    end
    return value, number
  end
end

-- "record 3: region 2"
local function place(r)
  local here = ("%s %d"):format(r.noun, r.number)
  return r.outer and place(r.outer) .. ": " .. here or here
end

--- Raises what is wrong with the record; the text goes on behind "record 3".
---@param what string
---@param ... any
function Record:fail(what, ...)
  error(("%s: %s%s"):format(self.path, place(self), what:format(...)), 0)
end

--- Raises what is wrong with a key of the record.
---@param name string
---@param what string
---@param ... any
function Record:wrong(name, what, ...)
  self:fail(": its '%s' %s", name, what:format(...))
end

--- The value of the first of these keys that is there and not null, and that key; or nil.
---@param ... any
---@return any, string
function Record:find(...)
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    local v = self.value[name]
    if v ~= nil and v ~= json.null then return v, name end
  end
end

-- As find, but one of the keys must be there.
local function need(r, ...)
  local v, name = r:find(...)
  if v == nil then r:fail(" has no '%s'", (...)) end
  return v, name
end

local SPACE = (" "):byte()

-- What a text may not be, or nil.
local function text_fault(v)
  if type(v) ~= "string" then return "is no text" end
  if v:find("\0", 1, true) then return "holds a NUL byte" end
  -- Most texts begin with a word; only the others are searched for one.
  if (v:byte() or 0) <= SPACE and not v:find("%S") then return "is empty" end
end

--- A text that is not blank.
---@param ... any
---@return string
function Record:text(...)
  local v, name = need(self, ...)
  local fault = text_fault(v)
  if fault then self:wrong(name, fault) end
  return v
end

-- Whether one of a path's parts is "..".
local function climbs(path) return path:find("..", 1, true) and ("/" .. path .. "/"):find("/../", 1, true) end

--- The name of a picture's file, below the folder of pictures: one that climbs out of it is refused.
---@param name string
---@return string
function Record:picture(name)
  local v = self:text(name)
  if climbs(v) then self:wrong(name, "leads out of the folder of pictures: '%s'", v) end
  return v
end

--- A text that may be blank: what a model said.
---@param ... any
---@return string
function Record:answer(...)
  local v, name = need(self, ...)
  if type(v) ~= "string" then self:wrong(name, "is no text") end
  return v
end

--- A list of objects or other values; it may be empty.
---@param ... any
---@return table, string
function Record:list(...)
  local v, name = need(self, ...)
  if not is_list(v) then self:wrong(name, "is no list") end
  return v, name
end

--- A list of texts that are not blank, at least one.
---@param ... any
---@return string[]
function Record:texts(...)
  local list, name = self:list(...)
  if #list == 0 then self:wrong(name, "is an empty list") end
  for i, v in ipairs(list) do
    local fault = text_fault(v)
    if fault then self:wrong(name, "has a text %d that %s", i, fault) end
  end
  return list
end

--- A number.
---@param ... any
---@return integer
function Record:count(...)
  local v, name = need(self, ...)
  if type(v) ~= "number" then self:wrong(name, "is no number") end
  return v
end

--- A number above 0.
---@param name string
---@return integer
function Record:size(name)
  local v = self:count(name)
  if v <= 0 then self:wrong(name, "is not above 0: %g", v) end
  return v
end

--- true or false; false where there is none.
---@param name string
---@return boolean
function Record:truth(name)
  local v = self:find(name)
  if v ~= nil and type(v) ~= "boolean" then self:wrong(name, "is neither true nor false") end
  return v or false
end

local EXACT = 2 ^ 53            -- whole numbers below are what they are in the file, and found again as keys of a table

--- The whole number that a value stands for (7 or "7"), or nil.
---@param v any
---@return integer
function M.whole(v)
  if type(v) == "string" and v:find("^%d+$") and #v < 17 then v = tonumber(v) end
  if type(v) == "number" and v >= 0 and v < EXACT and v == math.floor(v) then return v end
end

--- The id under these keys: a whole number, also one in quotes.
---@param ... any
---@return integer
function Record:id(...)
  local v, name = need(self, ...)
  local id = M.whole(v)
  if not id then
    local shown = type(v) == "table" and "" or (": '%s'"):format(type(v) == "string" and v or json.encode(v))
    local large = shown:find("^: '%d+'$")
    self:wrong(name, "is %s%s", large and "beyond 2^53, up to which ids are whole numbers" or "no whole number", shown)
  end
  return id
end

--- Notes that this record has an id, which no earlier one may have.
---@param seen table       id -> the number of the record; filled here
---@param id integer|string
---@param name string
function Record:once(seen, id, name)
  if seen[id] then self:wrong(name, "is that of %s %d, too: %s", self.noun, seen[id], tostring(id)) end
  seen[id] = self.number
end

--- The id that the record's own key is, where a file is an object of records; no two have the same.
---@param key string
---@param seen table       id -> the number of the record; filled here
---@return integer
function Record:key(key, seen)
  local id = M.whole(key) or self:fail(": its key is no image id: '%s'", key)
  if seen[id] then self:fail(" has the key of record %d: '%s'", seen[id], key) end
  seen[id] = self.number
  return id
end

--- The objects of a list under a key: for k, r in record:parts("regions", "region").
---@param name string
---@param noun string
---@return function
function Record:parts(name, noun)
  local list, k = self:list(name), 0
  return function()
    k = k + 1
    if k > #list then return nil end
    return k, M.of(list[k], self.path, k, noun, self)
  end
end

return M
