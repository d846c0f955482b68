-- COCO annotations (instances_*.json): pictures, categories and boxes, read record by record. What cannot be used
-- (a crowd, a box without area, a row marked ignore, an unknown picture or category) is counted and passed over.
local json = require "lucid.json"
local record = require "lucid.data.record"

local M = {}

-- The records of one of the file's lists: for r in records(path, "images", "image").
local function records(path, list, noun)
  local number, each = 0, json.each(path, list)
  return function()
    local value = each()
    if value == nil then return nil end
    number = number + 1
    return record.of(value, path, number, noun)
  end
end

--- The pictures, in the file's order: for p in coco.images(path): { image_id, file_name, width, height }.
---@param path string
---@return function
function M.images(path)
  local each, seen = records(path, "images", "image"), {}
  return function()
    local r = each()
    if not r then return nil end
    local id = r:id("id")
    r:once(seen, id, "id")
    return { image_id = id, file_name = r:picture("file_name"), width = r:size("width"), height = r:size("height") }
  end
end

--- The categories: their names by id, and as the file has them.
---@param path string
---@return table<integer, string> names, table[] categories
function M.categories(path)
  local names, list, seen = {}, {}, {}
  for r in records(path, "categories", "category") do
    local id = r:id("id")
    r:once(seen, id, "id")
    names[id] = r:text("name")
    list[#list + 1] = r.value
  end
  return names, list
end

local function numbers(box)
  for i = 1, 4 do
    if type(box[i]) ~= "number" then return false end
  end
  return #box == 4
end

local function usable(a, images, names, crowds)
  local b = a.bbox
  return images[a.image_id] and names[a.category_id] and (crowds or (a.iscrowd or 0) == 0)
    and (a.ignore or 0) == 0 and type(b) == "table" and numbers(b) and b[3] > 0 and b[4] > 0
end

--- What can be used of the annotations: for picture, category_id, box in coco.boxes(...); the box in fractions, inside the
--- picture. For others picture is false.
---@param path string
---@param by_id table<integer, table>        pictures { width, height } by id
---@param names table<integer, string>
---@param opt table|nil                      crowds: those, too
---@return function
function M.boxes(path, by_id, names, opt)
  local each = records(path, "annotations", "annotation")
  return function()
    local r = each()
    if not r then return nil end
    local a = r.value
    if not usable(a, by_id, names, opt and opt.crowds) then return false end
    local p, x, y, w, h = by_id[a.image_id], a.bbox[1], a.bbox[2], a.bbox[3], a.bbox[4]
    return p, a.category_id, { math.max(0, x / p.width), math.max(0, y / p.height),
      math.min(1, (x + w) / p.width), math.min(1, (y + h) / p.height) }
  end
end

local function holds(list, name)
  for _, known in ipairs(list) do
    if known == name then return true end
  end
  return false
end

--- Reads what an annotation file says is in its pictures: a list of { image_id, file_name, width, height, names }, the names
--- distinct and in the file's order. No box stays in memory.
---@param path string
---@param opt table|nil      crowds: those, too
---@return table[] pictures, integer skipped
function M.read(path, opt)
  local pictures, by_id, skipped = {}, {}, 0
  for p in M.images(path) do
    p.names = {}
    pictures[#pictures + 1], by_id[p.image_id] = p, p
  end
  local names = M.categories(path)
  for p, category in M.boxes(path, by_id, names, opt) do
    local name = names[category]
    if not p then skipped = skipped + 1
    elseif not holds(p.names, name) then p.names[#p.names + 1] = name end
  end
  return pictures, skipped
end

--- Whether a file is one object with one of COCO's lists. No list is read for that.
---@param path string
---@return boolean
function M.is(path)
  for _, list in ipairs { "images", "annotations", "categories" } do
    if pcall(json.each, path, list) then return true end
  end
  return false
end

return M
