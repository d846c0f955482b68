-- How published folders lay a model out beside its weights: which layout a folder has, where the picture
-- tower's own settings stand, and how LLaVA's config.json says what Hugging Face's does.
local file = require "lucid.file"
local json = require "lucid.json"

local M = {}

--- How the small files of a model are written. Transformers refuses a 1 where it declares a float.
M.STYLE = { indent = 2, floats = { initializer_factor = true } }

--- The kind of model that a config.json is of, as far as it tells; LLaVA's own program calls it llava_llama.
---@param config table
---@return string|nil
function M.kind(config)
  if config.model_type == "llava_llama" then return "llava" end
  return config.model_type
end

--- What a model's tower is read from: --vision, or the folder vision_tower in the model's own; nil: there is
--- no such part.
---@param dir string
---@param vision string|nil
---@return string|nil
function M.vision(dir, vision)
  if (vision or "") ~= "" then return vision end
  local own = dir .. "/vision_tower"
  return file.exists(own .. "/config.json") and own or nil
end

--- The folder of a tower that has files of its own: "" and nil are none.
---@param vision string|nil     the folder, or a file in it
---@return string|nil
function M.tower(vision)
  if (vision or "") == "" then return nil end
  return file.kind(vision) == "folder" and vision or vision:match("^(.*)/[^/]*$") or "."
end

local function read(path)
  return file.exists(path) and json.read_object(path) or nil
end

--- The tower's settings: a section of config.json, or CLIP's own file, whole or of its vision model.
---@param config table          of the model
---@param vision string|nil     what --vision names
---@return table
function M.vision_config(config, vision)
  if config.vision_config then return config.vision_config end
  local own = M.tower(vision) and read(M.tower(vision) .. "/config.json") or {}
  return own.vision_config or own
end

--- Whether the class token's row stays among the features.
---@param config table
---@return boolean
function M.keeps_class(config)
  return config.vision_feature_select_strategy == "full" or config.mm_vision_select_feature == "cls_patch"
end

-- BLIP-2's towers and CLIP's, where no file says more.
local function plain_processor(kind, size)
  local side = { height = size, width = size }
  if kind ~= "llava" then return { image_processor_type = "BlipImageProcessor", size = side } end
  return { size = size, crop_size = size }
end

--- What lucid.image.processor needs, and the file that says it: the model's, the tower's, or the usual.
--- LLaVA's own folder says in config.json what happens to a picture that is no square.
---@param dir string
---@param config table          config.json of dir
---@param kind string           "llava" ...
---@param size integer          side of the tower's input
---@param vision string|nil     what --vision names
---@return table, string
function M.processor(dir, config, kind, size, vision)
  local path = dir .. "/preprocessor_config.json"
  local own = read(path)
  if not own and M.tower(vision) then
    path = M.tower(vision) .. "/preprocessor_config.json"
    own = read(path)
  end
  if not own then
    if kind == "llava" and config.text_config then return nil end -- Hugging Face's folder is not whole
    own, path = plain_processor(kind, size), dir .. "/config.json"
  end
  local aspect = config.image_aspect_ratio
  if kind ~= "llava" or aspect == nil or aspect == json.null then return own, path end
  if aspect ~= "pad" and aspect ~= "square" then
    error(("%s/config.json: image_aspect_ratio is %s; pad or square is expected"):format(dir, json.encode(aspect)), 0)
  end
  local settings = {}
  for key, value in pairs(own) do settings[key] = value end
  settings.image_aspect_ratio = aspect
  return settings, path
end

--- The small files that say of a LLaVA with its tower in a folder of its own what one folder of the whole
--- has to say, by name.
---@param model lucid.Model
---@return table<string, table>
function M.beside(model)
  if model.kind ~= "llava" or not model.tower then return {} end
  local config = {}
  for key, value in pairs(model.config) do config[key] = value end
  config.model_type, config.vision_config = "llava", M.vision_config(config, model.tower)
  return { ["config.json"] = config,
    ["preprocessor_config.json"] = M.processor(model.dir, model.config, model.kind, model.size, model.tower) }
end

return M
