-- CC-SBU align: captioned pictures (filter_cap.json beside image/ID.jpg) on which MiniGPT-4 is held by a
-- caption loss while it learns preferences.
--
--   local list, missing = ccsbu.read("cc_sbu_align")      local draw = ccsbu.cycle(list, rank, processes)
local file = require "lucid.file"
local json = require "lucid.json"
local record = require "lucid.data.record"

local M = {}

-- An id names a file, so it is a number or a text without folders.
local function image_id(r)
  local v = r:find("image_id")
  if type(v) == "number" then return ("%d"):format(r:id("image_id")) end
  local id = r:text("image_id")
  if id:find("[/\\]") then r:wrong("image_id", "names no picture: '%s'", id) end
  return id
end

--- The captions of a folder: a list of { image_id (a text), image, caption }, in the file's order, and how
--- many were left out for want of a picture, which otherwise stops the run.
---@param root string
---@param opt table|nil     skip_missing
---@return table[] list, integer missing
function M.read(root, opt)
  local path = root .. "/filter_cap.json"
  local list, seen, missing, whole = {}, {}, 0, nil
  for value, key in json.each(path) do
    if key == "annotations" then whole = value end
  end
  if not record.is_list(whole) then error(path .. ": there is no list 'annotations' in it", 0) end
  for number, annotation in ipairs(whole) do
    local r = record.of(annotation, path, number)
    local id, caption = image_id(r), r:text("caption")
    r:once(seen, id, "image_id")
    local image = ("%s/image/%s.jpg"):format(root, id)
    if file.exists(image) then
      list[#list + 1] = { image_id = id, image = image, caption = caption }
    elseif opt and opt.skip_missing then
      missing = missing + 1
    else
      r:fail(": there is no picture %s. Get it, or pass --skip-missing", image)
    end
  end
  if #list == 0 then
    error(("%s: there are no captions in it%s"):format(path,
      missing > 0 and (" but %d whose picture is missing"):format(missing) or ""), 0)
  end
  return list, missing
end

--- The part of n captions that a process draws from, as the reference cuts it: first and last place. A run
--- without processes leaves the last caption out.
---@param n integer
---@param rank integer|nil          from 0; nil: there are no processes
---@param processes integer|nil
---@return integer first, integer last
function M.slice(n, rank, processes)
  if not rank then return 1, n - 1 end
  local step = math.floor(n / processes) + 1
  return step * rank + 1, math.min(step * (rank + 1), n)
end

--- A function that gives the captions of a process one after another, from the beginning again after the
--- last. The reference has one for descriptions and one for questions, each of its own.
---@param list table[]
---@param rank integer|nil
---@param processes integer|nil
---@return fun(): table
function M.cycle(list, rank, processes)
  local first, last = M.slice(#list, rank, processes)
  if last < first then
    error(("cc_sbu_align: process %d of %d gets none of the %d captions"):format(rank or 0, processes or 1, #list), 0)
  end
  local at = first - 1
  return function()
    at = at < last and at + 1 or first
    return list[at]
  end
end

return M
