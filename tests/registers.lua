-- What ptxas said of every CUDA kernel, against tests/registers.txt: a kernel that is not listed there has at most 64
-- registers and no local memory; a listed one at most what is listed, with a margin of 8 registers for other compilers.
-- "lucid tests/registers.lua write" writes the list anew: look at what changed before you commit it.
local LIST, PLAIN, MARGIN = "tests/registers.txt", 64, 8
local folder = os.getenv("BUILD") or "build"

-- "(anonymous namespace)::sum_runs<float>(float*, ...)" without its namespace and arguments.
local function readable(mangled)
  local names = {}
  local path = os.tmpname()
  local f = assert(io.open(path, "w"))
  f:write(table.concat(mangled, "\n"), "\n")
  f:close()
  local p = io.popen("c++filt <" .. path)
  for line in p:lines() do
    line = line:gsub("^void ", ""):gsub("_GLOBAL__N__[%w_]-_cu_%x+::", ""):gsub("%(anonymous namespace%)::", "")
    names[#names + 1] = line:match("^(.-)%([^()]*%)$") or line
  end
  p:close()
  os.remove(path)
  return names
end

-- Most registers and most bytes of local memory of each kernel of a file, over all targets.
local function read(path, found)
  local mangled, facts = {}, {}
  for line in io.lines(path) do
    local name = line:match("Compiling entry function '([^']+)'")
    if name then
      mangled[#mangled + 1] = name
      facts[#facts + 1] = { registers = 0, bytes = 0 }
    elseif #facts > 0 then
      local stack, stores, loads = line:match("(%d+) bytes stack frame, (%d+) bytes spill stores, (%d+) bytes spill loads")
      local registers = line:match("Used (%d+) registers")
      local fact = facts[#facts]
      if stack then fact.bytes = math.max(fact.bytes, stack + 0, stores + loads) end
      if registers then fact.registers = tonumber(registers) end
    end
  end
  for i, name in ipairs(#mangled > 0 and readable(mangled) or {}) do
    local key = path:match("([^/]+)%.ptxas$") .. " " .. name:gsub(" ", "")
    local most = found[key] or { registers = 0, bytes = 0 }
    found[key] = { registers = math.max(most.registers, facts[i].registers), bytes = math.max(most.bytes, facts[i].bytes) }
  end
end

local function is_plain(fact) return fact.registers <= PLAIN and fact.bytes == 0 end

local found, count = {}, 0
local p = io.popen("ls " .. folder .. "/obj/cuda/*.ptxas 2>/dev/null")
for path in p:lines() do read(path, found) end
p:close()

local keys = {}
for key in pairs(found) do keys[#keys + 1] = key end
table.sort(keys)

if arg[1] == "write" then
  local f = assert(io.open(LIST, "w"))
  for _, key in ipairs(keys) do
    if not is_plain(found[key]) then f:write(("%s %d %d\n"):format(key, found[key].registers, found[key].bytes)) end
  end
  f:close()
  return
end

local allowed, faults = {}, 0
for line in io.lines(LIST) do
  local key, registers, bytes = line:match("^(%S+ %S+) (%d+) (%d+)$")
  allowed[key] = { registers = registers + MARGIN, bytes = tonumber(bytes) }
end
for _, key in ipairs(keys) do
  local fact, most = found[key], allowed[key] or { registers = PLAIN, bytes = 0 }
  count = count + 1
  if fact.registers > most.registers or fact.bytes > most.bytes then
    faults = faults + 1
    io.stderr:write(("%s: %d registers and %d bytes of local memory; %d and %d are expected (tests/registers.lua)\n"):format(
      key, fact.registers, fact.bytes, most.registers, most.bytes))
  end
end
if faults > 0 then os.exit(1) end
print(("registers: %d CUDA kernels are as expected"):format(count))
