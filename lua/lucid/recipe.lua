-- Recipes: a command is a file. lucid NAME runs recipes/NAME.lua; another recipe may call it, too.
local file = require "lucid.file"
local keys = require "lucid.keys"
local native = require "lucid.native"

local M = {}
local depth = 0

--- Whether a recipe is running on behalf of another, which then does the talking.
---@return boolean
function M.nested() return depth > 0 end

--- Where recipes are looked for, in order.
---@return string[]
function M.folders()
  local list = { "recipes" }
  for dir in (os.getenv("LUCID_PATH") or ""):gmatch("[^:]+") do list[#list + 1] = dir end
  list[#list + 1] = native.root .. "recipes"
  return list
end

--- The names of all recipes, sorted, and the file of each.
---@return string[] names, table<string, string> paths
function M.names()
  local paths = {}
  for _, dir in ipairs(M.folders()) do
    for _, entry in ipairs(file.list(dir) or {}) do
      local name = entry:match("^([%w_%-]+)%.lua$")
      if name and not paths[name] then paths[name] = dir .. "/" .. entry end
    end
  end
  return keys(paths), paths
end

--- The file of a command: a name, or a path with a slash or ending in .lua. nil: there is none.
---@param name string
---@return string
function M.find(name)
  if name:find("/", 1, true) or name:find("%.lua$") then
    return file.exists(name) and name or nil
  end
  for _, dir in ipairs(M.folders()) do
    local path = ("%s/%s.lua"):format(dir, name)
    if file.exists(path) then return path end
  end
end

--- What a Lua file returns: one of the recipes' own (prompts/judge), or any path that ends in .lua.
---@param name string
---@return function
function M.load(name)
  local path = name
  if not name:find("%.lua$") then
    for _, dir in ipairs(M.folders()) do
      path = ("%s/%s.lua"):format(dir, name)
      if file.exists(path) then break end
    end
  end
  local chunk, reason = loadfile(path)
  if not chunk then error(reason, 0) end
  return chunk()
end

--- Runs a recipe with options { model = "...", ["dry-run"] = true }, words that are no options in their list:
--- lucid.recipe("describe", { model = "...", "a.jpg", "b.jpg" }); what it returns.
---@param name string
---@param options table|nil
---@return table, table[]
function M.run(name, options)
  local path = M.find(name) or error(("there is no recipe '%s'"):format(name), 2)
  local chunk = assert(loadfile(path))
  local words, named = {}, {}
  for key, value in pairs(options or {}) do
    if type(key) == "string" then named[key] = value end
  end
  for i, word in ipairs(options or {}) do words[i] = tostring(word) end
  for _, key in ipairs(keys(named)) do
    local value = named[key]
    if type(value) == "boolean" then
      words[#words + 1] = (value and "--" or "--no-") .. key
    else
      words[#words + 1] = "--" .. key
      words[#words + 1] = tostring(value)
    end
  end
  local outer, outer_name = rawget(_G, "arg"), rawget(_G, "LUCID_RECIPE")
  depth = depth + 1
  rawset(_G, "arg", words)
  rawset(_G, "LUCID_RECIPE", name)
  local result = { pcall(chunk, unpack(words)) }
  depth = depth - 1
  rawset(_G, "arg", outer)
  rawset(_G, "LUCID_RECIPE", outer_name)
  if not result[1] then error(result[2], 0) end
  return unpack(result, 2)
end

return setmetatable(M, { __call = function(_, ...) return M.run(...) end })
