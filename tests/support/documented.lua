-- Finds what is public and has no documentation: functions of Lua modules, and declarations of lucid.h.
--
-- Lua: M.f, Class:f and the tensor's methods are public. Each has a comment of three dashes that says what it does, a
-- @param for every parameter that has a name, no @param that is none, and a @return where it gives something back.
--
-- C: every declaration has a comment behind it, above it, or above the run of declarations that it stands in. The
-- comment of a run holds for all of it up to the next blank line.
local M = {}

-- ---- Lua -----------------------------------------------------------------------------------------------

-- The name and the parameters of a public function that a line begins; nil: it begins none.
local function public(line)
  local name, list = line:match "^function ([%w_]+[%.:][%w_]+)%s*(%b())"
  if not name then name, list = line:match "^([%w_]+%.[%w_]+) = function%s*(%b())" end
  local owner, member = (name or ""):match "^([%w_]+)[%.:]([%w_]+)$"
  if not owner or member:find "^__" then return nil end
  local is_public = owner == "M" or owner == "methods" or owner:find "^%u%l"
  return is_public and name or nil, list
end

-- Whether the function that begins at a line returns a value; functions within it are another matter.
local function gives(lines, at)
  local line = lines[at]
  if line:find "%f[%w]end%s*$" or line:find "%f[%w]end%s*%-%-" then return line:find "return%s+[^%s]" and not line:find "return%s+end" end
  local inner
  for i = at + 1, #lines do
    local text = lines[i]
    if text:find "^end" then return false end
    local indent = #text:match "^%s*"
    if inner and indent <= inner and text:find "^%s*end" then inner = nil
    elseif not inner then
      if text:gsub("function%s*%b().-%f[%w]end", ""):find "%f[%w]return%s+[^%s]" and not text:find "return%s+end" then return true end
      if text:find "%f[%w]function%f[%W]" and not text:find "%f[%w]end" then inner = indent end
    end
  end
end

-- The lines of three dashes right above a line.
local function comment_above(lines, at)
  local first = at
  while first > 1 and lines[first - 1]:find "^%-%-%-[^%-]" do first = first - 1 end
  return { unpack(lines, first, at - 1) }
end

local function faults_of(lines, at, name, list)
  local comment, said, is_described, returns = comment_above(lines, at), {}, false, false
  for _, line in ipairs(comment) do
    local parameter = line:match "^%-%-%-@param ([%w_%.]+)"
    if parameter then said[parameter] = true end
    is_described = is_described or line:find "^%-%-%- %S" ~= nil
    returns = returns or line:find "^%-%-%-@return" ~= nil
  end
  local faults = {}
  if not is_described then faults[1] = "says nothing of what it does" end
  for parameter in list:gmatch "[%w_%.]+" do
    if parameter ~= "self" and parameter ~= "_" and not said[parameter] then
      faults[#faults + 1] = "has no @param " .. parameter
    end
    said[parameter] = nil
  end
  for parameter in pairs(said) do faults[#faults + 1] = "has a @param that is none: " .. parameter end
  if not returns and gives(lines, at) then faults[#faults + 1] = "has no @return" end
  for i, fault in ipairs(faults) do faults[i] = ("%d: %s %s"):format(at, name, fault) end
  return faults
end

local function lines_of(text)
  local lines = {}
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do lines[#lines + 1] = line end
  return lines
end

--- What is not documented of a module's text, as "LINE: NAME fault"; and how many public functions there are.
---@param text string
---@return string[] faults, integer functions
function M.lua(text)
  local lines, faults, n = lines_of(text), {}, 0
  for at, line in ipairs(lines) do
    local name, list = public(line)
    if name then
      n = n + 1
      for _, fault in ipairs(faults_of(lines, at, name, list)) do faults[#faults + 1] = fault end
    end
  end
  return faults, n
end

--- The names that a module's text gives values to, M.NAME = VALUE, under a comment of three dashes.
---@param text string
---@return table<string, boolean>
function M.assigned(text)
  local lines, names = lines_of(text), {}
  for at, line in ipairs(lines) do
    local name = line:match "^M%.([%w_]+) = "
    if name and comment_above(lines, at)[1] then names[name] = true end
  end
  return names
end

-- ---- C ---------------------------------------------------------------------------------------------------

--- The declarations of a header that have no comment, as "LINE: NAME"; and how many there are.
---@param text string
---@return string[] faults, integer declarations
function M.header(text)
  local faults, n, covered, inside = {}, 0, false, false
  for at, line in ipairs(lines_of(text)) do
    local starts = line:find "^/%*" ~= nil
    if inside then inside = not line:find("*/", 1, true)
    elseif starts then
      covered = not line:find "^/%* %-%-%-%-"            -- a heading is no comment of what follows
      inside = not line:find("*/", 1, true)
    elseif line:find "^%s*$" then covered = false
    else
      local name = line:match "%f[%w](lc_[%w_]+)%(" or line:match "^typedef .-([%w_]+);" or line:match "^(enum [%w_]*)"
      if name then
        n = n + 1
        if not covered and not line:find "/%*" then faults[#faults + 1] = ("%d: %s"):format(at, name) end
      end
    end
  end
  return faults, n
end

return M
