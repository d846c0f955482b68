-- Visual Genome: image_data.json, region_descriptions.json, objects.json and pictures, under one
-- root. Boxes come out as { x1, y1, x2, y2 }, fractions of the picture.
local decimal = require "lucid.decimal"
local file = require "lucid.file"
local folders = require "lucid.cache"
local json = require "lucid.json"
local record = require "lucid.data.record"

local M = {}

---@class lucid.VgImage
---@field image_id integer
---@field width integer
---@field height integer
---@field path string

local SLASH, DOT = ("/."):byte(1, 2)

-- Whether the part of a url behind i is "..".
local function climbs(url, i) return url:byte(i + 1) == DOT and url:byte(i + 2) == DOT and url:byte(i + 3) == SLASH end

--- A picture's file: the last two parts of its url, under the root; nil: they are none, or lead out of it.
---@param root string
---@param url string
---@return string|nil
function M.path(root, url)
  -- Byte by byte from the end: patterns are not compiled, and there are 108,077 urls.
  local last = #url + 1
  for i = #url, 0, -1 do
    if i == 0 or url:byte(i) == SLASH then
      if i + 1 == last or climbs(url, i) then return nil end
      if last <= #url then return root .. "/" .. url:sub(i + 1) end
      last = i
    end
  end
end

--- Every picture of image_data.json.
---@param root string
---@return table<integer, lucid.VgImage> by_id, integer[] ids   in the file's order
function M.images(root)
  local path = root .. "/image_data.json"
  local by_id, ids, seen, number = {}, {}, {}, 0
  for value in json.each(path) do
    number = number + 1
    local r = record.of(value, path, number)
    local id = r:id("image_id")
    r:once(seen, id, "image_id")
    by_id[id] = { image_id = id, width = r:size("width"), height = r:size("height"),
      path = M.path(root, r:text("url")) or r:wrong("url", "names no picture: %s", value.url) }
    ids[number] = id
  end
  if number == 0 then error(path .. ": there are no records in it", 0) end
  return by_id, ids
end

local function fractions(image, x, y, w, h)
  return { x / image.width, y / image.height, (x + w) / image.width, (y + h) / image.height }
end

local WORTH_KEEPING = 2 ^ 23 -- bytes: a smaller file is indexed anew in milliseconds

local function index_of(path, keys, cache)
  return json.index(path, keys, file.size(path) > WORTH_KEEPING and cache or nil)
end

--- The region descriptions of a root: reader:get(id) gives { phrase, box } of one picture (nil where the file
--- has none of it), parsed when it is asked for. reader.empty counts records without regions, which are passed
--- over, reader.blank the regions without a word that were met.
---@param root string
---@param images table<integer, lucid.VgImage>
---@param cache string|nil     where the file's index is kept, if the file is large
---@return table
function M.regions(root, images, cache)
  local path = root .. "/region_descriptions.json"
  local index = index_of(path, "regions/image_id", cache)
  local reader = { empty = index.empty, blank = 0 }
  function reader.get(self, id)
    local value, number = index:get(id)
    if not value then return nil end
    local image, list = images[id], {}
    local r = record.of(value, path, number)
    if not image then r:wrong("image_id", "is not in image_data.json: %d", id) end
    for _, region in r:parts("regions", "region") do
      if region:id("image_id") ~= id then region:wrong("image_id", "is not its record's: %d", id) end
      local phrase = region:find("phrase")
      if type(phrase) == "string" and not phrase:find("%S") then
        self.blank = self.blank + 1
      else
        list[#list + 1] = { phrase = region:text("phrase"), box = fractions(image, region:count("x"),
          region:count("y"), region:count("width"), region:count("height")) }
      end
    end
    return list
  end
  return reader
end

-- The name of an object: the first of `names`, else `name`; attributes.json has both forms.
local function object_name(o)
  local names = o:find("names")
  if names == nil then return o:text("name") end
  return o:texts("names")[1]
end

--- The objects of a root, as M.regions: reader:get(id) gives { name, attributes, box } of one picture.
---@param root string
---@param images table<integer, lucid.VgImage>
---@param cache string|nil
---@param name string|nil      the file, default objects.json; attributes.json has the same form
---@return table
function M.objects(root, images, cache, name)
  local path = root .. "/" .. (name or "objects.json")
  local index = index_of(path, "image_id", cache)
  local reader = {}
  function reader.get(_, id)
    local value, number = index:get(id)
    if not value then return nil end
    local image, list = images[id], {}
    local r = record.of(value, path, number)
    if not image then r:wrong("image_id", "is not in image_data.json: %d", id) end
    for _, o in r:parts(r:find("objects") and "objects" or "attributes", "object") do
      list[#list + 1] = { name = object_name(o), attributes = o:find("attributes") and o:list("attributes") or {},
        box = fractions(image, o:count("x"), o:count("y"), o:count("w", "width"), o:count("h", "height")) }
    end
    return list
  end
  return reader
end

--- All that is annotated of pictures: by_id[id] is { image_id, path, regions, objects }, read anew each time
--- it is asked for, so that memory holds only what its user keeps. What a root does not hold (objects.json is
--- no part of HA-DPO's own layout) is left out.
---@param root string
---@param ids integer[]|nil      which must be there; nil: all, in the file's order
---@param cache string|nil       where indices are kept, default lucid.cache.folder()
---@return table<integer, table> by_id, integer[] ids, table regions   with its counts `empty` and `blank`
function M.annotations(root, ids, cache)
  local images, all = M.images(root)
  for _, id in ipairs(ids or {}) do
    if not images[id] then error(("%s/image_data.json: there is no image %s"):format(root, id), 0) end
  end
  cache = cache or folders.folder()
  local regions = M.regions(root, images, cache)
  local objects = file.exists(root .. "/objects.json") and M.objects(root, images, cache)
  local function read(_, id)
    local image = images[id]
    return image and { image_id = id, path = image.path, regions = regions:get(id) or {},
      objects = objects and objects:get(id) or nil }
  end
  return setmetatable({}, { __index = read }), ids or all, regions
end

--- A region as SHR's judge reads it: "[0.5, 0.25, 1.0, 0.75]: phrase".
---@param region table
---@return string
function M.region_line(region)
  local numbers = {}
  for i, v in ipairs(region.box) do
    numbers[i] = decimal.text(v, 2):gsub("0$", "")
  end
  return ("[%s]: %s"):format(table.concat(numbers, ", "), region.phrase)
end

return M
