-- Files like Visual Genome's two large ones, of any size: the published keys in the published order, contents that are
-- invented and the same every time. The published regions, 5,408,689 of 108,077 pictures, are met within a thousandth.
local M = {}

M.IMAGES = 108077
local REGIONS = 5408689
local EMPTY = 5000              -- every so many pictures one has no regions

-- Numerical Recipes' generator: enough for phrases and boxes.
local function generator()
  local state = 1
  return function(n)
    state = (state * 1664525 + 1013904223) % 2 ^ 32
    return math.floor(state / 2 ^ 32 * n)
  end
end

local THINGS = { "man", "clock", "tree", "car", "sidewalk", "woman", "street sign", "building", "shirt", "backpack",
  "window", "bicycle", "café table", "pair of shoes" }
local LOOKS = { "green in colour", "parked beside the road", "on the wall of the shop", "seen from behind",
  "made of \\\"old\\\" bricks", "with white stripes", "in the shade", "next to a lamp post, half hidden" }

local function url(id)
  return ("https://cs.stanford.edu/people/rak248/VG_100K%s/%d.jpg"):format(id % 2 == 0 and "" or "_2", id)
end

--- The id of the i-th picture. As the published ones: some thousands from 1, the others seven digits long.
---@param i integer
---@return integer
function M.id(i) return i <= 5000 and i or 2312000 + i end

--- Writes image_data.json.
---@param path string
---@param count integer      pictures
function M.write_images(path, count)
  local out, draw = assert(io.open(path, "w")), generator()
  for i = 1, count do
    local id = M.id(i)
    local coco = draw(2) == 0 and "null" or tostring(100000 + draw(480000))
    out:write(i == 1 and "[" or ", ", ('{"width": %d, "url": "%s", "height": %d, "image_id": %d, "coco_id": %s, "flickr_id": %s}'):format(
      300 + draw(980), url(id), 300 + draw(724), id, coco, coco == "null" and "null" or tostring(2 ^ 31 + draw(2 ^ 31))))
  end
  out:write("]")
  out:close()
end

--- Writes region_descriptions.json.
---@param path string
---@param count integer      pictures
---@return integer regions
function M.write(path, count)
  local out, draw = assert(io.open(path, "w")), generator()
  local number, each = 0, REGIONS / M.IMAGES
  for i = 1, count do
    local id, list = M.id(i), {}
    local n = i % EMPTY == 0 and 0 or math.floor(each + (draw(41) - 20) + 0.5)
    for k = 1, n do
      number = number + 1
      local phrase = ("the %s is %s"):format(THINGS[1 + draw(#THINGS)], LOOKS[1 + draw(#LOOKS)])
      list[k] = ('{"region_id": %d, "width": %d, "height": %d, "image_id": %d, "phrase": "%s", "y": %d, "x": %d}'):format(
        number, 1 + draw(300), 1 + draw(300), id, phrase, draw(300), draw(300))
    end
    out:write(i == 1 and "[" or ", ", '{"regions": [', table.concat(list, ", "), ('], "id": %d}'):format(id))
  end
  out:write("]")
  out:close()
  return number
end

return M
