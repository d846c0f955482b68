-- What CHAIR holds captions against: the things that COCO's instances mark in a picture and those that
-- its reference captions name, as names of a noun table.
local coco = require "lucid.data.coco"
local file = require "lucid.file"
local json = require "lucid.json"
local record = require "lucid.data.record"
local responses = require "lucid.data.responses"

local M = {}

-- The table's name of every category of a file.
local function names_of(pictures, nouns, path)
  local names = {}
  for _, p in ipairs(pictures) do
    for _, name in ipairs(p.names) do
      names[name] = names[name] or nouns:lookup(name)
        or error(("%s: the noun table has no word for category '%s' (--nouns)"):format(path, name), 0)
    end
  end
  return names
end

-- The reference captions of COCO's captions_*.json: image id -> list of texts.
local function captions_of(path)
  local by_id, number = {}, 0
  for value in json.each(path, "annotations") do
    number = number + 1
    local r = record.of(value, path, number, "annotation")
    local id = r:id("image_id")
    by_id[id] = by_id[id] or {}
    table.insert(by_id[id], r:answer("caption"))
  end
  return by_id
end

-- A list that takes each name once.
local function set()
  local list, known = {}, {}
  return list, function(name)
    if not known[name] then
      known[name] = true
      list[#list + 1] = name
    end
  end
end

--- The pictures of an annotation file: { image_id, image, truth }, in its order.
---@param path string            COCO's instances_*.json
---@param nouns table            the noun table
---@param captions string|nil    COCO's captions_*.json of the same pictures
---@return table[]
function M.read(path, nouns, captions)
  local pictures = coco.read(path, { crowds = true })
  local names, texts, list = names_of(pictures, nouns, path), captions and captions_of(captions) or {}, {}
  for i, p in ipairs(pictures) do
    local truth, add = set()
    for _, name in ipairs(p.names) do add(names[name]) end
    for _, text in ipairs(texts[p.image_id] or {}) do
      for _, m in ipairs((nouns:mentions(text))) do add(m.name) end
    end
    list[i] = { image_id = p.image_id, image = p.file_name, truth = truth }
  end
  return list
end

--- The records that a file of responses is about, in its order; a response about another picture is an error.
---@param path string
---@param pictures table[]       of M.read
---@param limit integer|nil      records; nil or 0: all
---@return table[]
function M.answered(path, pictures, limit)
  local by_id, list = {}, {}
  for _, p in ipairs(pictures) do by_id[p.image_id] = p end
  local texts, ids = responses.read(path)
  for i, id in ipairs(ids) do
    local p = by_id[id] or error(("%s: response %d is about picture %d, which is not annotated"):format(path, i, id), 0)
    p.response = texts[id]
    list[i] = p
    if i == limit then break end
  end
  if #list == 0 then error(path .. ": there are no responses in it", 0) end
  return list
end

--- Gives pictures their files under a root; a picture that is not there is an error.
---@param root string
---@param pictures table[]
function M.locate(root, pictures)
  for _, p in ipairs(pictures) do
    local path = root .. "/" .. p.image
    if not file.exists(path) then error(("chair: there is no picture %s"):format(path), 0) end
    p.image = path
  end
end

return M
