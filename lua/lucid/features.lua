-- What a tower saw, kept: features of picture files by their content, in memory and, where there is a cache folder,
-- on disk for other runs. They are taken before the bridge, so a trained projector stays exact.
--
-- vision/KEY/ in the cache folder: KEY is made of all that the rows depend on beside the picture.
local cache = require "lucid.cache"
local crop = require "lucid.crop"
local forest = require "lucid.forest"
local image = require "lucid.image"
local layout = require "lucid.layout"
local native = require "lucid.native"
local store = require "lucid.store"

local M = {}
local Features = {}
Features.__index = Features

local KEPT = 2 ^ 29                 -- bytes of one of the two generations in memory
M.MOST = 2 * KEPT                   -- bytes of both

--- All that a picture's rows depend on beside the picture: weights, layer, processor, numbers.
---@param model lucid.Model
---@return table
function M.settings(model)
  local weights = {}
  for _, p in ipairs(model:all_parameters()) do
    if p.part == "vision" then weights[p.name] = cache.tensor_hash(p.tensor) end
  end
  local config = model.config
  return { weights = weights, processor = model.processing, dtype = model.dtype, device = model.device:match("%a+"),
    kernels = native.version, tower = layout.vision_config(config, model.tower),
    layer = { config.vision_feature_layer or config.mm_vision_select_layer or "default",
      layout.keeps_class(config) } }
end

--- Features of one model's pictures; runs: how many files the tower has seen.
---@param model lucid.Model
---@param folder string|nil     the cache folder; nil: they are kept in memory alone
---@return table
function M.new(model, folder)
  return setmetatable({ model = model, folder = folder, young = {}, old = {}, bytes = 0, runs = 0 }, Features)
end

-- The store on disk, opened at first use: its key is a hash of the tower. nil: there is none.
local function disk(self)
  if self.folder and not self.store then
    self.store = store.open(("%s/vision/%s"):format(self.folder, cache.key(M.settings(self.model))))
  end
  return self.folder and self.store
end

-- A cache that cannot be written is no reason to stop.
local function without_disk(self, reason)
  io.stderr:write(("lucid: the features of pictures are not kept: %s\n"):format((reason:gsub("^[^:]+%.lua:%d+: ", ""))))
  self.folder, self.store = nil, nil
end

-- Two generations: when the young one is full the old one goes. What is used of the old one is young again.
local function remember(self, key, t)
  if self.bytes >= KEPT then self.old, self.young, self.bytes = self.young, {}, 0 end
  self.young[key] = t:keep()
  self.bytes = self.bytes + 4 * t:count()
  return t
end

-- The features under a key; pixels() reads the picture where they are not kept.
local function find(self, key, pixels)
  if self.young[key] then return self.young[key] end
  if self.old[key] then return remember(self, key, self.old[key]) end
  local kept = disk(self)
  local t = kept and kept:get(key)
  if t then return remember(self, key, t) end
  self.runs = self.runs + 1
  t = self.model:vision { pixels() }
  if kept then
    local ok, reason = pcall(kept.put, kept, key, t)
    if not ok then without_disk(self, reason) end
  end
  return remember(self, key, t)
end

--- The features [rows, width] of a picture file.
---@param path string
---@return lucid.Tensor
function Features:get(path)
  return find(self, image.hash(path), function() return self.reader and self.reader:take(path) or image.load(path) end)
end

--- The features of a picture file whose bytes are at hand.
---@param bytes string
---@param key string        their hash
---@return lucid.Tensor
function Features:of_bytes(bytes, key)
  return find(self, key, function() return image.decode(bytes, "the picture") end)
end

--- The features of a random part of a picture file. They stay in memory alone: most parts are seen once.
---@param seen table          { picture = path, crop = }
---@return lucid.Tensor
function Features:part(seen)
  if type(seen.picture) ~= "string" then error("features: a random crop is of a picture file", 2) end
  local key = forest.image_key { picture = seen.picture, crop = seen.crop }
  if self.young[key] then return self.young[key] end
  if self.old[key] then return remember(self, key, self.old[key]) end
  local side = self.model.size
  return remember(self, key, self.model:vision { crop.apply(image.load(seen.picture), seen.crop, side) })
end

--- Has picture files read ahead whose features are not kept: the next calls of get take them.
---@param paths string[]
function Features:ahead(paths)
  local wanted, seen = {}, {}
  for _, path in ipairs(paths) do
    if not seen[path] and not self:has(path) then wanted[#wanted + 1] = path end
    seen[path] = true
  end
  if #wanted < 2 then return end
  self.reader = self.reader or image.reader()
  self.reader:ask(wanted)
end

--- Whether a picture file's features are kept already.
---@param path string
---@return boolean
function Features:has(path)
  local key, kept = image.hash(path), disk(self)
  return self.young[key] ~= nil or self.old[key] ~= nil or (kept and kept:has(key)) or false
end

--- Writes to disk what waits.
function Features:sync()
  if not self.store then return end
  local ok, reason = pcall(self.store.sync, self.store)
  if not ok then without_disk(self, reason) end
end

--- Lets everything go, and looks nothing up on disk any more: the tower is another one.
function Features:forget()
  self.young, self.old, self.bytes, self.folder, self.store = {}, {}, 0, nil, nil
end

return M
