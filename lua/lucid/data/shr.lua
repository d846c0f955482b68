-- SHR's lists: val_images_final.json (which Visual Genome pictures are described) and
-- shr_factual_part1.jsonl, shr_factual_part2.jsonl (sentences that are true of them, one object of
-- one key a line; the second file overrides the first).
local file = require "lucid.file"
local json = require "lucid.json"
local vg = require "lucid.data.vg"

local M = {}

M.QUESTION = "Describe this image in detail."

--- The factual sentences of a file: id -> list.
function M.facts(path, into)
  into = into or {}
  local number = 0
  for line in file.read(path):gmatch("[^\r\n]+") do
    number = number + 1
    for key, sentences in pairs(json.decode(line, path)) do
      local id = tonumber(key)
      if not id or type(sentences) ~= "table" then
        error(("%s: record %d is not { \"image id\": [sentences] }"):format(path, number), 0)
      end
      into[id] = sentences
    end
  end
  return into
end

local function ids_of(path, limit)
  local ids = {}
  for record in json.each(path) do
    if #ids == limit then break end
    local id = type(record) == "table" and tonumber(record.image_id)
    if not id then error(("%s: record %d has no 'image_id'"):format(path, #ids + 1), 0) end
    ids[#ids + 1] = id
  end
  return ids
end

--- The records of the benchmark, in its order: { image_id, image, question, regions, objects, facts
--- }, with all that Visual Genome says of each picture. A picture that is not there stops the run.
---@param folder string      of the lists
---@param images string      Visual Genome's root
---@param opt table|nil      limit: pictures (0: all)
function M.read(folder, images, opt)
  local path = folder .. "/val_images_final.json"
  local ids = ids_of(path, (opt and opt.limit or 0) > 0 and opt.limit or math.huge)
  local facts = {}
  for _, part in ipairs { "shr_factual_part1.jsonl", "shr_factual_part2.jsonl" } do
    if file.exists(folder .. "/" .. part) then M.facts(folder .. "/" .. part, facts) end
  end
  local annotations, list = vg.annotations(images, ids), {}
  for i, id in ipairs(ids) do
    local a = annotations[id]
    if not file.exists(a.path) then
      error(("%s: image %d: there is no picture %s"):format(path, id, a.path), 0)
    end
    list[i] = { image_id = id, image = a.path, question = M.QUESTION, regions = a.regions,
      objects = a.objects, facts = facts[id] or {} }
  end
  return list
end

--- Answers that were made elsewhere: a JSON object of image id and text, or samples.jsonl of a run.
--- Every record must have one; it becomes record.response.
function M.answers(path, records)
  local texts = {}
  for value, key in json.each(path) do
    local record = type(value) == "table" and value or { image_id = key, response = value }
    if tonumber(record.image_id) then texts[tonumber(record.image_id)] = record.response end
  end
  for _, record in ipairs(records) do
    local text = texts[record.image_id]
    if type(text) ~= "string" then
      error(("%s: there is no text for image %d"):format(path, record.image_id), 0)
    end
    record.response = text
  end
  return records
end

return M
