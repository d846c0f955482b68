-- Texts that a model wrote about pictures, in the forms that people keep them in:
--   an object            { "42": "A cat.", ... }
--   records              [ { "image_id": 42, "caption": "A cat." }, ... ], or JSON lines of them
--   SHR's judgement.json { "run1": { "42": { "model_response": "A cat.", ... }, ... } }
-- The id of a record is its image_id, id or question_id, or the number at the end of its picture's
-- file name; its text is its response, caption, text or answer.
local json = require "lucid.json"
local keys = require "lucid.keys"
local record = require "lucid.data.record"

local M = {}

--- The number at the end of a picture's file name, before its ending, or nil: COCO_val2014_000000000042.jpg
--- is 42.
---@param name any
---@return integer|nil
function M.picture_id(name)
  return type(name) == "string" and record.whole(name:match("(%d+)%.?%a*$")) or nil
end

-- The id of a record, and the key that it stands under.
local function id_of(r)
  local _, name = r:find("image_id", "id", "question_id")
  if not name then
    local picture, key = r:find("image", "file_name")
    local id = M.picture_id(picture)
    if id then return id, key end
  end
  return r:id(name or "image_id"), name
end

-- A run of judgement.json as { id, record }, by id; nil when a value is none.
local function run_of(value, path, number)
  if type(value) ~= "table" or value == json.null or record.is_list(value) or next(value) == nil then return nil end
  local list = {}
  for place, key in ipairs(keys(value)) do
    local id = record.whole(key)
    if not id or type(value[key]) ~= "table" then return nil end
    list[place] = { id = id, record = record.of(value[key], path, number, "run") }
  end
  table.sort(list, function(a, b) return a.id < b.id end)
  return list
end

--- The texts of a file.
---@param path string
---@return table<integer, string> texts, integer[] ids     in the file's order
function M.read(path)
  local texts, ids, seen, number = {}, {}, {}, 0
  local function add(id, text)
    texts[id], ids[#ids + 1] = text, id
  end
  for value, key in json.each(path) do
    number = number + 1
    local run = type(key) == "string" and not record.whole(key) and run_of(value, path, number)
    if run then
      for _, entry in ipairs(run) do          -- the runs judge the same texts
        if not texts[entry.id] then add(entry.id, entry.record:answer("model_response", "mode_response")) end
      end
    elseif type(key) == "string" then
      local r = record.of({ [key] = value }, path, number)
      add(r:key(key, seen), r:answer(key))
    else
      local r = record.of(value, path, number)
      local id, name = id_of(r)
      r:once(seen, id, name)
      add(id, r:answer("response", "caption", "text", "answer"))
    end
  end
  return texts, ids
end

--- Writes records' responses as an object, image id -> text.
---@param path string
---@param records table[]
function M.write(path, records)
  local texts = {}
  for _, r in ipairs(records) do texts[("%d"):format(r.image_id)] = r.response end
  json.write(path, texts, { indent = 2 })
end

return M
