-- What a refusal of hostile input looks like: an error whose text names no place in lucid's own files. Any other
-- error is a fault of the program, and a finding.
local M = {}

--- Calls f; its results, or nothing when it refuses.
function M.of(f, ...)
  local result = { pcall(f, ...) }
  if result[1] then return unpack(result, 2) end
  local text = tostring(result[2])
  if text:find "lua/lucid/[%w_/]+%.lua:%d+:" then error("not refused but broken: " .. text, 0) end
  return nil
end

return M
