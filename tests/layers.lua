-- The floors (base/ is the ground of floor 0): an include goes down a floor or stays in its folder. lucid.h may be included from every
-- floor, kernels.h from floors 1 to 5; lua.h by host/ alone. Lua: recipes and examples require "lucid"
-- alone, and only native.lua touches the C library.
local FLOOR = {
  base = -1, text = 0, image = 0, net = 0, cpu = 1, cuda = 1, tensor = 2, ops = 3, io = 3, dist = 3, nn = 4,
  models = 5, train = 5, host = 6, decoder = 6,
}
local faults = 0

local function fault(...)
  io.stderr:write(string.format(...), "\n")
  faults = faults + 1
end

local function lines_of(path)
  local f = assert(io.open(path))
  local list = {}
  for line in f:lines() do list[#list + 1] = line end
  f:close()
  return list
end

local function files(pattern)
  local list, p = {}, io.popen("ls " .. pattern .. " 2>/dev/null")
  for path in p:lines() do list[#list + 1] = path end
  p:close()
  return list
end

local function check_c(path)
  local folder = path:match("^native/(%w+)/")
  local own = FLOOR[folder]
  if not own then return fault("%s: the folder has no floor", path) end
  for number, line in ipairs(lines_of(path)) do
    local header = line:match('^%s*#%s*include%s+"([^"]+)"')
    local system = line:match("^%s*#%s*include%s+<([^>]+)>")
    if system and system:match("^lua") or system == "lauxlib.h" then
      if folder ~= "host" then fault("%s:%d: only host/ includes %s", path, number, system) end
    elseif header == "kernels.h" then
      if own < 1 or own > 5 then fault("%s:%d: floor %d includes kernels.h", path, number, own) end
    elseif header and header ~= "lucid.h" then
      local other = header:match("^(%w+)/")
      if not other then
        fault('%s:%d: "%s" is not given with its folder', path, number, header)
      elseif other ~= folder and FLOOR[other] and FLOOR[other] >= own then
        fault("%s:%d: floor %d includes %s of floor %d", path, number, own, header, FLOOR[other])
      end
    end
  end
end

local function check_lua(path)
  local top = path:match("^recipes/[^/]+%.lua$") or path:match("^examples/")
  for number, line in ipairs(lines_of(path)) do
    local module = line:match('require%s*%(?"([^"]+)"')
    if top and module and module ~= "lucid" then
      fault("%s:%d: a recipe requires %s; lucid is all it may", path, number, module)
    end
    if not path:match("native%.lua$") and (line:match("ffi%.cdef") or line:match("ffi%.load")) then
      fault("%s:%d: only native.lua calls %s", path, number, line:match("ffi%.%a+"))
    end
  end
end

local count = 0
for _, path in ipairs(files("native/*/*.c native/*/*.h native/*/*.cc native/*/*.cu native/*/*.cuh")) do
  check_c(path)
  count = count + 1
end
for _, path in ipairs(files("lua/lucid/*.lua lua/lucid/*/*.lua recipes/*.lua recipes/*/*.lua examples/*.lua")) do
  check_lua(path)
  count = count + 1
end
if faults > 0 or count == 0 then os.exit(1) end
print(("layers: %d files keep the floors"):format(count))
