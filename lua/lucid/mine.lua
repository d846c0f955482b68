-- Mining: from a model's own descriptions of annotated pictures to hallucination-aware preference
-- data.
--
--   describe   the model describes pictures                                  (the recipe's work)
--   correct    a judge finds what is made up and repairs it                  mine.descriptions
--   rewrite    it writes the right and the wrong text in the same styles     mine.descriptions
--   ask        facts become yes/no questions with a right and a wrong answer mine.questions
--   check      the model answers them: those it gets right are marked        mine.check
--
-- A record is { image_id, response, objects, regions, facts }.
local claims = require "lucid.claims"
local data_pope = require "lucid.data.pope"
local hadpo = require "lucid.data.hadpo"
local nouns_of = require "lucid.nouns"
local pope = require "lucid.metric.pope"
local progress = require "lucid.progress"
local rng = require "lucid.rng"
local sentences = require "lucid.sentences"
local shr = require "lucid.metric.shr"
local vg = require "lucid.data.vg"

local M = {}

-- ---- choosing pictures ------------------------------------------------------------------------------

---@class lucid.MineSelection
---@field min_objects integer|nil   annotated things (or regions, without objects), default 1
---@field max_objects integer|nil   default 100
---@field limit integer|nil         pictures; 0 or nil: all
---@field seed integer|nil
---@field cache string|nil          where indices of the annotations are kept

--- Pictures that are annotated neither too little nor too much, in random order.
---@param annotations table<integer, table>   of lucid.data.vg.annotations
---@param ids integer[]
---@param opt lucid.MineSelection
---@return integer[]
function M.select(annotations, ids, opt)
  local kept = {}
  for _, id in ipairs(ids) do
    local a = annotations[id]
    local n = a.objects and #a.objects or #a.regions
    if n >= (opt.min_objects or 1) and n <= (opt.max_objects or 100) then kept[#kept + 1] = id end
  end
  rng(opt.seed or 0, "mine:select"):shuffle(kept)
  local limit = (opt.limit or 0) > 0 and opt.limit or #kept
  for i = #kept, limit + 1, -1 do kept[i] = nil end
  return kept
end

-- ---- correcting and rewriting --------------------------------------------------------------------------

local function request(kind, record, list, opt)
  local r = { kind = kind, image_id = record.image_id, objects = record.objects,
    regions = record.regions, facts = record.facts, sentences = list, variants = opt.variants,
    complete = opt.complete or nil }
  local prompt = opt.prompts and opt.prompts[kind]
  if prompt then r.text = prompt(r) end
  return r
end

--- A correction reply: the labels of the sentences and the corrected description, or nil.
function M.parse_correction(text)
  local verdict, description = text:match("^(.-)\n%s*Description:%s*(.-)%s*$")
  local labels = verdict and shr.parse(verdict)
  if not labels then return nil end
  return labels, description
end

--- A rewriting reply: the versions in their order.
function M.parse_versions(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do
    local version = line:match("^%s*%d+[.)]%s+(.-)%s*$")
    if version and version ~= "" then list[#list + 1] = version end
  end
  return list
end

local function words(text)
  local _, n = text:gsub("%S+", "")
  return n
end

local function present_names(record, nouns)
  local list = {}
  for _, name in ipairs(claims.facts(record, nouns)) do list[#list + 1] = name end
  return list
end

--- The records of a Visual Genome root that are fit for mining: { image_id, image, objects, regions,
--- facts }.
---@param root string
---@param opt lucid.MineSelection
---@return table[] records, table passed     `records` without a region and `regions` without a word, passed over
function M.records(root, opt)
  local annotations, ids, regions = vg.annotations(root, nil, opt.cache)
  local list = {}
  local chosen = M.select(annotations, ids, opt)
  -- Counted over all pictures, before the chosen ones are read a second time.
  local passed = { records = regions.empty, regions = regions.blank }
  for i, id in ipairs(chosen) do
    local a = annotations[id]
    list[i] = { image_id = id, image = a.path, objects = a.objects, regions = a.regions, facts = {} }
  end
  return list, passed
end

--- The things in every picture of a root: a list of { names }, for counting what occurs beside what.
---@param root string
---@param nouns table
---@param cache string|nil     where indices of the annotations are kept
function M.contents(root, nouns, cache)
  local annotations, ids = vg.annotations(root, nil, cache)
  local list = {}
  for i, id in ipairs(ids) do list[i] = { names = present_names(annotations[id], nouns) } end
  return list
end

--- Lets the model describe every record's picture; its text becomes record.response.
---@param model table
---@param records table[]
---@param opt table        batch, seed, quiet; generate: lucid.GenerateOptions; instructions: one of the published four, drawn
function M.describe(model, records, opt)
  local requests = {}
  for i, r in ipairs(records) do
    local question = r.question or hadpo.INSTRUCTIONS[1]
    if opt.instructions then
      question = hadpo.INSTRUCTIONS[rng(opt.seed or 0, "mine:ask:" .. r.image_id):integer(#hadpo.INSTRUCTIONS)]
    end
    requests[i] = { image = r.image, prompt = question }
  end
  local bar = progress { total = #records, label = "describe", unit = "pictures", quiet = opt.quiet }
  local before = 0
  local settings = { batch = opt.batch, seed = opt.seed, progress = function(done)
    bar:step(done, { count = done - before })
    before = done
  end }
  for name, value in pairs(opt.generate or {}) do settings[name] = value end
  local answers = model:generate_all(requests, settings)
  bar:done()
  for i, r in ipairs(records) do r.response = answers[i].text end
end

-- How often each thing was made up, over all records.
local function count_made_up(records)
  local counts = {}
  for _, record in ipairs(records) do
    for _, name in ipairs(record.made_up or {}) do counts[name] = (counts[name] or 0) + 1 end
  end
  return counts
end

-- Asks for corrections; gives records their verdict, their corrected description and what they made
-- up.
local function correct(records, judge, opt)
  local requests = {}
  for i, record in ipairs(records) do
    requests[i] = request("correct", record, sentences.split(record.response), opt)
  end
  for i, reply in ipairs(judge:ask(requests)) do
    local record, list = records[i], requests[i].sentences
    local labels, description = M.parse_correction(reply.text)
    record.corrected, record.made_up, record.faults = nil, {}, 0
    if labels and #labels == #list then
      record.corrected = description
      local facts = opt.nouns and claims.facts(record, opt.nouns)
      for k, sentence in ipairs(list) do
        if labels[k].label == "hallucination" then
          record.faults = record.faults + 1
          for _, c in ipairs(facts and claims.of(sentence, opt.nouns) or {}) do
            if claims.fault(c, facts) == "absent" then table.insert(record.made_up, c.name) end
          end
        end
      end
    end
  end
end

-- True descriptions without some of their sentences, at most count of them, each without others:
-- sentences that name what is made up most elsewhere go first, for these are the ones that training
-- tempts a model to leave out.
local function shortened(record, made_up, count, opt)
  local list = sentences.split(record.corrected)
  local random = rng(opt.seed or 0, "mine:omit:" .. record.image_id)
  local ranked = {}
  for i, sentence in ipairs(list) do
    local weight = 0
    for _, c in ipairs(opt.nouns and claims.of(sentence, opt.nouns) or {}) do
      weight = math.max(weight, made_up[c.name] or 0)
    end
    ranked[i] = { i = i, weight = weight * (opt.omit_habit or 1) + random:uniform() }
  end
  table.sort(ranked, function(a, b) return a.weight > b.weight end)
  local each = math.min(opt.omit or 1, #list - 1)
  local versions = {}
  for from = 1, each > 0 and #list - each + 1 or 0, each do
    if #versions == count then break end
    local dropped, kept = {}, {}
    for k = from, from + each - 1 do dropped[ranked[k].i] = true end
    for i, sentence in ipairs(list) do
      if not dropped[i] then kept[#kept + 1] = sentence end
    end
    versions[#versions + 1] = kept
  end
  return versions
end

-- Pairs of texts before rewriting: { record, chosen, rejected } as lists of sentences.
local function drafts(records, opt, report)
  local made_up = count_made_up(records)
  local list = {}
  for _, record in ipairs(records) do
    local corrected = record.corrected
    if not corrected then
      report.unjudged = report.unjudged + 1
    elseif corrected == "" then
      report.nothing_left = report.nothing_left + 1
    else
      local ratio = words(corrected) / math.max(1, words(record.response))
      if record.faults == 0 then
        report.without_fault = report.without_fault + 1
      elseif ratio < (opt.min_length or 0) or ratio > (opt.max_length or 2) then
        report.length = report.length + 1
      else
        list[#list + 1] = { record = record, source = "corrected", chosen = sentences.split(corrected),
          rejected = sentences.split(record.response) }
      end
      local random = rng(opt.seed or 0, "mine:omission:" .. record.image_id)
      local count = math.floor((opt.omission or 0) + random:uniform())
      for _, rejected in ipairs(shortened(record, made_up, count, opt)) do
        list[#list + 1] = { record = record, source = "omission",
          chosen = sentences.split(corrected), rejected = rejected }
      end
    end
  end
  return list
end

-- Leaves out drafts whose chosen text the judge still finds fault with.
local function verified(list, judge, opt, report)
  if opt.verify == false then return list end
  local requests, kept = {}, {}
  for i, d in ipairs(list) do requests[i] = request("judge", d.record, d.chosen, opt) end
  for i, reply in ipairs(judge:ask(requests)) do
    local fine = true
    for _, l in ipairs(shr.parse(reply.text) or { { label = "hallucination" } }) do
      fine = fine and l.label ~= "hallucination"
    end
    if fine then kept[#kept + 1] = list[i] else report.still_wrong = report.still_wrong + 1 end
  end
  return kept
end

local function distinct_versions(chosen, rejected, count)
  local c, r = {}, {}
  for k = 1, math.min(count, #chosen, #rejected) do
    if chosen[k] ~= rejected[k] then c[#c + 1], r[#r + 1] = chosen[k], rejected[k] end
  end
  return c, r
end

---@class lucid.MineOptions
---@field nouns table|nil          the noun table: what was made up is counted with it
---@field prompts table|nil        { judge, correct, rewrite }: functions from a request to its text
---@field variants integer|nil     texts of each side, default 3
---@field complete boolean|nil     corrections also add the things that were left out
---@field min_length number|nil    words of a correction / of the description: at least, default 0
---@field max_length number|nil    at most, default 2
---@field verify boolean|nil       judge corrections again, default true
---@field omission number|nil      pairs a picture whose rejected text leaves out something that is there,
---  default 0; 0.5: of every second picture. It is what keeps the model from saying less
---@field omit integer|nil         sentences left out of it, default 1
---@field omit_habit number|nil    0: any sentence; 1 (default): things that are made up elsewhere first
---@field seed integer|nil

--- Description pairs: the records of desc_data.json, and a report of what became of every picture.
--- The records get `corrected`, `faults` and `made_up` (names), which questions are made from.
---@param records table[]
---@param judge table
---@param opt lucid.MineOptions
---@return table[] descriptions, table report
function M.descriptions(records, judge, opt)
  opt.variants = opt.variants or 3
  local report = { pictures = #records, unjudged = 0, nothing_left = 0, without_fault = 0, length = 0,
    still_wrong = 0, same = 0, corrected = 0, omission = 0 }
  correct(records, judge, opt)
  local list = verified(drafts(records, opt, report), judge, opt, report)
  local requests = {}
  for _, d in ipairs(list) do
    requests[#requests + 1] = request("rewrite", d.record, d.chosen, opt)
    requests[#requests + 1] = request("rewrite", d.record, d.rejected, opt)
  end
  local replies = judge:ask(requests)
  local out, chosen_words, rejected_words, texts = {}, 0, 0, 0
  for i, d in ipairs(list) do
    local chosen, rejected = distinct_versions(M.parse_versions(replies[2 * i - 1].text),
      M.parse_versions(replies[2 * i].text), opt.variants)
    if #chosen == 0 then
      report.same = report.same + 1
    else
      report[d.source] = report[d.source] + 1
      out[#out + 1] = { image_id = d.record.image_id, chosen = chosen, rejected = rejected }
      for k = 1, #chosen do
        chosen_words, rejected_words = chosen_words + words(chosen[k]), rejected_words + words(rejected[k])
        texts = texts + 1
      end
    end
  end
  report.chosen_words = texts > 0 and chosen_words / texts or 0
  report.rejected_words = texts > 0 and rejected_words / texts or 0
  return out, report
end

-- ---- questions -------------------------------------------------------------------------------------------

-- Absent things, most tempting first: what this picture's description made up, then by how often a
-- thing occurs beside one that is there.
local function tempting(record, present, statistics)
  local taken, score, list = {}, {}, {}
  for _, name in ipairs(present) do taken[name] = true end
  for _, name in ipairs(record.made_up or {}) do
    if not taken[name] then score[name] = 2 end
  end
  for _, name in ipairs(statistics.names) do
    if not taken[name] then
      local s = score[name] or 0
      for _, p in ipairs(present) do
        local together = statistics.together[p] and statistics.together[p][name] or 0
        local alone = statistics.counts[p] or 0
        if alone > 0 then s = math.max(s, together / alone) end
      end
      score[name] = s
      list[#list + 1] = name
    end
  end
  local rank = {}
  for i, name in ipairs(statistics.names) do rank[name] = i end
  table.sort(list, function(a, b)
    if score[a] ~= score[b] then return score[a] > score[b] end
    return rank[a] < rank[b]
  end)
  return list
end

-- How often things occur, alone and beside each other.
local function count_things(pictures, nouns)
  local names, counts = data_pope.frequencies(pictures)
  local together = {}
  for _, p in ipairs(pictures) do
    for _, a in ipairs(p.names) do
      together[a] = together[a] or {}
      for _, b in ipairs(p.names) do together[a][b] = (together[a][b] or 0) + 1 end
    end
  end
  for _, name in ipairs(nouns.names) do                     -- what never occurs can be asked for, too
    if not counts[name] then names[#names + 1] = name end
  end
  return { names = names, counts = counts, together = together }
end

local function question(record, name, yes)
  local article = nouns_of.article(name)
  local there, missing = ("Yes, there is %s %s."):format(article, name), ("No, there is no %s."):format(name)
  return {
    image_id = record.image_id,
    question = ("Is there %s %s in the image?"):format(article, name),
    answer = yes and "yes" or "no",
    chosen = yes and there or missing,
    rejected = yes and missing or there,
    correct = false,
  }
end

---@class lucid.QuestionOptions
---@field nouns table                the noun table
---@field present integer|nil        questions a picture about what is there, default 2
---@field absent integer|nil         and about what is not, default 2
---@field statistics table[]|nil     pictures { names } in which co-occurrence is counted; default: the records
---@field seed integer|nil

--- Yes/no questions of every picture: some things that are there, and the most tempting that are
--- not.
---@param records table[]
---@param opt lucid.QuestionOptions
---@return table[] questions, table report
function M.questions(records, opt)
  local pictures = {}
  for i, record in ipairs(records) do pictures[i] = { names = present_names(record, opt.nouns) } end
  local statistics = count_things(opt.statistics or pictures, opt.nouns)
  local list, report = {}, { yes = 0, no = 0 }
  for i, record in ipairs(records) do
    local absent = tempting(record, pictures[i].names, statistics)
    local present = rng(opt.seed or 0, "mine:questions:" .. record.image_id):shuffle(pictures[i].names)
    for k = 1, math.min(opt.present or 2, #present) do
      list[#list + 1], report.yes = question(record, present[k], true), report.yes + 1
    end
    for k = 1, math.min(opt.absent or 2, #absent) do
      list[#list + 1], report.no = question(record, absent[k], false), report.no + 1
    end
  end
  return list, report
end

--- The self-check: marks the questions that the model already answers right, by POPE's own reading.
---@param questions table[]
---@param answers string[]      the model's, in the same order
---@return integer right        how many it answers right
function M.check(questions, answers)
  local right = 0
  for i, q in ipairs(questions) do
    q.correct = pope.official(answers[i]) == q.answer
    if q.correct then right = right + 1 end
  end
  return right
end

return M
