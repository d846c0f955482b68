-- SHR's lists: val_images_final.json (which Visual Genome pictures are described) and
-- shr_factual_part1.jsonl, shr_factual_part2.jsonl (sentences that are true of them, one object of
-- one key a line; the second file overrides the first).
local file = require "lucid.file"
local json = require "lucid.json"
local record = require "lucid.data.record"
local vg = require "lucid.data.vg"

local M = {}

M.QUESTION = "Describe this image in detail."

--- The factual sentences of a file: id -> list. `into` may hold those of an earlier file, which these
--- override; within one file an id stands once.
function M.facts(path, into)
  into = into or {}
  local seen, number = {}, 0
  for value in json.each(path) do
    number = number + 1
    local r = record.of(value, path, number)
    local key = next(value)
    if key == nil or next(value, key) ~= nil then r:fail(" is not { \"image id\": [sentences] }") end
    local id = r:key(key, seen)
    -- There may be nothing to say of a picture.
    into[id] = #r:list(key) > 0 and r:texts(key) or {}
  end
  return into
end

local function ids_of(path, limit)
  local ids, seen = {}, {}
  for value in json.each(path) do
    if #ids == limit then break end
    local r = record.of(value, path, #ids + 1)
    local id = r:id("image_id")
    r:once(seen, id, "image_id")
    ids[#ids + 1] = id
  end
  if #ids == 0 then error(path .. ": there are no records in it", 0) end
  return ids
end

--- The records of the benchmark, in its order: { image_id, image, question, regions, objects, facts
--- }, with all that Visual Genome says of each picture. A picture that is not there stops the run.
---@param folder string      of the lists
---@param images string      Visual Genome's root
---@param opt table|nil      limit: pictures (0: all); cache: where indices are kept
function M.read(folder, images, opt)
  local path = folder .. "/val_images_final.json"
  local ids = ids_of(path, (opt and opt.limit or 0) > 0 and opt.limit or math.huge)
  local facts = {}
  for _, part in ipairs { "shr_factual_part1.jsonl", "shr_factual_part2.jsonl" } do
    if file.exists(folder .. "/" .. part) then M.facts(folder .. "/" .. part, facts) end
  end
  local annotations, list = vg.annotations(images, ids, opt and opt.cache), {}
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
---@return table[] records, integer unused    answers about other pictures
function M.answers(path, records)
  local texts, seen, unused = {}, {}, 0
  local wanted = {}
  for _, r in ipairs(records) do wanted[r.image_id] = true end
  local number = 0
  for value, key in json.each(path) do
    number = number + 1
    local named = type(key) == "string"
    local r = record.of(named and { [key] = value } or value, path, number)
    local id = named and r:key(key, seen) or r:id("image_id")
    if not named then r:once(seen, id, "image_id") end
    if wanted[id] then texts[id] = r:answer(named and key or "response") else unused = unused + 1 end
  end
  for _, r in ipairs(records) do
    r.response = texts[r.image_id] or error(("%s: there is no text for image %d"):format(path, r.image_id), 0)
  end
  return records, unused
end

return M
