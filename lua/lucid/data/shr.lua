-- SHR's lists: val_images_final.json (which Visual Genome pictures are described) and
-- shr_factual_part1.jsonl, shr_factual_part2.jsonl (sentences that are true of them, one object of
-- one key a line; the second file overrides the first).
local decimal = require "lucid.decimal"
local file = require "lucid.file"
local json = require "lucid.json"
local record = require "lucid.data.record"
local responses = require "lucid.data.responses"
local vg = require "lucid.data.vg"

local M = {}

M.QUESTION = "Describe this image in detail."

--- The factual sentences of a file: id -> list. `into` may hold those of an earlier file, which these
--- override; within one file an id stands once.
---@param path string
---@param into table
---@return table
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

--- The image ids of a list of pictures, in its order.
---@param path string
---@param limit integer|nil      so many at most
---@return integer[]
function M.ids(path, limit)
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
---@return table[]
function M.read(folder, images, opt)
  local path = folder .. "/val_images_final.json"
  local ids = M.ids(path, (opt and opt.limit or 0) > 0 and opt.limit or nil)
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

--- Answers that were made elsewhere (lucid.data.responses). Every record must have one; it becomes
--- record.response.
---@param path string
---@param records table[]
---@return table[] records, integer unused    answers about other pictures
function M.answers(path, records)
  local texts, ids = responses.read(path)
  for _, r in ipairs(records) do
    r.response = texts[r.image_id] or error(("%s: there is no text for image %d"):format(path, r.image_id), 0)
  end
  return records, #ids - #records
end

--- What samples.jsonl holds of judged records; a sentence without a label has null.
---@param records table[]
---@return table[]
function M.samples(records)
  local samples = {}
  for i, r in ipairs(records) do
    local sentences = json.array {}
    for k, s in ipairs(r.sentences or {}) do
      sentences[k] = { text = s.text, label = s.label or json.null, reason = s.reason }
    end
    samples[i] = { image_id = r.image_id, image = r.image, response = r.response, sentences = sentences,
      judgement = r.judgement, too_long = r.too_long, unparsed = r.unparsed, attempts = r.attempts }
  end
  return samples
end

-- ---- the published files ---------------------------------------------------------------------------------

-- The label that a sentence of judgement.json has: null where the reply was of no use.
local function labelled(r)
  local label = r:find("classification")
  if label ~= nil and type(label) ~= "string" then r:wrong("classification", "is no text") end
  return { text = r:answer("model_response"), label = label, judgement = r:find("judgement") }
end

--- The judged descriptions of a judgement.json: a list of runs { name, records }, the records as
--- lucid.metric.shr scores them, by image id.
---@param path string
---@return table[]
function M.judgements(path)
  local runs = {}
  for value, name in json.each(path) do
    local number = #runs + 1
    local run = record.of(value, path, number, "run")
    local list, seen = {}, {}
    for key, judged in pairs(run.value) do
      local id = record.whole(key) or run:fail(": its key is no image id: '%s'", key)
      local r = record.of(judged, path, id, "image", run)
      if seen[id] then run:fail(" has image %d twice", id) end
      seen[id] = true
      local sentences = {}
      for k, part in r:parts("judgement", "sentence") do sentences[k] = labelled(part) end
      list[#list + 1] = { image_id = id, response = r:answer("model_response", "mode_response"),
        judgement = r:find("raw_judgement"), sentences = sentences }
    end
    if #list == 0 then run:fail(" holds no image") end
    table.sort(list, function(a, b) return a.image_id < b.image_id end)
    runs[number] = { name = tostring(name), records = list }
  end
  if #runs == 0 then error(path .. ": there are no runs in it", 0) end
  return runs
end

--- Writes judgement.json and metrics.json as the published programs do.
---@param folder string
---@param runs table[]        { name, records, metrics }: metrics as lucid.metric.shr_published gives them
---@param opt table           key: how the response is called in judgement.json (the published scorer of
---                           responses made elsewhere says "mode_response"); more: further keys of metrics.json
function M.write(folder, runs, opt)
  local judgement, metrics, ratio = {}, {}, 0
  for name, value in pairs(opt.more or {}) do metrics[name] = value end
  for _, run in ipairs(runs) do
    judgement[run.name], metrics[run.name] = {}, {}
    for _, r in ipairs(run.records) do
      if not r.too_long then
        local list = json.array {}
        for k, s in ipairs(r.sentences) do
          list[k] = { model_response = s.text, judgement = s.judgement or json.null, classification = s.label or json.null }
        end
        judgement[run.name][("%d"):format(r.image_id)] = { raw_judgement = r.judgement or json.null,
          [opt.key] = r.response, judgement = list }
      end
    end
    for name, m in pairs(run.metrics) do
      local whole = name:find("^gram") or name == "mean_hal_ratio"
      local into = whole and metrics or metrics[run.name]
      into[name] = m.value
    end
    ratio = ratio + run.metrics.hal_sents_ratio.value
  end
  metrics.mean_hal_ratio = decimal.round(ratio / #runs, 3)
  json.write(folder .. "/judgement.json", judgement)
  json.write(folder .. "/metrics.json", metrics, { indent = 2 })
end

return M
