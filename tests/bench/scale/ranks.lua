-- A step that several processes share: what each has to do, and the bytes that they send (rank.lua is one of them).
local json = require "lucid.json"
local processes = require "tests.support.processes"
local program = require "tests.support.program"

local M = {}

-- Open MPI counts what its processes send.
local COUNTING = "--mca pml_monitoring_enable 2 --mca pml_monitoring_enable_output 3"
  .. " --mca pml_monitoring_filename %s/sent"

--- Whether there are processes here, and whether their bytes can be counted.
M.HERE = processes.HERE and os.execute("ompi_info 2>/dev/null | grep -q 'pml: monitoring'") == 0

local function launch(n, folder, size, pictures, steps)
  local command = ("%s -n %d %s %s tests/bench/scale/rank.lua %s %s %d %d"):format(processes.LONG, n,
    COUNTING:format(folder), program, folder, size, pictures, steps)
  if os.execute(command) ~= 0 then error("scale: failed: " .. command, 0) end
  local sent = 0
  for rank = 0, n - 1 do
    for line in io.lines(("%s/sent.%d.prof"):format(folder, rank)) do
      sent = sent + (tonumber(line:match "^[EI]\t%d+\t%d+\t(%d+) bytes") or 0)
    end
  end
  return json.read(folder .. "/ranks.json"), sent
end

--- A step of n processes on the pairs of the paper mix's first pictures. sent: bytes of one step that a rank sends to
--- others, on average; what a run's beginning sends is known from a shorter run and taken off.
---@param n integer
---@param folder string      with as many photos (step.photos)
---@param size string        of step.SIZES
---@param pictures integer
---@param more integer       steps beyond the first
---@return { trained: integer, sent: number, ranks: table[] }
function M.measure(n, folder, size, pictures, more)
  local _, before = launch(n, folder, size, pictures, 1)
  local result, sent = launch(n, folder, size, pictures, 1 + more)
  result.sent = (sent - before) / more / n
  return result
end

--- Bytes that each of n ranks has to send so that all have the sum: every number to the rank that adds it up, and back.
---@param n integer
---@param numbers integer
function M.expected(n, numbers) return 2 * (n - 1) / n * 4 * numbers end

return M
