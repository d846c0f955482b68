-- Things that are one file each and found by their name: losses, metrics, judges, data. A name is
-- looked for in this library's folder of that kind; a path that ends in .lua is a file of the
-- user's own.
--
--   local loss = require("lucid.plug")("loss");   loss.sigmoid;   loss["./mine.lua"]
local file = require "lucid.file"
local native = require "lucid.native"

local M = {}

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

--- The names of a kind's files, sorted.
---@param kind string    "loss", "metric", "judge" or "data"
---@return string[]
function M.names(kind)
  local names = {}
  for _, entry in ipairs(file.list(("%slua/lucid/%s"):format(native.root, kind)) or {}) do
    names[#names + 1] = entry:match("^([%w_]+)%.lua$")
  end
  table.sort(names)
  return names
end

--- What is wrong with a name of a kind; nil: it has a file there, or ends in .lua, which is looked into when it is used.
---@param kind string
---@param name string
---@return string|nil
function M.unknown(kind, name)
  if name:find("%.lua$") then return nil end
  if name:find("^[%w_]+$") and package.searchpath(("lucid.%s.%s"):format(kind, name), package.path) then return nil end
  return ("there is no %s '%s'; %s are known, or a file that ends in .lua"):format(kind, name,
    table.concat(M.names(kind), ", "))
end

--- A check of recipes' options (lucid.args): raises what is wrong with a name.
---@param kind string
---@param without string|nil     a word for none of them, where a recipe may do without
---@return fun(name: string)
function M.check(kind, without)
  return function(name)
    local reason = name ~= without and M.unknown(kind, name)
    if reason then error(reason, 0) end
  end
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
  local reason = M.unknown(kind, name)
  if reason then error(reason, 3) end
  return require(("lucid.%s.%s"):format(kind, name))
end

local caches = {}

--- A table for what was made of names, until M.forget.
---@return table
function M.cache()
  caches[#caches + 1] = {}
  return caches[#caches]
end

--- Forgets what names stand for: files that have changed are read at the next use (lucid.reload).
function M.forget()
  for _, cache in ipairs(caches) do
    for name in pairs(cache) do cache[name] = nil end
  end
end

--- The things of a kind by their names.
---@param kind string    "loss", "metric", "judge" or "data"
---@return table
function M.open(kind)
  local known = M.cache()
  return setmetatable({}, { __index = function(_, name)
    if known[name] == nil then known[name] = find(kind, name) end
    return known[name]
  end })
end

return setmetatable(M, { __call = function(_, kind) return M.open(kind) end })
