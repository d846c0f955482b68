-- What is in pictures, for sampling questions about them: COCO's instances, or JSON lines (an array, values one after
-- another), each { image, objects = names }.
local coco = require "lucid.data.coco"
local record = require "lucid.data.record"

local M = {}

local function from_coco(path)
  local list = {}
  for i, p in ipairs((coco.read(path))) do list[i] = { image = p.file_name, names = p.names } end
  return list
end

local function distinct(names)
  local list, known = {}, {}
  for _, name in ipairs(names) do
    if not known[name] then
      known[name] = true
      list[#list + 1] = name
    end
  end
  return list
end

local function from_lines(path)
  local list, seen = {}, {}
  for value, number in record.rows(path) do
    local r = record.of(value, path, number, "picture")
    local image, objects = r:picture("image"), r:list("objects")
    r:once(seen, image, "image")
    list[number] = { image = image, names = #objects > 0 and distinct(r:texts("objects")) or {} }
  end
  return list
end

--- The pictures of a file with the distinct names of what is in them.
---@param path string
---@return { image: string, names: string[] }[]
function M.read(path)
  local list = coco.is(path) and from_coco(path) or from_lines(path)
  if #list == 0 then error(path .. ": there are no pictures in it", 0) end
  return list
end

return M
