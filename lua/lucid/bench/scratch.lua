-- A folder for what a measurement writes: made empty, removed whole.
local file = require "lucid.file"

local M = {}

--- A new empty folder.
---@return string
M.new = file.temporary

--- Removes a folder that M.new made, with all that is in it.
---@param path string
function M.remove(path)
  if os.remove(path) then return end
  for _, name in ipairs(file.list(path) or {}) do M.remove(path .. "/" .. name) end
  file.remove(path)
end

return M
