-- The processes that decode pictures for another one.
local M = {}

--- The numbers of those that a process has started.
---@param parent integer|string
---@return integer[]
function M.of(parent)
  local p, list = io.popen(("ps -o pid=,comm= --ppid %s"):format(parent)), {}
  for pid, name in p:read("*a"):gmatch "(%d+)%s+(%S+)" do
    if name == "lucid-decode" then list[#list + 1] = tonumber(pid) end
  end
  p:close()
  return list
end

--- Has one take its next picture, do nothing, and end by a signal.
---@param pid integer
---@param signal string
function M.break_on_next(pid, signal)
  os.execute(("kill -STOP %d; (sleep 0.3; kill -%s %d; kill -CONT %d) 2>/dev/null &"):format(pid, signal, pid, pid))
end

return M
