-- The machine that is measured, and how busy others keep it meanwhile.
local ffi = require "ffi"
local native = require "lucid.native"

local C = native.C
local M = {}

local TICK = 100            -- of /proc a second

local function first_line(path, pattern)
  local f = io.open(path)
  if not f then return nil end
  for line in f:lines() do
    local found = line:match(pattern)
    if found then
      f:close()
      return found
    end
  end
  f:close()
end

--- { cpu, threads, memory = bytes, gemm, version, device }.
---@param device string
---@return table
function M.describe(device)
  local kilobytes = first_line("/proc/meminfo", "^MemTotal:%s*(%d+)")
  return { cpu = first_line("/proc/cpuinfo", "^model name%s*:%s*(.*)") or "unknown", threads = C.lc_threads_used(),
    memory = kilobytes and tonumber(kilobytes) * 1024, gemm = ffi.string(C.lc_features()):match "gemm: ([^\n]*)",
    version = native.version,
    device = device ~= "cpu" and ffi.string(C.lc_device_name(native.device(device))) or nil }
end

-- Seconds of work of all cores since the machine started, what a hypervisor took away included; and of this process
-- with the children that it has waited for.
local function busy()
  local all = first_line("/proc/stat", "^cpu%s+(.*)")
  local own = first_line("/proc/self/stat", "^.*%)%s+(.*)")
  if not (all and own) then return nil end
  local n, sum = 0, 0
  for word in all:gmatch "%d+" do
    n = n + 1
    if n <= 8 and n ~= 4 and n ~= 5 then sum = sum + tonumber(word) end    -- neither idle nor waiting for a disk
  end
  local fields = {}
  for word in own:gmatch "%S+" do fields[#fields + 1] = word end
  local mine = 0
  for i = 12, 15 do mine = mine + tonumber(fields[i]) end                  -- utime, stime, and the children's
  return sum / TICK, mine / TICK
end

--- Begins to watch: a function that says how many cores others have kept busy since; nil where nobody knows.
---@return fun(): number|nil
function M.watch()
  local all, own = busy()
  local started = C.lc_seconds()
  return function()
    local all_now, own_now = busy()
    if not (all and all_now) then return nil end
    return math.max(0, (all_now - all - (own_now - own)) / (C.lc_seconds() - started))
  end
end

return M
