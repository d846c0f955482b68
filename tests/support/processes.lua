-- Several processes under mpirun, which is told what a user root on few cores needs; and runs of theirs compared.
local ffi = require "ffi"
local lucid = require "lucid"
local native = require "lucid.native"

local M = {}

local ROOT, START = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "mpirun --oversubscribe --bind-to none"

--- What starts processes, for "-n N COMMAND": for a spec, which waits for two minutes, and for as long as it takes.
M.MPIRUN = ("%s timeout 120 %s"):format(ROOT, START)
M.LONG = ("%s %s"):format(ROOT, START)

--- Whether there is an mpirun, and a build with MPI.
M.HERE = os.execute("command -v mpirun >/dev/null 2>&1") == 0
  and not ffi.string(native.C.lc_features()):find("mpi: missing", 1, true)

--- All numbers of a run's adapter, or of another file in its folder, one after another.
---@param out string
---@param path string|nil
---@return number[]
function M.numbers(out, path)
  local saved, list = lucid.checkpoint(out .. "/" .. (path or "adapter/adapter_model.safetensors")), {}
  local names = saved:names()
  table.sort(names)
  for _, name in ipairs(names) do
    local t = saved:tensor(name)
    for _, v in ipairs(t:view(t:count()):tolist()) do list[#list + 1] = v end
  end
  return list
end

--- ||a - b|| / ||b - start||: how far two runs are apart, in the length of the way that one went.
---@param a number[]
---@param b number[]
---@param start number[]
function M.distance(a, b, start)
  local difference, change = 0, 0
  for i = 1, #b do
    difference, change = difference + (a[i] - b[i]) ^ 2, change + (b[i] - start[i]) ^ 2
  end
  assert(#a == #b and change > 0)
  return math.sqrt(difference / change)
end

return M
