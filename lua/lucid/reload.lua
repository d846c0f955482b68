-- Changed files without a restart: a module is run anew, and everybody who holds it has the new one. Tensors, models and
-- all else that was made stay, and have the new methods.
--
--   lucid.reload "loss.sigmoid"     lucid.reload "./mine.lua"     lucid.reload()      -- whatever has changed
--
-- A table stays the table that it was, with new contents; so do the classes of a module, by their names. A function that
-- another module has put into a local of its own stays the old one there, until that module is loaded anew, too.
-- Recipes need none of this: lucid.recipe(name) reads the file each time.
local file = require "lucid.file"
local keys = require "lucid.keys"
local plug = require "lucid.plug"
local recipe = require "lucid.recipe"

local M = {}

-- What all that lives is made of, or what remembers it: a second one would not know it.
local FIXED = { ["lucid"] = true, ["lucid.native"] = true, ["lucid.tensor"] = true, ["lucid.json"] = true,
  ["lucid.session"] = true, ["lucid.reload"] = true }

local start = os.time()
local loaded_at = {}             -- module -> when its file was written, of those that were loaded anew

local function path_of(module) return (package.searchpath(module, package.path)) end

-- The tables that a module's functions call by names: its classes among them.
local function locals_of(value, found, seen)
  found, seen = found or {}, seen or {}
  if seen[value] then return found end
  seen[value] = true
  if type(value) == "function" then
    for i = 1, math.huge do
      local name, v = debug.getupvalue(value, i)
      if not name then break end
      if type(v) == "table" and rawget(v, "__index") and not found[name] then
        found[name] = v
        locals_of(v, found, seen)
      end
    end
  elseif type(value) == "table" then
    for _, field in pairs(value) do
      if type(field) == "function" then locals_of(field, found, seen) end
    end
  end
  return found
end

-- Gives a table what another one has, and nothing else.
local function fill(old, new)
  for key in pairs(old) do
    if rawget(new, key) == nil then old[key] = nil end
  end
  for key, value in pairs(new) do rawset(old, key, value) end
  -- a class is its own __index
  if rawget(new, "__index") == new then old.__index = old end
end

-- Puts a value in the place of another one, in all modules that hold it as a field.
local function replace(old, new)
  for _, module in pairs(package.loaded) do
    if type(module) == "table" then
      for key, value in pairs(module) do
        if value == old then rawset(module, key, new) end
      end
    end
  end
end

-- The value that stands for the module from now on.
local function renew(old, new)
  local classes = locals_of(old)
  for name, class in pairs(locals_of(new)) do
    if classes[name] and classes[name] ~= old and class ~= classes[name] then fill(classes[name], class) end
  end
  if type(old) == "table" and type(new) == "table" then
    fill(old, new)
    return setmetatable(old, getmetatable(new))
  end
  replace(old, new)
  return new
end

local function compiled(path)
  local chunk, reason = loadfile(path)
  if not chunk then error("reload: " .. reason, 0) end
  return chunk
end

local function reload_module(name, path)
  local new = compiled(path)(name)
  if new == nil then new = true end
  package.loaded[name] = renew(package.loaded[name], new)
  loaded_at[name] = file.mtime(path)
  plug.forget()
  return package.loaded[name]
end

-- The name under which a module is loaded.
local function loaded(name)
  for _, full in ipairs { name, "lucid." .. name } do
    if package.loaded[full] ~= nil then return full end
  end
end

local function changed()
  local list = {}
  for _, name in ipairs(keys(package.loaded)) do
    local path = not FIXED[name] and path_of(name)
    local written = path and file.mtime(path)
    if path and written >= start and written ~= loaded_at[name] then list[#list + 1] = name end
  end
  for _, name in ipairs(list) do reload_module(name, path_of(name)) end
  plug.forget()
  return list
end

--- Loads a module anew from its file, which may be named without "lucid."; a recipe, or a file that is named by its
--- path, is read at its next use. When the new file fails nothing has changed.
---@param name string|nil     nil: all modules whose files were written since this one was loaded (a session does so first)
---@return any value          the module, or the path of the file; of all: a list of the names
function M.reload(name)
  if name == nil then return changed() end
  local full = type(name) == "string" and loaded(name)
  if full and FIXED[full] then
    error(("reload: %s cannot be loaded anew: everything alive is its own; start again"):format(full), 2)
  end
  local path = full and path_of(full)
  if path then return reload_module(full, path) end
  path = type(name) == "string" and recipe.find(name)          -- or a file of its own
  if not path then error(("reload: no module '%s' is loaded, and no recipe is called so"):format(tostring(name)), 2) end
  compiled(path)
  plug.forget()
  return path
end

return setmetatable(M, { __call = function(_, name) return M.reload(name) end })
