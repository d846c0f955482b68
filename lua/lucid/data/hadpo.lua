-- HA-DPO's preference files: desc_data.json (three chosen and three rejected descriptions a
-- picture) and pope_data.json (yes/no questions), in all their published forms.
--
--   local list, missing = hadpo.read { desc =, pope =, images = VG root, sampling = "offline", seed = 42 }
--   list[i] = { id, kind = "desc"|"pope", image_id, image, question, chosen, rejected }
local file = require "lucid.file"
local json = require "lucid.json"
local pyrandom = require "lucid.data.pyrandom"
local vg = require "lucid.data.vg"

local M = {}

--- The published instructions; their order matters for the draws.
M.INSTRUCTIONS = {
  "Describe this image in detail.",
  "Take a look at this image and describe what you notice.",
  "Please provide a detailed description of the picture.",
  "Could you describe the contents of this image for me?",
}

local function fail(path, number, what, ...)
  error(("%s: record %d %s"):format(path, number, what:format(...)), 0)
end

local function image_id(record, key, path, number)
  local id = record.image_id
  if id == nil and type(key) == "string" then id = key end
  if id == nil or id == json.null then fail(path, number, "has no 'image_id'") end
  local value = tonumber(id)
  if not value then fail(path, number, "has an image_id that is no number: '%s'", tostring(id)) end
  return value
end

local function text_of(record, names, path, number)
  for _, name in ipairs(names) do
    local v = record[name]
    if v ~= nil and v ~= json.null then
      if type(v) ~= "string" then fail(path, number, "has a '%s' that is no text", name) end
      return v
    end
  end
  fail(path, number, "has no '%s'", names[1])
end

local function texts_of(record, names, path, number)
  for _, name in ipairs(names) do
    local v = record[name]
    if v ~= nil and v ~= json.null then
      if type(v) ~= "table" or #v == 0 then
        fail(path, number, "has a '%s' that is no list of texts", name)
      end
      for _, t in ipairs(v) do
        if type(t) ~= "string" then fail(path, number, "has a '%s' that is no list of texts", name) end
      end
      return v
    end
  end
  fail(path, number, "has no '%s'", names[1])
end

--- The records of a description file, list or object: { image_id, chosen, rejected }.
function M.descriptions(path)
  local list = {}
  for record, key in json.each(path) do
    local number = #list + 1
    if type(record) ~= "table" then fail(path, number, "is no object") end
    list[number] = {
      image_id = image_id(record, key, path, number),
      chosen = texts_of(record, { "chosen" }, path, number),
      rejected = texts_of(record, { "rejected", "reject" }, path, number),
    }
  end
  return list
end

--- The records of a question file: { image_id, question, chosen, rejected, answer, correct }.
function M.questions(path)
  local list = {}
  for record, key in json.each(path) do
    local number = #list + 1
    if type(record) ~= "table" then fail(path, number, "is no object") end
    list[number] = {
      image_id = image_id(record, key, path, number),
      question = text_of(record, { "question" }, path, number),
      chosen = text_of(record, { "chosen" }, path, number),
      rejected = text_of(record, { "reject", "rejected" }, path, number),
      answer = type(record.answer) == "string" and record.answer:lower() or nil,
      correct = record.correct == true,
    }
  end
  return list
end

-- ---- sampling: which of the chosen meets which of the rejected ------------------------------------------

local SAMPLING = {}

-- One pair a record: draws of chosen, rejected and instruction in this order, as the reference
-- does.
function SAMPLING.offline(record, random)
  local c, r = random:choice(#record.chosen), random:choice(#record.rejected)
  return { { c, r, random:choice(#M.INSTRUCTIONS) } }
end

function SAMPLING.all(record, random)
  local list = {}
  for c = 1, #record.chosen do
    for r = 1, #record.rejected do list[#list + 1] = { c, r, random:choice(#M.INSTRUCTIONS) } end
  end
  return list
end

function SAMPLING.zip(record, random)
  local list = {}
  for i = 1, math.min(#record.chosen, #record.rejected) do
    list[i] = { i, i, random:choice(#M.INSTRUCTIONS) }
  end
  return list
end

local function description_pairs(opt, list)
  local sample = SAMPLING[opt.sampling or "offline"]
  if not sample then
    error(("sampling: '%s' is none of offline, all, zip"):format(tostring(opt.sampling)), 0)
  end
  local random = pyrandom(opt.seed or 42)
  for number, record in ipairs(M.descriptions(opt.desc)) do
    for k, draw in ipairs(sample(record, random)) do
      local chosen, rejected = record.chosen[draw[1]], record.rejected[draw[2]]
      if opt.strip_newlines then
        chosen, rejected = chosen:gsub("\n", ""), rejected:gsub("\n", "")
      end
      list[#list + 1] = { id = ("desc/%d/%d"):format(number, k), kind = "desc",
        image_id = record.image_id, question = M.INSTRUCTIONS[draw[3]], chosen = chosen,
        rejected = rejected }
    end
  end
end

local function question_pairs(opt, list)
  local skipped = 0
  for number, record in ipairs(M.questions(opt.pope)) do
    if record.correct and not opt.keep_correct then
      skipped = skipped + 1
    else
      list[#list + 1] = { id = ("pope/%d"):format(number), kind = "pope", image_id = record.image_id,
        question = record.question, chosen = record.chosen, rejected = record.rejected,
        answer = record.answer }
    end
  end
  return skipped
end

-- ---- pictures ---------------------------------------------------------------------------------------------

-- Gives every pair its picture. A pair without one stops the run, or is left out and counted.
local function attach_pictures(list, opt)
  local images = vg.images(opt.images)
  local there, kept, missing, told = {}, {}, 0, {}
  for _, p in ipairs(list) do
    local image = images[p.image_id]
    local path = image and image.path
    if there[p.image_id] == nil then
      there[p.image_id] = path ~= nil and file.exists(path)
      if not there[p.image_id] and #told < 5 then
        told[#told + 1] = ("%s, image %d (%s)"):format(p.id, p.image_id, path or "not in image_data.json")
      end
    end
    if there[p.image_id] then
      p.image = path
      kept[#kept + 1] = p
    else
      missing = missing + 1
    end
  end
  if missing > 0 and not opt.skip_missing then
    error(("%s: the pictures of %d of %d pairs are missing: %s%s. Get them, or leave those pairs out "
      .. "with --skip-missing"):format(opt.images, missing, #list, table.concat(told, "; "),
        missing > #told and "; ..." or ""), 0)
  end
  return kept, missing
end

---@class lucid.HadpoOptions
---@field desc string|nil          desc_data.json
---@field pope string|nil          pope_data.json
---@field images string            Visual Genome's root
---@field sampling string|nil      "offline" (one pair a record, drawn as the reference draws), "all", "zip"
---@field seed integer|nil         of the draws, default 42
---@field keep_correct boolean|nil questions that the model already answers right are trained on, too
---@field skip_missing boolean|nil pairs without a picture are left out
---@field strip_newlines boolean|nil   as for MiniGPT-4 and InstructBLIP
---@field limit integer|nil        pairs of each kind; 0 or nil: all

--- Reads pairs: the list, how many were left out for want of a picture, and the numbers of each
--- kind, with those left out because the model is right already under `correct`.
---@param opt lucid.HadpoOptions
---@return table[] list, integer missing, table counts
function M.read(opt)
  local counts = { desc = 0, pope = 0, correct = 0 }
  local list = {}
  if opt.desc then description_pairs(opt, list) end
  if opt.pope then counts.correct = question_pairs(opt, list) end
  if not opt.images then error("hadpo.read: needs images, Visual Genome's root", 2) end
  local there, missing = attach_pictures(list, opt)
  local kept, limit = {}, (opt.limit or 0) > 0 and opt.limit or math.huge
  for _, p in ipairs(there) do
    local n = counts[p.kind]
    if n < limit then
      counts[p.kind] = n + 1
      kept[#kept + 1] = p
    end
  end
  if #kept == 0 then
    error(("%s: there are no pairs to work on: %d without their picture, %d already answered right"):format(
      opt.desc or opt.pope, missing, counts.correct), 0)
  end
  return kept, missing, counts
end

--- Writes the two files in the published list forms.
---@param dir string
---@param descriptions table[]   { image_id, chosen, rejected }
---@param questions table[]      { image_id, question, answer, chosen, rejected, correct }
function M.write(dir, descriptions, questions)
  local desc, pope = json.array {}, json.array {}
  for i, r in ipairs(descriptions) do
    desc[i] = { image_id = ("%d"):format(r.image_id), chosen = r.chosen, rejected = r.rejected }
  end
  for i, r in ipairs(questions) do
    pope[i] = { image_id = ("%d"):format(r.image_id), question = r.question, answer = r.answer,
      chosen = r.chosen, reject = r.rejected, correct = r.correct }
  end
  json.write(dir .. "/desc_data.json", desc)
  json.write(dir .. "/pope_data.json", pope)
end

return M
