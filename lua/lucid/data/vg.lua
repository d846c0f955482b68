-- Visual Genome: image_data.json, region_descriptions.json, objects.json and pictures, under one
-- root. Boxes come out as { x1, y1, x2, y2 }, fractions of the picture.
local file = require "lucid.file"
local json = require "lucid.json"

local M = {}

---@class lucid.VgImage
---@field image_id integer
---@field width integer
---@field height integer
---@field path string

local function field(record, name, path, number)
  local v = type(record) == "table" and record[name]
  if v == nil or v == json.null then
    error(("%s: record %d has no '%s'"):format(path, number, name), 0)
  end
  return v
end

--- A picture's file: the last two parts of its url, under the root.
function M.path(root, url)
  local folder, name = url:match("([^/]+)/([^/]+)$")
  if not folder then return nil end
  return ("%s/%s/%s"):format(root, folder, name)
end

--- Every picture of image_data.json.
---@param root string
---@return table<integer, lucid.VgImage> by_id, integer[] ids   in the file's order
function M.images(root)
  local path = root .. "/image_data.json"
  local by_id, ids, number = {}, {}, 0
  for record in json.each(path) do
    number = number + 1
    local id = tonumber(field(record, "image_id", path, number))
    local url = field(record, "url", path, number)
    local where = id and type(url) == "string" and M.path(root, url)
    if not where then
      error(("%s: record %d: image_id %s with url %s names no picture"):format(path, number,
        tostring(record.image_id), tostring(url)), 0)
    end
    by_id[id] = { image_id = id, width = tonumber(record.width), height = tonumber(record.height),
      path = where }
    ids[#ids + 1] = id
  end
  return by_id, ids
end

local function fractions(image, x, y, w, h)
  if not (image and image.width and image.height and x) then return nil end
  return { x / image.width, y / image.height, (x + w) / image.width, (y + h) / image.height }
end

--- Region descriptions of some pictures: id -> list of { phrase, box }. Records without regions are
--- passed over, and so are regions without a phrase.
---@param root string
---@param images table<integer, lucid.VgImage>
---@param wanted table<integer, any>|nil    ids to keep; nil: all
function M.regions(root, images, wanted)
  local path = root .. "/region_descriptions.json"
  local by_id, number = {}, 0
  for record in json.each(path) do
    number = number + 1
    local regions = field(record, "regions", path, number)
    local id = regions[1] and tonumber(regions[1].image_id)
    if id and (not wanted or wanted[id]) then
      local list = {}
      for _, r in ipairs(regions) do
        if type(r.phrase) == "string" and r.phrase:find("%S") then
          list[#list + 1] = { phrase = r.phrase, box = fractions(images[id], r.x, r.y, r.width, r.height) }
        end
      end
      by_id[id] = list
    end
  end
  return by_id
end

local function present(v) return v ~= nil and v ~= json.null end

--- Objects of some pictures: id -> list of { name, attributes, box }; objects.json or
--- attributes.json.
---@param root string
---@param images table<integer, lucid.VgImage>
---@param wanted table<integer, any>|nil
---@param name string|nil      the file, default objects.json
function M.objects(root, images, wanted, name)
  local path = root .. "/" .. (name or "objects.json")
  local by_id, number = {}, 0
  for record in json.each(path) do
    number = number + 1
    local id = tonumber(field(record, "image_id", path, number))
    if not wanted or wanted[id] then
      local objects = record.objects
      if not present(objects) then objects = field(record, "attributes", path, number) end
      local list = {}
      for _, o in ipairs(objects) do
        local word = present(o.names) and o.names[1] or o.name
        if type(word) == "string" then
          list[#list + 1] = { name = word, attributes = present(o.attributes) and o.attributes or {},
            box = fractions(images[id], o.x, o.y, o.w or o.width, o.h or o.height) }
        end
      end
      by_id[id] = list
    end
  end
  return by_id
end

--- All that is annotated of some pictures: id -> { image_id, path, regions, objects }. What a root
--- does not hold (objects.json is no part of HA-DPO's own layout) is left out.
---@param root string
---@param ids integer[]|nil      nil: all, in the file's order
---@return table<integer, table> by_id, integer[] ids
function M.annotations(root, ids)
  local images, all = M.images(root)
  local wanted = {}
  for _, id in ipairs(ids or all) do
    if not images[id] then error(("%s/image_data.json: there is no image %s"):format(root, id), 0) end
    wanted[id] = true
  end
  local regions = M.regions(root, images, wanted)
  local objects = file.exists(root .. "/objects.json") and M.objects(root, images, wanted) or {}
  local by_id = {}
  for id in pairs(wanted) do
    by_id[id] = { image_id = id, path = images[id].path, regions = regions[id] or {},
      objects = objects[id] }
  end
  return by_id, ids or all
end

--- A region as SHR's judge reads it: "[0.5, 0.25, 1.0, 0.75]: phrase".
function M.region_line(region)
  local numbers = {}
  for i, v in ipairs(region.box) do
    local text = ("%.2f"):format(v):gsub("0$", "")
    numbers[i] = text
  end
  return ("[%s]: %s"):format(table.concat(numbers, ", "), region.phrase)
end

return M
