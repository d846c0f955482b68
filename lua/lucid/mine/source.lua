-- Annotated pictures, one at a time, whatever they come from:
--
--   a Visual Genome root     --images DIR: image_data.json, region_descriptions.json, objects.json if it is there
--   COCO                     --annotations instances_*.json, --captions captions_*.json, pictures under --images
--   plain records            --annotations FILE.jsonl: { image, objects, sentences }, pictures under --images
--
-- A source has ids in the order of its file; size(id): the numbers of annotated things (nil: nobody counted them) and of
-- true texts, and the picture's path; get(id): { image_id, image, objects, regions, facts }. What it holds of a large file are places in it, or
-- for COCO 40 bytes a box and the captions.
local coco = require "lucid.mine.coco"
local file = require "lucid.file"
local plain = require "lucid.mine.plain"
local vg = require "lucid.data.vg"

local M = {}

local Vg = {}
Vg.__index = Vg

local function open_vg(root, cache)
  local self = setmetatable({ files = {} }, Vg)
  self.annotations, self.ids, self.regions = vg.annotations(root, nil, cache)
  for _, name in ipairs { "image_data.json", "region_descriptions.json", "objects.json" } do
    if file.exists(root .. "/" .. name) then self.files[#self.files + 1] = root .. "/" .. name end
  end
  return self
end

--- How many objects and regions a picture has, and its file.
---@param id integer
---@return integer|nil, integer, string
function Vg:size(id)
  local a = self.annotations[id]
  return a.objects and #a.objects, #a.regions, a.path
end

--- All that is known of a picture.
---@param id integer
---@return table
function Vg:get(id)
  local a = self.annotations[id]
  return { image_id = id, image = a.path, objects = a.objects, regions = a.regions, facts = {} }
end

--- What the files hold that is passed over, so far: records without a region, regions without a word.
---@return table<string, integer>
function Vg:passed() return { records = self.regions.empty, regions = self.regions.blank } end

--- Whether options name COCO's annotations.
---@param opt table
---@return boolean
function M.is_coco(opt) return (opt.annotations or "") ~= "" and not opt.annotations:find "%.jsonl$" end

---@class lucid.MineSource
---@field ids integer[]
---@field files string[]            what it reads
---@field categories table[]|nil    for a noun table, where the files name the things that are annotated

--- Opens what the options name.
---@param opt table            images, annotations, captions
---@param cache string|nil     where indices of large files are kept
---@return lucid.MineSource
function M.open(opt, cache)
  if M.is_coco(opt) then return coco.open(opt.annotations, opt.images, opt.captions ~= "" and opt.captions or nil) end
  if (opt.annotations or "") ~= "" then return plain.open(opt.annotations, opt.images) end
  return open_vg(opt.images, cache)
end

return M
