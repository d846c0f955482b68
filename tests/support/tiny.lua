-- A tiny LLaVA folder with new weights, made where a spec needs a whole model: the world's own
-- configuration, its tokenizer, and a few of its pictures.
local base = require "lucid.tinyworld.base"
local draw = require "lucid.tinyworld.draw"
local files = require "lucid.tinyworld.files"
local image = require "lucid.image"
local model = require "lucid.model"

local M = {}

--- A folder with a model of random weights; the opened model.
---@param dir string
---@param seed integer
function M.model(dir, seed)
  base.write(dir)
  local m = model.open(dir, { init = true, seed = seed })
  m:save(dir)
  return m
end

--- Paths of n pictures that are drawn into a folder.
function M.pictures(dir, n)
  local list = {}
  for i, scene in ipairs(files.scenes("eval", 7, n)) do
    list[i] = ("%s/%d.png"):format(dir, i)
    image.save(draw.picture(scene, 7, i), list[i])
  end
  return list
end

return M
