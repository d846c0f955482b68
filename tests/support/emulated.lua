-- The programs that run CUDA kernels on the CPU (make emulation), and versions of them with a planted fault.
local M = { FOLDER = "build/emulation" }

local SOURCES = { "attention.cu", "attention_forward.cu", "attention_backward.cu", "attention_decode.cu",
  "attention_plain.cu", "spans.c" }
-- One dtype and head size: a fault shows in any, and that compiles in a second.
local ONE = "#define LC_HEAD_SIZES(launch, c, dtype) ((void)(dtype), launch<lc_bf16, 64>(c))\n"

local function read(path)
  local f = assert(io.open(path))
  local text = f:read("*a")
  f:close()
  return text
end

local function write(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
end

--- Whether the programs are there: only where the emulation knows the machine.
---@return boolean
function M.built()
  local f = io.open(M.FOLDER .. "/attention")
  if f then f:close() end
  return f ~= nil
end

--- Runs a command; its last line of output, and whether it ended with 0.
---@param command string
---@return boolean, string
function M.run(command)
  local p = io.popen(command .. " 2>&1; echo $?")
  local text = p:read("*a")
  p:close()
  local output, status = text:match("^(.-)(%d+)\n$")
  return status == "0", output
end

local function compile(folder, name, from)
  local c = name:match("%.c$")
  local ok, output = M.run(("%s %s -O1 -w -I%s -Inative -include %s/one.h -c %s -o %s/%s.o"):format(
    c and "gcc" or "g++", c and "-std=c11" or "-std=c++17 -x c++", folder, folder, from, folder, name))
  assert(ok, output)
end

local function replace_once(text, from, to, name)
  local first, last = text:find(from, 1, true)
  assert(first, name .. ": the text to change is gone: " .. from)
  return text:sub(1, first - 1) .. to .. text:sub(last + 1)
end

--- The unchanged program of one head size, whose objects the faults share.
---@param folder string a new folder of the caller
function M.prepare(folder)
  write(folder .. "/one.h", ONE)
  for _, name in ipairs(SOURCES) do compile(folder, name, "native/cuda/" .. name) end
end

local function link(base, folder, own)
  local objects = {}
  for i, name in ipairs(SOURCES) do
    objects[i] = (own[name] and folder or base) .. "/" .. name .. ".o"
  end
  local program = folder .. "/attention"
  local ok, output = M.run(("g++ -fopenmp -o %s %s %s/test_attention.o %s/core.a -lm -ldl"):format(
    program, table.concat(objects, " "), M.FOLDER, M.FOLDER))
  assert(ok, output)
  return program
end

--- Plants a fault and builds the program with it.
---@param base string the folder of prepare
---@param fault table file (under native/cuda), from, to: the first place of a text and what it becomes
---@return string program
function M.plant(base, fault)
  local folder = os.tmpname()
  os.remove(folder)
  M.run("mkdir -p " .. folder .. "/cuda")
  local changed = folder .. "/cuda/" .. fault.file
  local text = read("native/cuda/" .. fault.file)
  write(changed, fault.from and replace_once(text, fault.from, fault.to, fault.file) or text)
  write(folder .. "/one.h", ONE)
  local own = {}
  for _, name in ipairs(SOURCES) do
    own[name] = fault.file == name or fault.file:match("%.c?u?h$") ~= nil
    if own[name] then compile(folder, name, fault.file == name and changed or "native/cuda/" .. name) end
  end
  return link(base, folder, own)
end

return M
