-- Things that are one file each and found by their name: losses, metrics, judges, data. A name is
-- looked for in this library's folder of that kind; a path that ends in .lua is a file of the
-- user's own.
--
--   local loss = require("lucid.plug")("loss");   loss.sigmoid;   loss["./mine.lua"]

-- What the value of a kind has to be: a function, or a table with a function of this name.
local NEEDS = { loss = "function", metric = "score", judge = "new" }

local function fits(kind, value)
  local need = NEEDS[kind]
  if not need then return true end
  if need == "function" then
    local meta = getmetatable(value)
    return type(value) == "function" or (type(meta) == "table" and meta.__call ~= nil), "a function"
  end
  return type(value) == "table" and type(value[need]) == "function", ("a table with a function '%s'"):format(need)
end

local function find(kind, name)
  if type(name) ~= "string" then error(("%s: %s is no name"):format(kind, tostring(name)), 3) end
  if name:find("%.lua$") then
    local chunk, reason = loadfile(name)
    if not chunk then error(("%s %s"):format(kind, reason), 3) end
    local value = chunk()
    if value == nil then error(("%s %s: the file returns nothing"):format(kind, name), 3) end
    local ok, what = fits(kind, value)
    if not ok then error(("%s %s: the file returns a %s, not %s"):format(kind, name, type(value), what), 3) end
    return value
  end
  local module = ("lucid.%s.%s"):format(kind, name)
  if not name:find("^[%w_]+$") or not package.searchpath(module, package.path) then
    error(("there is no %s '%s'; name one of lua/lucid/%s, or a file that ends in .lua"):format(kind,
      name, kind), 3)
  end
  return require(module)
end

---@param kind string    "loss", "metric", "judge" or "data"
return function(kind)
  return setmetatable({}, { __index = function(self, name)
    local value = find(kind, name)
    rawset(self, name, value)
    return value
  end })
end
