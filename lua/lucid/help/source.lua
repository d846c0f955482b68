-- Comments as they stand in the source: above a function, at the head of a file, beside a declaration of lucid.h.
-- Files lie where their functions were loaded from, in a checkout and where Lucid is installed.
local file = require "lucid.file"
local native = require "lucid.native"

local M = {}

local function lines_of(path)
  local lines = {}
  for line in (file.read(path) .. "\n"):gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
  return lines
end

-- A path as it is shown: from Lucid's root, where it lies there.
local function shown(path)
  local root = native.root
  return root ~= "" and path:sub(1, #root) == root and path:sub(#root + 1) or path
end

-- "lucid.image" for lua/lucid/image.lua; else the file's own name.
local function module_of(path)
  local own = path:match("lua/(lucid/[%w_/]+)%.lua$")
  return own and own:gsub("/", ".") or path:match("([%w_]+)%.lua$") or path
end

-- One line of a LuaLS comment, as it is read.
local function plain(line)
  local text = line:match("^%s*%-%-%-? ?(.*)$")
  local tag, rest = text:match("^@(%w+)%s*(.*)$")
  if not tag then return text end
  if tag == "param" or tag == "field" then return "  " .. rest end
  return tag == "return" and "  returns " .. rest or nil
end

-- The comment that ends above a line.
local function above(lines, at)
  local from = at
  while from > 1 and lines[from - 1]:find("^%s*%-%-") and not lines[from - 1]:find("^%s*%-%- %-%-%-%-") do from = from - 1 end
  local out = {}
  for i = from, at - 1 do out[#out + 1] = plain(lines[i]) end
  return out
end

-- Modules whose functions scripts know under lucid itself.
local AT_TOP = { ["lucid.init"] = true, ["lucid.tensor"] = true, ["lucid.native"] = true }

-- How a function is called, by the line that begins it: "function M.load(path)" of image.lua -> "lucid.image.load(path)".
local function head(lines, at, module)
  local line, i = lines[at], at
  while not line:find(")", 1, true) and lines[i + 1] and i < at + 3 do
    i = i + 1
    line = line .. " " .. lines[i]:match("^%s*(.*)$")
  end
  local name, arguments = line:match("function%s+([%w_.:]+)%s*(%b())")
  if not name then
    name = line:match("^%s*local%s+([%w_]+)%s*=") or line:match("^%s*([%w_.:]+)%s*=")
    arguments = line:match("function%s*(%b())") or "(...)"
  end
  if not name then return nil end
  local owner, own = name:match("^(%w+)[.:](.+)$")
  if owner == "M" then name = (AT_TOP[module] and "lucid" or module) .. "." .. own end
  if owner == "methods" then name = "t:" .. own arguments = arguments:gsub("^%(t,? ?", "(") end
  return name .. arguments
end

--- What is written above a line that begins a function: { head = how it is called, lines =, place = }; nil: it begins none.
---@param from string         a function's source, as debug.getinfo has it
---@param line integer
---@return table|nil
function M.at(from, line)
  local path = from:match("^@(.*)$")
  if not path or not file.exists(path) then return nil end
  local lines = lines_of(path)
  local name, comment = lines[line] and head(lines, line, module_of(path)), lines[line] and above(lines, line)
  if not name then return nil end
  return { head = name, lines = comment, place = ("%s:%d"):format(shown(path), line) }
end

-- The file of a module, whatever it is called.
local function path_of(module)
  return (package.searchpath(module, package.path))
end

--- The same of a name in a module's file.
---@param module string
---@param name string
---@return table|nil
function M.named(module, name)
  local path = path_of(module)
  if not path then return nil end
  for i, line in ipairs(lines_of(path)) do
    local found = line:match("^function%s+[%w_]+[.:]([%w_]+)%s*%(") or line:match("^[%w_]+%.([%w_]+)%s*=")
    if found == name then return M.at("@" .. path, i) end
  end
end

--- The comment at the top of a file.
---@param path string
---@return string[]
function M.top(path)
  local out = {}
  for _, line in ipairs(lines_of(path)) do
    if not line:find("^%-%-") then break end
    out[#out + 1] = plain(line)
  end
  return out
end

--- The comment at the top of a module's file; nil: it has none.
---@param module string
---@return string[]|nil
function M.head(module)
  local path = path_of(module)
  return path and M.top(path)
end

-- ---- ops ---------------------------------------------------------------------------------------------------------

-- Comments of C without their signs.
local function bare(text)
  return (text:gsub("^%s*/?%*+%s?", ""):gsub("%s*%*/%s*$", ""))
end

local function arguments_of(declaration)
  local names = {}
  for name in declaration:match("%((.-)%)"):gmatch("([%w_]+)%s*%f[,%z]") do names[#names + 1] = name end
  return names
end

--- What lucid.h says of a function without its lc_: as M.at.
---@param name string
---@return table|nil
function M.op(name)
  local lines = lines_of(native.header_path)
  for i, line in ipairs(lines) do
    local declaration = line:match("^%a[%w_ ]-%s[%s%*]*lc_" .. name .. "%b();")
    if declaration then
      local from, out = i, {}
      while lines[from - 1]:find("^%s?/?%*") and not lines[from - 1]:find("^/%* %-%-%-%-") do from = from - 1 end
      for k = from, i - 1 do out[#out + 1] = bare(lines[k]) end
      local beside = line:match("/%*(.-)%*/")
      if beside then out[#out + 1] = beside:match("^%s*(.-)%s*$") end
      local names = arguments_of(declaration)
      local c = declaration:gsub("%s+", " ")
      return { head = native.ops[name] and ("lucid.%s(%s)"):format(name, table.concat(names, ", ")) or c, lines = out,
        place = ("%s:%d%s"):format(shown(native.header_path), i, native.ops[name] and ": " .. c or "") }
    end
  end
end

return M
