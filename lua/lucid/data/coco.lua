-- COCO annotations (instances_*.json): pictures, categories and boxes. What cannot be used (a
-- crowd, a box without area, a row marked ignore, an unknown picture or category) is counted and
-- passed over.
local json = require "lucid.json"
local record = require "lucid.data.record"

local M = {}

local function numbers(box)
  for i = 1, 4 do
    if type(box[i]) ~= "number" then return false end
  end
  return #box == 4
end

local function usable(a, images, names)
  local b = a.bbox
  return images[a.image_id] and names[a.category_id] and (a.iscrowd or 0) == 0
    and (a.ignore or 0) == 0 and type(b) == "table" and numbers(b) and b[3] > 0 and b[4] > 0
end

local function pictures_of(root, path)
  local pictures, by_id, seen = {}, {}, {}
  for i, image in ipairs(root.images) do
    local r = record.of(image, path, i, "image")
    local id = r:id("id")
    r:once(seen, id, "id")
    pictures[i] = { image_id = id, file_name = r:text("file_name"), width = r:size("width"), height = r:size("height"),
      objects = {} }
    by_id[id] = pictures[i]
  end
  return pictures, by_id
end

local function names_of(root, path)
  local names, seen = {}, {}
  for i, category in ipairs(root.categories) do
    local r = record.of(category, path, i, "category")
    local id = r:id("id")
    r:once(seen, id, "id")
    names[id] = r:text("name")
  end
  return names
end

--- Reads an annotation file: a list of { image_id, file_name, width, height, objects = { {name,
--- box} } }, boxes as fractions inside the picture, in the file's order.
---@param path string
---@param opt table|nil      crowds: keep those, too
---@return table[] pictures, table categories, integer skipped
function M.read(path, opt)
  local root = json.read(path)
  for _, name in ipairs { "images", "annotations", "categories" } do
    if type(root) ~= "table" or not record.is_list(root[name]) then
      error(("%s: there are no '%s' in it"):format(path, name), 0)
    end
  end
  local names, skipped = names_of(root, path), 0
  local pictures, by_id = pictures_of(root, path)
  for i, annotation in ipairs(root.annotations) do
    local a = record.of(annotation, path, i, "annotation").value
    if opt and opt.crowds and a.iscrowd == 1 then a.iscrowd = 0 end
    local p = usable(a, by_id, names) and by_id[a.image_id]
    if p then
      local x, y, w, h = a.bbox[1], a.bbox[2], a.bbox[3], a.bbox[4]
      local box = { math.max(0, x / p.width), math.max(0, y / p.height),
        math.min(1, (x + w) / p.width), math.min(1, (y + h) / p.height) }
      p.objects[#p.objects + 1] = { name = names[a.category_id], box = box }
    else
      skipped = skipped + 1
    end
  end
  return pictures, root.categories, skipped
end

--- The distinct names among a picture's objects, in their order.
function M.names(picture)
  local list, known = {}, {}
  for _, o in ipairs(picture.objects) do
    if not known[o.name] then
      known[o.name] = true
      list[#list + 1] = o.name
    end
  end
  return list
end

return M
