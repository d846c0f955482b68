-- A stage's file: JSON lines, a picture each, in the order in which the pictures were selected. A line with
-- `left_out` is a picture that stays behind there, and why. People may edit what stands in a line and may take
-- lines out; the order has to stay.
local file = require "lucid.file"
local json = require "lucid.json"
local record = require "lucid.data.record"
local shape = require "lucid.mine.shape"

local M = {}

--- Every line: for r in lines.each(path).
---@param path string
---@return function
function M.each(path)
  local each, number, check = json.each(path), 0, shape.of(path)
  return function()
    local value = each()
    if value == nil then return nil end
    number = number + 1
    local r = record.of(value, path, number, "line")
    r:id "image_id"
    if check and not value.left_out then check(r) end
    return value
  end
end

--- Every picture that is not left out.
---@param path string
---@return function
function M.kept(path)
  local each = M.each(path)
  return function()
    local r = each()
    while r and r.left_out do r = each() end
    return r
  end
end

--- Looks pictures up in a file that holds more of them, in the same order: find(image_id) -> its line.
---@param path string
---@return fun(id: integer): table
function M.ahead(path)
  local each = M.each(path)
  return function(id)
    for r in each do
      if r.image_id == id then return r end
    end
    error(("%s: picture %s is not in it, or not in the order of what follows from it"):format(path, tostring(id)), 0)
  end
end

--- Looks pictures up in a file that holds fewer of them, in the same order: find(image_id) -> its line or nil. When all
--- have been asked for, find() says whether one was not met, which is an error.
---@param path string
---@return fun(id: integer|nil): table|nil
function M.beside(path)
  local each = M.kept(path)
  local head = each()
  return function(id)
    if head and id == nil then
      error(("%s: picture %s is not in what comes before, or not in its order"):format(path, tostring(head.image_id)), 0)
    end
    local found = head
    if not found or found.image_id ~= id then return nil end
    head = each()
    return found
  end
end

-- ---- writing ---------------------------------------------------------------------------------------

--- Adds lines: when this returns, the disk has them.
---@param path string
---@param list table[]
function M.append(path, list)
  local texts = {}
  for i, r in ipairs(list) do texts[i] = json.encode(r) .. "\n" end
  file.append(path, table.concat(texts), true)
end

local PIECE = 2 ^ 16

--- Cuts off what an interrupted write left behind the last whole line.
---@param path string
function M.cut(path)
  local f = assert(io.open(path, "rb"))
  local size = f:seek("end")
  local upto, keep = size, 0
  while upto > 0 and keep == 0 do
    local from = math.max(0, upto - PIECE)
    f:seek("set", from)
    local last = f:read(upto - from):match("^.*()\n")
    if last then keep = from + last end
    upto = from
  end
  f:close()
  if keep < size then file.truncate(path, keep) end
end

return M
