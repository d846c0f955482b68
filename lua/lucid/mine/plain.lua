-- Plain annotations: JSON lines { "image": "a/b.jpg", "objects": [...], "sentences": [...] }. An object is a name or
-- { "name":, "attributes": [...], "box": [x1, y1, x2, y2] }, edges as fractions of the picture; sentences are true of
-- the picture; both may be missing. "image_id" is a whole number, the line's number where there is none.
local json = require "lucid.json"
local record = require "lucid.data.record"

local M = {}
local Plain = {}
Plain.__index = Plain

local ROUNDING = 1e-3         -- of a box's edges

local function box_of(o)
  local box = o:find "box" and o:list "box"
  if not box then return nil end
  for i = 1, 4 do
    if type(box[i]) ~= "number" or #box ~= 4 then o:wrong("box", "is not four numbers") end
    if box[i] < -ROUNDING or box[i] > 1 + ROUNDING then o:wrong("box", "is not within the picture, whose edges are 0 and 1") end
  end
  if box[1] > box[3] or box[2] > box[4] then o:wrong("box", "does not have x1 <= x2 and y1 <= y2") end
  return box
end

-- A list of texts that may be missing or empty.
local function texts_of(r, name)
  return r:find(name) and #r:list(name) > 0 and r:texts(name) or {}
end

local function objects_of(r)
  local list = {}
  for i, value in ipairs(r:find "objects" and r:list "objects" or {}) do
    if type(value) == "string" then value = { name = value } end
    local o = record.of(value, r.path, i, "object", r)
    list[i] = { name = o:text "name", attributes = texts_of(o, "attributes"), box = box_of(o) }
  end
  return list
end

-- The place of every line, and its picture's id.
local function scan(self)
  local seen, number, place = {}, 0, 0
  for line in assert(io.lines(self.path)) do
    if line:find "%S" then
      number = number + 1
      local r = record.of(json.decode(line, ("%s: line %d"):format(self.path, number)), self.path, number)
      r:picture "image"
      local id = r:find "image_id" and r:id "image_id" or number
      r:once(seen, id, "image_id")
      self.ids[number], self.places[id], self.numbers[id] = id, place, number
      for _, o in ipairs(objects_of(r)) do
        if not self.named[o.name] then
          self.named[o.name] = true
          self.categories[#self.categories + 1] = { name = o.name }
        end
      end
      texts_of(r, "sentences")
    end
    place = place + #line + 1
  end
  if number == 0 then error(self.path .. ": there are no records in it", 0) end
end

--- Opens a file; every record is looked at once.
---@param path string
---@param images string      the folder that images are named in
---@return table
function M.open(path, images)
  local self = setmetatable({ path = path, images = images, ids = {}, places = {}, numbers = {}, categories = {}, named = {},
    files = { path } }, Plain)
  local reason
  self.handle, reason = io.open(path, "rb")
  if not self.handle then error(reason, 0) end
  scan(self)
  return self
end

local function read(self, id)
  self.handle:seek("set", self.places[id])
  return record.of(json.decode(self.handle:read "*l", self.path), self.path, self.numbers[id])
end

--- How many objects and sentences a picture has, and its file.
---@param id integer
---@return integer|nil, integer, string
function Plain:size(id)
  local r = read(self, id)
  return #objects_of(r), #texts_of(r, "sentences"), self.images .. "/" .. r:picture "image"
end

--- All that is known of a picture.
---@param id integer
---@return table
function Plain:get(id)
  local r = read(self, id)
  return { image_id = id, image = self.images .. "/" .. r:picture "image", objects = objects_of(r), regions = {}, facts = texts_of(r, "sentences") }
end

--- What the files hold that is passed over: nothing.
---@return table
function Plain:passed() return {} end

return M
