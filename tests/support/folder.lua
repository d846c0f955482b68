-- Folders for tests: made empty, removed whole.
local M = {}

--- A new empty folder.
function M.folder()
  local path = os.tmpname()
  os.remove(path)
  assert(os.execute("mkdir -p '" .. path .. "'"))
  return path
end

--- Removes a folder that M.folder made.
function M.remove(path)
  os.execute("rm -rf '" .. path .. "'")
end

return M
