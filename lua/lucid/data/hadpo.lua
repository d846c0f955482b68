-- HA-DPO's preference files: desc_data.json (three chosen and three rejected descriptions a
-- picture) and pope_data.json (yes/no questions), in all their published forms.
--
--   local list, missing = hadpo.read { desc =, pope =, images = VG root, sampling = "offline", seed = 42 }
--   list[i] = { id, kind = "desc"|"pope", image_id, image, question, chosen, rejected }
--   hadpo.read { model = "minigpt4", ... }: as that model was trained;  hadpo.epoch(list, "minigpt4"): its mix
local file = require "lucid.file"
local json = require "lucid.json"
local pyrandom = require "lucid.data.pyrandom"
local record = require "lucid.data.record"
local rng = require "lucid.rng"
local vg = require "lucid.data.vg"

local M = {}

--- The published instructions; their order matters for the draws.
M.INSTRUCTIONS = {
  "Describe this image in detail.",
  "Take a look at this image and describe what you notice.",
  "Please provide a detailed description of the picture.",
  "Could you describe the contents of this image for me?",
}

--- What the published training of a model does with these files.
---   order           the kinds an epoch's list is made of, before it is shuffled
---   keep_correct    questions that the model already answers right are trained on, too
---   strip_newlines  line ends are taken out of descriptions
---   redraw          a description's instruction is drawn anew in every epoch, not once with its texts
M.MODELS = {
  llava = { order = { "pope", "desc", "desc" } },
  minigpt4 = { order = { "desc", "pope" }, keep_correct = true, strip_newlines = true, redraw = true },
  instructblip = { order = { "desc", "pope", "pope" }, strip_newlines = true, redraw = true },
}

--- The row of MODELS with a name.
---@param name string
---@return table
function M.model(name)
  return M.MODELS[name] or error(("hadpo: '%s' is none of instructblip, llava, minigpt4"):format(tostring(name)), 0)
end

-- The records of a file: for r, key in records(path). It may have none: a model is also trained on one
-- kind of pairs alone.
local function records(path)
  local number, each = 0, json.each(path)
  return function()
    local value, key = each()
    if value == nil then return nil end
    number = number + 1
    return record.of(value, path, number), key
  end
end

-- In the object form the key is the picture's id; no two records have one key.
local function image_id(r, key, seen)
  if type(key) ~= "string" then return r:id("image_id") end
  local id = r:key(key, seen)
  if r:find("image_id") and r:id("image_id") ~= id then r:wrong("image_id", "is not its key, which is '%s'", key) end
  return id
end

--- The records of a description file, list or object: { image_id, chosen, rejected }.
---@param path string
---@return table
function M.descriptions(path)
  local list, seen = {}, {}
  for r, key in records(path) do
    list[r.number] = { image_id = image_id(r, key, seen), chosen = r:texts("chosen"),
      rejected = r:texts("rejected", "reject") }
  end
  return list
end

--- The records of a question file: { image_id, question, chosen, rejected, answer, correct }.
---@param path string
---@return table
function M.questions(path)
  local list, seen = {}, {}
  for r, key in records(path) do
    list[r.number] = {
      image_id = image_id(r, key, seen),
      question = r:text("question"), chosen = r:text("chosen"), rejected = r:text("reject", "rejected"),
      answer = r:find("answer") and r:text("answer"):lower() or nil,
      correct = r:truth("correct"),
    }
  end
  return list
end

-- ---- sampling: which of the chosen meets which of the rejected ------------------------------------------

local SAMPLING = {}

-- One pair a record. What is drawn between the draws of two records changes all that follow, so
-- `after` is called where the reference draws more than the two texts.
function SAMPLING.offline(r, random, after)
  local c = random:choice(#r.chosen)
  return { { c, random:choice(#r.rejected), after() } }
end

function SAMPLING.all(r, _, after)
  local list = {}
  for c = 1, #r.chosen do
    for k = 1, #r.rejected do list[#list + 1] = { c, k, after() } end
  end
  return list
end

function SAMPLING.zip(r, _, after)
  local list = {}
  for i = 1, math.min(#r.chosen, #r.rejected) do list[i] = { i, i, after() } end
  return list
end

--- The instruction under which a description pair is scored in an epoch; with opt.pairing
--- "independent" also another one, for the reference model, which in MiniGPT-4's training draws its own.
---@param pair table
---@param opt table     seed, epoch (from 0), pairing
---@return string question, string|nil reference_question
function M.instruction(pair, opt)
  local random = rng(opt.seed or 42, ("instruction:%s:%d"):format(pair.id, opt.epoch or 0))
  local question = random:pick(M.INSTRUCTIONS)
  return question, opt.pairing == "independent" and random:pick(M.INSTRUCTIONS) or nil
end

-- How a pair gets its instruction: drawn with its texts, once, or anew in every epoch.
local function check_pairing(opt, model)
  local pairing = opt.pairing or "shared"
  if pairing ~= "shared" and pairing ~= "independent" then
    error(("instruction pairing: '%s' is none of shared, independent"):format(tostring(pairing)), 0)
  end
  if pairing == "independent" and not model.redraw then
    error("instruction pairing: 'independent' is for models that draw an instruction in every epoch; "
      .. "this one draws it once with the texts", 0)
  end
end

local function description_pairs(opt, model, list, counts)
  local sample = SAMPLING[opt.sampling or "offline"]
  if not sample then
    error(("sampling: '%s' is none of offline, all, zip"):format(tostring(opt.sampling)), 0)
  end
  check_pairing(opt, model)
  local random = pyrandom(opt.seed or 42)
  local function after() return not model.redraw and random:choice(#M.INSTRUCTIONS) or nil end
  for number, r in ipairs(M.descriptions(opt.desc)) do
    if opt.sampling == "zip" then counts.unpaired = counts.unpaired + math.abs(#r.chosen - #r.rejected) end
    for k, draw in ipairs(sample(r, random, after)) do
      local pair = { id = ("desc/%d/%d"):format(number, k), kind = "desc", image_id = r.image_id,
        chosen = r.chosen[draw[1]], rejected = r.rejected[draw[2]], question = M.INSTRUCTIONS[draw[3]] }
      if not pair.question then pair.question, pair.reference_question = M.instruction(pair, opt) end
      if opt.strip_newlines or model.strip_newlines then
        pair.chosen, pair.rejected = pair.chosen:gsub("\n", ""), pair.rejected:gsub("\n", "")
      end
      list[#list + 1] = pair
    end
  end
end

local function question_pairs(opt, model, list, counts)
  for number, r in ipairs(M.questions(opt.pope)) do
    if r.correct and not (opt.keep_correct or model.keep_correct) then
      counts.correct = counts.correct + 1
    else
      list[#list + 1] = { id = ("pope/%d"):format(number), kind = "pope", image_id = r.image_id,
        question = r.question, chosen = r.chosen, rejected = r.rejected, answer = r.answer }
    end
  end
end

--- An epoch's list in the published order of kinds: those that a model sees twice stand twice in it,
--- as the same tables.
---@param list table[]      of read
---@param model string      a name of MODELS
---@return table[]
function M.epoch(list, model)
  local all = {}
  for _, kind in ipairs(M.model(model).order) do
    for _, p in ipairs(list) do
      if p.kind == kind then all[#all + 1] = p end
    end
  end
  return all
end

-- ---- pictures ---------------------------------------------------------------------------------------------

-- Where every picture is, by id: as Visual Genome's image_data.json says, or the file images.jsonl that mining writes
-- beside its pairs where the pictures are others.
local function pictures_of(opt)
  local beside = (opt.desc or opt.pope or ""):gsub("[^/]*$", "") .. "images.jsonl"
  if file.exists(opt.images .. "/image_data.json") or not file.exists(beside) then return (vg.images(opt.images)) end
  local by_id, seen = {}, {}
  for r in records(beside) do
    local id = r:id("image_id")
    r:once(seen, id, "image_id")
    by_id[id] = { path = opt.images .. "/" .. r:picture("image") }
  end
  return by_id
end

-- Gives every pair its picture. A pair without one stops the run, or is left out and counted.
local function attach_pictures(list, opt)
  local images = pictures_of(opt)
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
---@field model string|nil        "llava", "minigpt4", "instructblip": what MODELS says of it holds, too
---@field pairing string|nil      instruction of policy and reference: "shared" (default) or "independent"
---@field epoch integer|nil        whose instructions, for models that draw them in each; from 0
---@field keep_correct boolean|nil questions that the model already answers right are trained on, too
---@field skip_missing boolean|nil pairs without a picture are left out
---@field strip_newlines boolean|nil   line ends are taken out of descriptions
---@field limit integer|nil        pairs of each kind; 0 or nil: all

--- Reads pairs: the list (descriptions, then questions), how many were left out for want of a picture,
--- and the numbers of each kind; beside them what was left out: `correct` counts questions that the
--- model already answers right, `unpaired` texts without a partner under "zip".
---@param opt lucid.HadpoOptions
---@return table[] list, integer missing, table counts
function M.read(opt)
  local counts = { desc = 0, pope = 0, correct = 0, unpaired = 0 }
  local list, model = {}, opt.model and M.model(opt.model) or {}
  if opt.desc then description_pairs(opt, model, list, counts) end
  if opt.pope then question_pairs(opt, model, list, counts) end
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

return M
