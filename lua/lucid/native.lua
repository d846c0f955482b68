-- The one module that knows the C library. lucid.h is the binding: its text is fed to ffi.cdef, and
-- every op found in it becomes a function by name. One gate turns a failure into a Lua error at the
-- caller's line.
local ffi = require "ffi"

local M = { version = "0.1.0" }

-- ---- finding things ---------------------------------------------------------------------------

-- This file is ROOT/lua/lucid/native.lua in a checkout and ROOT/share/lucid/lua/lucid/native.lua where
-- installed; M.root ends with a slash (or is empty: the current folder).
local here = debug.getinfo(1, "S").source:match("^@(.*)lua/lucid/native%.lua$") or ""
M.root = here

local function readable(path)
  local f = io.open(path, "rb")
  if f then f:close() end
  return f ~= nil
end

local function header()
  for _, path in ipairs { here .. "native/lucid.h", here .. "lucid.h" } do
    local f = io.open(path, "r")
    if f then
      local lines = {}
      for line in f:lines() do
        if not line:match("^%s*#") then lines[#lines + 1] = line end
      end
      f:close()
      return table.concat(lines, "\n"), path
    end
  end
  error("lucid.h was not found beside the Lua files (" .. here .. ")", 0)
end

local function library()
  local asked = os.getenv("LUCID_LIB")
  local places = asked and { asked }
    or { here .. "build/liblucid.so", here .. "../../lib/lucid/liblucid.so" }
  for _, path in ipairs(places) do
    if readable(path) then return ffi.load(path) end
  end
  if asked then error("LUCID_LIB: there is no " .. asked, 0) end
  local ok, lib = pcall(ffi.load, "lucid")
  if ok then return lib end
  error("liblucid.so was not found; run make, or set LUCID_LIB", 0)
end

-- Between two loops OpenMP's threads spin, by default for milliseconds: beside any other program a
-- spinning thread then keeps the one that it waits for off its core. libgomp reads this as it loads.
ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"
ffi.C.setenv("GOMP_SPINCOUNT", "1000", 0)

local text, header_path = header()
M.header_path = header_path
ffi.cdef(text)
local C = library()
M.C = C

local VERSION = tonumber(text:match("LC_VERSION%s*=%s*(%d+)"))
if C.lc_version() ~= VERSION then
  error(("liblucid.so is of version %d but lucid.h of version %d; run make"):format(
    C.lc_version(), VERSION), 0)
end

-- Ctrl-C: the executable tells the core, whose long loops then stop. When a page of a mapped file is
-- gone it asks the core for the file's name.
local on_interrupt = rawget(_G, "LUCID_ON_INTERRUPT")
if on_interrupt then
  M.interrupt = ffi.new("struct { void (*interrupt)(int); const char *(*mapped_name)(const void *); int (*note)(int); void (*turn)(void); }",
    { C.lc_interrupt, C.lc_mapped_name, C.lc_signal_note, C.lc_comm_turn })
  on_interrupt(M.interrupt)
  rawset(_G, "LUCID_ON_INTERRUPT", nil)
end

-- ---- the gate ---------------------------------------------------------------------------------------

local ENOMEM = tonumber(ffi.C and C.LC_ENOMEM or 2)

-- What Lucid's own functions are of: its files, and the ops that bind has written.
local OWN_FILES, OWN_OPS = "@" .. here .. "lua/lucid/", "=lucid."

local function is_own(source)
  return source:sub(1, #OWN_FILES) == OWN_FILES or source:sub(1, #OWN_OPS) == OWN_OPS
end

--- Raises a message at the line of the caller's code: the first function that is not Lucid's own.
---@param message string
function M.raise(message)
  local level = 2
  local info = debug.getinfo(level, "S")
  while info and is_own(info.source) do
    level = level + 1
    info = debug.getinfo(level, "S")
  end
  error(message, level)
end

--- Raises the library's last error there.
function M.fail() M.raise(ffi.string(C.lc_error())) end

--- Passes a result on, or raises when it is NULL or -1.
---@param result ffi.cdata*|integer
---@return ffi.cdata*|integer
function M.check(result)
  if result == nil or (type(result) == "number" and result < 0) then M.fail() end
  return result
end

-- The collector does not see native bytes: it runs when they have doubled since it last did.
local SOFT = 256 * 2 ^ 20
local soft = SOFT

local function collect_when_due()
  if C.lc_memory_used() > soft then
    collectgarbage()
    soft = math.max(SOFT, 2 * tonumber(C.lc_memory_used()))
  end
end

local release = C.lc_tensor_release

--- Takes over a pending tensor: it lives until the collector finds it, or its scope ends.
---@param pending lucid.Tensor
---@return lucid.Tensor
function M.adopt(pending)
  if pending == nil then M.fail() end
  C.lc_tensor_adopt(pending)
  collect_when_due()
  return ffi.gc(pending, release)
end

--- One more holder of a tensor that the library owns; nil for NULL.
---@param t lucid.Tensor
---@return lucid.Tensor|nil
function M.borrow(t)
  if t == nil then return nil end
  C.lc_tensor_retain(t)
  return ffi.gc(t, release)
end

-- After a failed call: out of memory is tried once more after a collection.
local function again(f, ...)
  if C.lc_error_code() == ENOMEM then
    collectgarbage()
    collectgarbage()
    local result = f(...)
    if result ~= nil then return M.adopt(result) end
  end
  return nil
end

-- ---- binding ---------------------------------------------------------------------------------------

M.tensor_type = ffi.typeof("lc_tensor")
local tensor_type = M.tensor_type

local function kind_of(v)
  if ffi.istype(tensor_type, v) then return "a tensor" end
  if type(v) == "cdata" then return "a " .. tostring(ffi.typeof(v)) end
  return v == nil and "missing" or "a " .. type(v)
end

--- Raises "op: argument i is ..., ... is expected" at the caller of the op.
---@param op string
---@param i integer
---@param value boolean
---@param expected string
function M.bad_argument(op, i, value, expected)
  M.raise(("%s: argument %d is %s; %s is expected"):format(op, i, kind_of(value), expected))
end

--- A dim as the library counts it, from 0, of one that is counted from 1; -1 is the last in both.
---@param op string
---@param i integer
---@param dim integer
---@return integer
function M.dim(op, i, dim)
  if type(dim) ~= "number" then M.bad_argument(op, i, dim, "a dim") end
  if dim == 0 or dim % 1 ~= 0 then
    M.raise(("%s: there is no dim %s; they count from 1, and -1 is the last"):format(op, dim))
  end
  return dim > 0 and dim - 1 or dim
end

--- Whether a value is a tensor.
---@param v boolean|integer|lucid.Tensor
---@return boolean
function M.is_tensor(v) return ffi.istype(tensor_type, v) end

-- One Lua function an op, written out so that it compiles well: checks, call, adopt.
local function bind(name, parameters)
  local names, checks, fixes = {}, {}, {}
  for i, p in ipairs(parameters) do
    local a = "a" .. i
    names[i] = a
    if p.kind == "tensor" then
      checks[#checks + 1] = ("if not istype(tensor_type, %s) then bad(name, %d, %s, 'a tensor') end"):format(a, i, a)
    elseif p.kind == "dim" then
      fixes[#fixes + 1] = ("%s = dim(name, %d, %s)"):format(a, i, a)
    else
      checks[#checks + 1] = ("if type(%s) ~= 'number' then bad(name, %d, %s, 'a number') end"):format(a, i, a)
    end
  end
  local list = table.concat(names, ", ")
  local source = ([[
    local f, name, istype, tensor_type, bad, dim, adopt, again, fail = ...
    return function(%s)
      %s
      %s
      local r = f(%s)
      if r == nil then
        r = again(f, %s)
        if r == nil then fail() end
        return r
      end
      r = adopt(r)
      return r
    end]]):format(list, table.concat(checks, "\n"), table.concat(fixes, "\n"), list, list)
  return assert(loadstring(source, "=lucid." .. name))(
    C["lc_" .. name], name, ffi.istype, tensor_type, M.bad_argument, M.dim, M.adopt, again, M.fail)
end

local KINDS = { double = "number", float = "number", int = "int", int64_t = "int", uint64_t = "int" }

local function parameters_of(args)
  local list = {}
  for arg in args:gmatch("[^,]+") do
    local type_name, name = arg:match("^%s*(.-)%s*([%w_]+)%s*$")
    type_name = type_name:gsub("const ", "")
    local kind = type_name == "lc_tensor *" and "tensor" or KINDS[type_name]
    if not kind then return nil end            -- lists and forests: bound by hand in tensor.lua
    if kind == "int" and name:match("^dim%d?$") then kind = "dim" end
    list[#list + 1] = { kind = kind, name = name }
  end
  return list[1] and list[1].kind == "tensor" and list or nil
end

--- Every op of the header whose arguments are tensors and numbers: name -> function.
M.ops = {}
for name, args in text:gmatch("\nlc_tensor%s+%*lc_([%w_]+)%(([^)]*)%)") do
  local parameters = not name:match("^tensor_") and not name:match("^image_") and parameters_of(args)
  if parameters then
    -- Bound at first use: start-up does not pay for what a script never calls.
    M.ops[name] = parameters
  end
end
for name, parameters in pairs(M.ops) do
  local f
  M.ops[name] = function(...)
    if not f then
      f = bind(name, parameters)
      M.ops[name] = f
      if M.bound then M.bound(name, f) end
    end
    return f(...)
  end
end

--- What tells a tensor from every other one that lives, whatever they hold.
---@param t lucid.Tensor
---@return string
function M.address(t) return tostring(ffi.cast("void *", t)):match("0x%x+") end

-- ---- scopes and modes ----------------------------------------------------------------------------------

local function leave(value)
  if ffi.istype(tensor_type, value) then C.lc_tensor_leave(value) end
end

-- The coroutine that opened each scope; the main one is no coroutine.
local opener = {}

local function end_scope(before, thread, ok, ...)
  local depth = C.lc_scope_depth()
  if not ok and depth == before then error((...), 0) end      -- it was stopped before it was open
  if coroutine.running() ~= thread or depth ~= before + 1 then
    error("scope: it was left by a coroutine's yield; a scope must be closed where it was opened", 0)
  end
  if ok then
    for i = 1, select("#", ...) do leave((select(i, ...))) end
  end
  C.lc_scope_end()
  opener[depth] = nil
  if not ok then error((...), 0) end
  return ...
end

-- A scope that a coroutine leaves open would take in what others make meanwhile.
local yield = coroutine.yield
rawset(coroutine, "yield", function(...)
  local thread = coroutine.running()
  if thread and opener[C.lc_scope_depth()] == thread then
    M.raise("scope: a coroutine cannot yield while its scope is open")
  end
  return yield(...)
end)

-- Ctrl-C may come at any instruction: what opens a scope is inside the call that is caught.
local function in_scope(thread, f, ...)
  M.check(C.lc_scope_begin())
  opener[C.lc_scope_depth()] = thread
  return f(...)
end

--- Calls f(...): the storage of every tensor that is made meanwhile is freed at the end, but for those
--- that f returns and those that were kept. Closes also when f raises.
---@param f function
---@param ... any
---@return any, table, integer
function M.scope(f, ...)
  local thread = coroutine.running()
  return end_scope(C.lc_scope_depth(), thread, pcall(in_scope, thread, f, ...))
end

local function end_no_grad(before, ok, ...)
  C.lc_grad_mode(before)
  if not ok then error((...), 0) end
  return ...
end

--- Calls f(...) with recording off: nothing made in it has a gradient.
---@param f function
---@param ... any
---@return lucid.Tensor|number|table, number|number[], lucid.Tensor
function M.no_grad(f, ...)
  return end_no_grad(C.lc_grad_mode(0), pcall(f, ...))
end

local function end_held(ok, ...)
  C.lc_signals_hold(0)
  local noted = C.lc_signal_noted() ~= 0
  if not ok and noted then io.stderr:write("lucid: ", tostring((...)), "\n") end  -- the host says "interrupted" alone
  if not ok then error((...), 0) end
  if noted then error("interrupted", 0) end           -- and ends with 130 or 143
  return ...
end

--- Calls f(...) and returns its values; SIGINT and SIGTERM wait meanwhile, a second one ends the process. f looks at
--- signalled() where it can stop; after a signal held raises.
---@param f function
---@param ... any
---@return string|table[]|nil
function M.held(f, ...)
  C.lc_signals_hold(1)
  return end_held(pcall(f, ...))
end

local function end_obeying(ok, ...)
  C.lc_signals_hold(0)
  if not ok then error((...), 0) end
  return ...
end

--- Calls f(...) as held does, but a signal that f has obeyed is no error: f ends what it does, and so does the program.
---@param f function
---@param ... any
---@return any
function M.obeying(f, ...)
  C.lc_signals_hold(1)
  return end_obeying(pcall(f, ...))
end

--- Whether a signal waits.
---@return boolean
function M.signalled() return C.lc_signal_noted() ~= 0 end

-- ---- dtypes and devices --------------------------------------------------------------------------------

local DTYPES = { f32 = 0, bf16 = 1, f16 = 2, i32 = 3, u8 = 4 }

--- The number of a dtype's name.
---@param name string
---@return integer
function M.dtype(name)
  return DTYPES[name] or M.raise(("there is no dtype '%s'; f32, bf16, f16, i32 and u8 are known"):format(
    tostring(name)))
end

local QUANTS = { none = 0, q8_0 = 1, nf4 = 2, fp4 = 3 }

--- The number of a kind of quantised weights.
---@param name string
---@return integer
function M.quant(name)
  return QUANTS[name] or M.raise(("there are no '%s' weights; none, q8_0, nf4 and fp4 are known"):format(
    tostring(name)))
end

--- The number of a device's name: "cpu" is the host, "cuda" the first GPU (of several processes on a machine each has its
--- own), "auto" that GPU where it can be used.
---@param name string|nil      default: "cpu"
---@return integer
function M.device(name)
  if name == nil or name == "cpu" then return C.LC_HOST end
  local number = tonumber(tostring(name):match("^cuda:(%d+)$"))
  if name == "auto" or name == "cuda" then
    number = C.lc_device_started()
    if number == C.LC_HOST then number = C.lc_device_nth(C.lc_comm_place()) end
  elseif not number then
    M.raise(("there is no device '%s'; auto, cpu and cuda:N are known"):format(tostring(name)))
  end
  if C.lc_device_start(number) < 0 then
    if name == "auto" then return C.LC_HOST end
    M.raise(("device '%s': %s"):format(name, ffi.string(C.lc_error())))
  end
  return number
end

--- The algorithms that multiplied matrices on the device so far, as text for a later process; nil: there are none.
---@return string|nil
function M.products()
  local choices = ffi.string(C.lc_device_choices())
  return choices ~= "" and choices or nil
end

--- Takes over what M.products gave, so that a run that goes on has the same bits; false: it is of another device or
--- library, and nothing is taken.
---@param choices string
---@return boolean
function M.take_products(choices) return M.check(C.lc_device_choose(choices)) > 0 end

--- The name of a device's number.
---@param device integer
---@return string
function M.device_name(device) return device == C.LC_HOST and "cpu" or "cuda:" .. device end

return M
