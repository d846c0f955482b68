-- COCO as a source of annotated pictures: instances_*.json for the things, captions_*.json for sentences that are true.
-- Both are read record by record; what stays in memory are 40 bytes a box, and the captions.
local ffi = require "ffi"
local data = require "lucid.data.coco"
local json = require "lucid.json"
local record = require "lucid.data.record"

local M = {}
local Coco = {}
Coco.__index = Coco

-- Boxes of all pictures: four edges, the picture's row and the category of each; `order` has them by row, and row i's
-- begin at first[i - 1].
local function read_boxes(self)
  local n, room = 0, 1024
  local edges, rows, categories = ffi.new("double[?]", 4 * room), ffi.new("int32_t[?]", room), ffi.new("int32_t[?]", room)
  local function grow(array, kind, count)
    local larger = ffi.new(kind, 2 * count)
    ffi.copy(larger, array, ffi.sizeof(array))
    return larger
  end
  self.skipped = 0
  for picture, category, box in data.boxes(self.path, self.pictures, self.category) do
    if picture then
      if n == room then
        edges, rows = grow(edges, "double[?]", 4 * room), grow(rows, "int32_t[?]", room)
        categories, room = grow(categories, "int32_t[?]", room), 2 * room
      end
      for k = 1, 4 do edges[4 * n + k - 1] = box[k] end
      rows[n], categories[n], n = picture.row, category, n + 1
    else
      self.skipped = self.skipped + 1
    end
  end
  local first, order = ffi.new("int32_t[?]", #self.ids + 2), ffi.new("int32_t[?]", math.max(n, 1))
  for i = 0, n - 1 do first[rows[i] + 1] = first[rows[i] + 1] + 1 end
  for row = 1, #self.ids + 1 do first[row] = first[row] + first[row - 1] end
  local at = ffi.new("int32_t[?]", #self.ids + 2)
  ffi.copy(at, first, ffi.sizeof(first))
  for i = 0, n - 1 do
    order[at[rows[i]]] = i
    at[rows[i]] = at[rows[i]] + 1
  end
  self.first, self.order, self.edges, self.categories_of = first, order, edges, categories
end

local function read_captions(self, path)
  local number = 0
  for value in json.each(path, "annotations") do
    number = number + 1
    local r = record.of(value, path, number, "annotation")
    local p = self.pictures[r:id "image_id"]
    if p then
      p.captions = p.captions or {}
      table.insert(p.captions, (r:text "caption"))
    end
  end
end

--- Opens annotation files.
---@param path string            instances_*.json
---@param images string          the folder that file names are in
---@param captions string|nil    captions_*.json
---@return table
function M.open(path, images, captions)
  local self = setmetatable({ path = path, images = images, ids = {}, pictures = {}, files = { path, captions } }, Coco)
  for p in data.images(path) do
    local row = #self.ids + 1
    self.ids[row] = p.image_id
    self.pictures[p.image_id] = { row = row, file_name = p.file_name, width = p.width, height = p.height }
  end
  if #self.ids == 0 then error(path .. ": there are no pictures in it", 0) end
  self.category, self.categories = data.categories(path)
  read_boxes(self)
  if captions then read_captions(self, captions) end
  return self
end

local function range(self, id)
  local row = self.pictures[id].row
  return self.first[row], self.first[row + 1]
end

--- How many objects and sentences a picture has, and its file.
---@param id integer
---@return integer|nil, integer, string
function Coco:size(id)
  local from, to = range(self, id)
  return to - from, #(self.pictures[id].captions or {}), self.images .. "/" .. self.pictures[id].file_name
end

--- All that is known of a picture.
---@param id integer
---@return table
function Coco:get(id)
  local p, objects = self.pictures[id], {}
  local from, to = range(self, id)
  for k = from, to - 1 do
    local i = self.order[k]
    local e = self.edges + 4 * i
    objects[#objects + 1] = { name = self.category[self.categories_of[i]], attributes = {}, box = { e[0], e[1], e[2], e[3] } }
  end
  return { image_id = id, image = self.images .. "/" .. p.file_name, objects = objects, regions = {}, facts = p.captions or {} }
end

--- Annotations that could not be used.
---@return table
function Coco:passed() return { annotations = self.skipped } end

return M
