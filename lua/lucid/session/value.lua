-- How the session shows a value that an expression gave: a text as it is, a table as Lua writes one, as far as it is
-- easily read, a tensor within a table by its head, one of Lucid's modules by its name.
local json = require "lucid.json"
local keys = require "lucid.keys"
local native = require "lucid.native"
local printing = require "lucid.printing"

local M = {}

local MOST, DEEPEST, WIDTH = 40, 4, 100     -- entries and levels of a table, characters of a line

local draw

local function key_of(key)
  if type(key) == "string" and key:find("^[%a_][%w_]*$") then return key end
  return "[" .. (type(key) == "string" and ("%q"):format(key) or tostring(key)) .. "]"
end

-- A type of the FFI passes for a value of it, but no function takes it for one.
local function is_tensor(value) return native.is_tensor(value) and (pcall(native.C.lc_tensor_ndim, value)) end

-- The name of a module of Lucid's.
local function module_of(t)
  for name, value in pairs(package.loaded) do
    if value == t and type(t) == "table" and name:find "^lucid" then return name end
  end
end

-- Keys that are not of the list: texts in order, then what has none.
local function others(t, count)
  local texts, rest = {}, {}
  for key in pairs(t) do
    if type(key) == "string" then
      texts[key] = true
    elseif not (type(key) == "number" and key >= 1 and key <= count and key % 1 == 0) then
      rest[#rest + 1] = key
    end
  end
  local list = keys(texts)
  for _, key in ipairs(rest) do list[#list + 1] = key end
  return list
end

local function table_text(t, depth, seen)
  if seen[t] or depth > DEEPEST then return "{ ... }" end
  seen[t] = true
  local parts, left = {}, 0
  local function add(text)
    if #parts < MOST then parts[#parts + 1] = text else left = left + 1 end
  end
  for i = 1, #t do add(#parts < MOST and draw(t[i], depth + 1, seen)) end
  for _, key in ipairs(others(t, #t)) do
    add(#parts < MOST and key_of(key) .. " = " .. draw(t[key], depth + 1, seen))
  end
  seen[t] = nil
  if left > 0 then parts[#parts + 1] = ("... and %d more"):format(left) end
  if #parts == 0 then return "{}" end
  local line = "{ " .. table.concat(parts, ", ") .. " }"
  if #line + 2 * depth <= WIDTH and not line:find("\n", 1, true) then return line end
  local indent = ("  "):rep(depth + 1)
  return "{\n" .. indent .. table.concat(parts, ",\n" .. indent) .. "\n" .. ("  "):rep(depth) .. "}"
end

function draw(value, depth, seen)
  if type(value) == "string" then return (("%q"):format(value):gsub("\\\n", "\\n")) end
  if is_tensor(value) then return printing.head(value) end
  local module = module_of(value)
  if module then return ("module %s"):format(module) end
  -- What has methods is a thing, not data.
  if type(value) ~= "table" or getmetatable(value) and not json.is_list(value) then return tostring(value) end
  return table_text(value, depth, seen)
end

--- The text of a value.
---@param value any
---@return string
function M.text(value)
  if type(value) == "string" or is_tensor(value) then return tostring(value) end
  local module = module_of(value)
  if module then return ("module %s; help(%s) lists what it has"):format(module, module) end
  return draw(value, 0, {})
end

return M
