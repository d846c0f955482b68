-- A folder for what a measurement writes: made empty, removed whole.
local file = require "lucid.file"

local M = {}

--- A new empty folder.
---@return string
function M.new()
  local path = os.tmpname()
  file.remove(path)
  file.mkdir(path)
  return path
end

--- Removes a folder that M.new made, with all that is in it.
---@param path string
function M.remove(path)
  for _, name in ipairs(file.list(path) or {}) do M.remove(path .. "/" .. name) end
  file.remove(path)
end

return M
