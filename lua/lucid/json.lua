-- JSON in and out. Reading is strict (RFC 8259); writing gives the same bytes for the same value.
--
-- Objects become tables of string keys, lists become tables marked by json.array, null becomes
-- json.null. Numbers are doubles; an integer that a double cannot hold becomes an int64_t, and one that
-- this cannot hold either is refused.
local bit = require "bit"
local ffi = require "ffi"
local file = require "lucid.file"
local native = require "lucid.native"

local C = native.C

local M = {}

--- JSON's null: a value, so that lists keep their places.
M.null = setmetatable({}, { __tostring = function() return "null" end, __jsontype = "null" })

local ARRAY = { __jsontype = "array" }

--- Marks a table as a list: it is written as [] also when it is empty.
---@param t table|nil
---@return table
function M.array(t) return setmetatable(t or {}, ARRAY) end

--- Whether a value is a list that was read, or marked.
---@param v any
---@return boolean
function M.is_list(v) return getmetatable(v) == ARRAY end

--- Whether a value is an object that was read, which may be empty.
---@param v any
---@return boolean
function M.is_object(v) return type(v) == "table" and v ~= M.null and not M.is_list(v) end

-- ---- reading ------------------------------------------------------------------------------------

local length, integer = ffi.new("size_t[1]"), ffi.new("int64_t[1]")
local EXACT = 2 ^ 53

local function number_of(v)
  local value = C.lc_json_number(v)
  if value > -EXACT and value < EXACT then return value end
  if C.lc_json_integer(v, integer) ~= 0 then return value end
  local whole = integer[0]
  return value < 2 ^ 63 and whole == ffi.cast("int64_t", value) and value or whole
end

local value_of

local function list_of(v)
  local list, n = {}, 0
  local item = C.lc_json_first(v)
  while item ~= nil do
    n = n + 1
    list[n] = value_of(item)
    item = C.lc_json_next(item)
  end
  return setmetatable(list, ARRAY)
end

local function object_of(v)
  local object = {}
  local item = C.lc_json_first(v)
  while item ~= nil do
    local key = C.lc_json_key(item, length)
    object[ffi.string(key, length[0])] = value_of(item)
    item = C.lc_json_next(item)
  end
  return object
end

local READ = {
  [C.LC_JSON_NULL] = function() return M.null end,
  [C.LC_JSON_FALSE] = function() return false end,
  [C.LC_JSON_TRUE] = function() return true end,
  [C.LC_JSON_NUMBER] = number_of,
  [C.LC_JSON_STRING] = function(v)
    local text = C.lc_json_string(v, length)
    return ffi.string(text, length[0])
  end,
  [C.LC_JSON_ARRAY] = list_of,
  [C.LC_JSON_OBJECT] = object_of,
}

function value_of(v) return READ[C.lc_json_type(v)](v) end

-- A finalizer for each would cost more than the records.
local function take(root)
  local ok, value = pcall(value_of, root)
  C.lc_json_free(root)
  if not ok then error(value, 0) end
  return value
end

--- The value of a text; of members with one key the last counts. Errors are "NAME:line:column: what".
---@param text string
---@param name string|nil    what errors call the text
---@return any
function M.decode(text, name)
  if type(text) ~= "string" then error("json.decode: a string is expected, not a " .. type(text), 2) end
  local root = C.lc_json_parse(text, #text, name or "json", 0)
  if root == nil then error(ffi.string(C.lc_error()), 0) end
  return take(root)
end

local WHOLE = 256 * 2 ^ 20     -- bytes of a file that is read whole, at most

--- The value of a file.
---@param path string
---@return any
function M.read(path)
  if file.exists(path) and file.size(path) > WHOLE then
    error(("%s: it has %.0f MiB; JSON that is read whole has at most 256"):format(path, file.size(path) / 2 ^ 20), 0)
  end
  return M.decode(file.read(path), path)
end

--- The object of a file; another value is an error.
---@param path string
---@return table
function M.read_object(path)
  local value = M.read(path)
  if type(value) ~= "table" or value == M.null or getmetatable(value) == ARRAY then
    error(("%s: a JSON object is expected"):format(path), 0)
  end
  return value
end

--- The records of a file one by one, whatever its layout, in bounded memory:
--- for record, key, line in json.each(path). Records are the elements of an array, the members of an
--- object (key is then their name, else their number), JSON lines, or values one after another. A
--- file that holds one object alone is an object of members, but a record where it is named *.jsonl.
--- Keys that stand twice in an object are counted, and told on stderr when the file has ended.
---@param path string
---@param member string|nil    the records are the elements of this list, a member of the file's object
---@return function
function M.each(path, member)
  local reader = member and C.lc_json_open_list(path, member)
  if not member then reader = C.lc_json_open(path) end
  if reader == nil then error(ffi.string(C.lc_error()), 0) end
  reader = ffi.gc(reader, C.lc_json_close)
  local done, number, repeated, first = ffi.new("int[1]"), 0, 0, nil
  return function()
    if not reader then return nil end
    C.lc_json_repeated()
    local root = C.lc_json_read(reader, done)
    if root ~= nil then
      number = number + 1
      local twice = tonumber(C.lc_json_repeated())
      if twice > 0 then repeated, first = repeated + twice, first or number end
      local name = C.lc_json_read_key(reader, length)
      local key = name ~= nil and ffi.string(name, length[0]) or number
      return take(root), key, tonumber(C.lc_json_read_line(reader))
    end
    local reason = done[0] == 0 and ffi.string(C.lc_error())
    C.lc_json_close(ffi.gc(reader, nil))
    reader = nil
    if reason then error(reason, 0) end
    if first then
      io.stderr:write(("%s: %d keys stand twice in their object, first in record %d; the last of each counts\n"):format(
        path, repeated, first))
    end
  end
end

local Index = {}
Index.__index = Index

-- A kept index, when it is there and fits; else a new one, which is kept where a folder is given.
local function open_index(path, keys, folder)
  local kept = folder and ("%s/index/%d-%s"):format(folder, tonumber(C.lc_file_inode(path)), keys:gsub("/", "-"))
  local index = kept and C.lc_json_index_load(path, keys, kept) or nil
  if index ~= nil then return index, "kept" end
  index = C.lc_json_index_build(path, keys)
  if index == nil then error(ffi.string(C.lc_error()), 0) end
  if kept and (C.lc_make_folder(folder .. "/index") ~= 0 or C.lc_json_index_save(index, kept) ~= 0) then
    io.stderr:write("lucid: the index is not kept: ", ffi.string(C.lc_error()), "\n")
  end
  return index, "built"
end

--- Where the records of a large array stand, by an integer key of theirs; a record is parsed when it is
--- asked for. keys: "image_id", or "regions/image_id" for that of the first of a list: records whose list
--- is empty are counted in `empty`. folder: where the index is kept between runs; nil: nowhere.
---   local index = json.index(path, "regions/image_id", lucid.cache.folder())    index:get(17)
---@param path string
---@param keys string
---@param folder string|nil
---@return table
function M.index(path, keys, folder)
  local index, how = open_index(path, keys, folder)
  return setmetatable({ handle = ffi.gc(index, C.lc_json_index_free), how = how,
    count = tonumber(C.lc_json_index_count(index)), empty = tonumber(C.lc_json_index_empty(index)) }, Index)
end

--- The record with a key and its number in the file, or nil.
---@param key integer
---@return table|nil, integer
function Index:get(key)
  local row = C.lc_json_index_find(self.handle, key)
  if row < 0 then return nil end
  local root = C.lc_json_index_record(self.handle, row)
  if root == nil then error(ffi.string(C.lc_error()), 0) end
  return take(root), tonumber(C.lc_json_index_number(self.handle, row))
end

-- ---- writing ------------------------------------------------------------------------------------------

local SHORT = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c) return SHORT[c] or ("\\u%04x"):format(c:byte()) end

-- The length of the UTF-8 sequence at i, or nil.
local function sequence(s, i)
  local c, d = s:byte(i, i + 1)
  local n = c < 0x80 and 1 or c < 0xC2 and 0 or c < 0xE0 and 2 or c < 0xF0 and 3 or c < 0xF5 and 4 or 0
  if n < 2 then return n == 1 and 1 or nil end
  for k = i + 1, i + n - 1 do
    local b = s:byte(k)
    if not b or bit.band(b, 0xC0) ~= 0x80 then return nil end
  end
  if c == 0xE0 and d < 0xA0 or c == 0xED and d > 0x9F or c == 0xF0 and d < 0x90 or c == 0xF4 and d > 0x8F then
    return nil
  end
  return n
end

-- Bytes that are no UTF-8 become U+FFFD, each one.
local function valid(s)
  if not s:find("[\128-\255]") then return s end
  local parts, i, from = {}, 1, 1
  while i <= #s do
    local n = sequence(s, i)
    if not n then
      parts[#parts + 1] = s:sub(from, i - 1) .. "\239\191\189"
      from = i + 1
    end
    i = i + (n or 1)
  end
  parts[#parts + 1] = s:sub(from)
  return table.concat(parts)
end

local function quote(s) return '"' .. valid(s):gsub('[%z\1-\31\127"\\]', escape) .. '"' end

local function refuse(path, what)
  error(("json.encode: %s is %s"):format(#path > 0 and table.concat(path) or "the value", what), 0)
end

local function number(v, path)
  if v ~= v or v == math.huge or v == -math.huge then
    refuse(path, (v ~= v and "NaN" or tostring(v)) .. ", which JSON does not have")
  end
  if v == math.floor(v) and v > -EXACT and v < EXACT then
    return v == 0 and 1 / v < 0 and "-0" or ("%d"):format(v)
  end
  for digits = 14, 17 do
    local text = ("%." .. digits .. "g"):format(v)
    if tonumber(text) == v then return text end
  end
end

local write

-- Puts items between brackets, on lines of their own where there is an indent.
local function enclose(open, close, items, opt, level)
  if #items == 0 then return open .. close end
  local indent = opt.indent
  if not indent then return open .. table.concat(items, ",") .. close end
  local inner = "\n" .. (" "):rep(indent * (level + 1))
  return open .. inner .. table.concat(items, "," .. inner) .. "\n" .. (" "):rep(indent * level) .. close
end

local function list(t, path, opt, level)
  local items, count = {}, 0
  for k in pairs(t) do
    if type(k) ~= "number" or k < 1 or k ~= math.floor(k) then
      refuse(path, ("a list with the key %s"):format(tostring(k)))
    end
    count = count + 1
  end
  for i = 1, count do
    if t[i] == nil then refuse(path, ("a list without element %d"):format(i)) end
    path[#path + 1] = ("[%d]"):format(i)
    items[i] = write(t[i], path, opt, level + 1)
    path[#path] = nil
  end
  return enclose("[", "]", items, opt, level)
end

local function object(t, path, opt, level)
  local keys, items = {}, {}
  for k in pairs(t) do
    if type(k) ~= "string" then
      refuse(path, ("an object with the key %s, which is no string"):format(tostring(k)))
    end
    keys[#keys + 1] = k
  end
  table.sort(keys)
  for i, k in ipairs(keys) do
    path[#path + 1] = (#path > 0 and "." or "") .. k
    items[i] = quote(k) .. (opt.indent and ": " or ":") .. write(t[k], path, opt, level + 1)
    if opt.floats and opt.floats[k] and type(t[k]) == "number" and items[i]:find ":%s?%-?%d+$" then
      items[i] = items[i] .. ".0"
    end
    path[#path] = nil
  end
  return enclose("{", "}", items, opt, level)
end

local WRITE = {
  ["nil"] = function() return "null" end,
  boolean = tostring,
  number = number,
  string = quote,
  table = function(v, path, opt, level)
    if v == M.null then return "null" end
    if level >= 64 then refuse(path, "nested deeper than 64 (or holds itself)") end
    local meta = getmetatable(v)
    if (meta and meta.__jsontype == "array") or #v > 0 then return list(v, path, opt, level) end
    return object(v, path, opt, level)
  end,
  cdata = function(v, path)
    if ffi.istype("int64_t", v) or ffi.istype("uint64_t", v) then return (tostring(v):gsub("U?LL$", "")) end
    refuse(path, "a " .. tostring(ffi.typeof(v)))
  end,
}

function write(v, path, opt, level)
  local how = WRITE[type(v)] or refuse(path, "a " .. type(v))
  return how(v, path, opt, level)
end

--- The text of a value: keys sorted, numbers as short as they read back exactly, UTF-8 as it is (bytes
--- that are none become U+FFFD). A table is a list when json.array marked it or it has an element 1.
---@param value any
---@param opt table|nil     indent: spaces a level; without it everything stands on one line. floats: the keys
---                         whose whole numbers are written with a point, { key = true }
---@return string
function M.encode(value, opt)
  local ok, text = pcall(write, value, {}, opt or {}, 0)
  if not ok then error(text, 2) end
  return text
end

--- Writes a value to a file, atomically, with a line end after it.
---@param path string
---@param value any
---@param opt table|nil     as for encode
function M.write(path, value, opt)
  local ok, text = pcall(M.encode, value, opt)
  if not ok then error(path .. ": " .. tostring(text), 2) end
  file.write(path, text .. "\n")
end

return M
