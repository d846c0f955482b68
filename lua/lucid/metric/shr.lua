-- SHR, the sentence-level hallucination ratio: a judge labels every sentence of a description as
-- hallucination, correct or cannot judge; SHR is the share of hallucinations among the labelled
-- ones.
--
--   shr.judge(records, judge, { prompt = ... })   -- fills in record.sentences
--   local metrics = shr.score(records, { nouns = table })
--
-- A record: { image_id, response, regions, facts, objects }, what is annotated as far as it is
-- known. Whatever is lost on the way is counted: descriptions whose prompt is too long, by opt.max_prompt
-- or for the judge (record.too_long), and other replies without a label for each sentence
-- (record.unparsed; of them those that the judge refused, record.refused). Their sentences stay
-- without labels; a sentence with a label that is none of the three counts as little, and with them.
local claims = require "lucid.claims"
local ratios = require "lucid.ratios"
local repetition = require "lucid.metric.repetition"
local sentences = require "lucid.sentences"
local whitespace = require "lucid.whitespace"

local M = { needs = "descriptions" }

--- The labels that count.
M.LABELS = { hallucination = true, correct = true, ["cannot judge"] = true }

--- The longest prompt, in characters, that the published program for LLaVA sends.
M.LONGEST_PROMPT = 15000

-- ---- asking the judge ------------------------------------------------------------------------------

--- The request about one record. opt.prompt writes the text for judges that are language models.
---@param record table
---@param opt table
---@return lucid.JudgeRequest
function M.request(record, opt)
  local request = { kind = "judge", image_id = record.image_id, regions = record.regions,
    facts = record.facts, objects = record.objects, sentences = sentences.split(record.response) }
  if opt and opt.prompt then request.text = opt.prompt(request) end
  return request
end

--- The labels of a reply: after the line with "Judgement:", one line a sentence, "n. label:
--- reason".
---@param text string
---@return table[]|nil        { label, reason, text } each; nil when the reply has no judgement
function M.parse(text)
  local list, begun = {}, false
  for line in text:gmatch("[^\n]+") do
    if begun then
      local rest = whitespace.trim(line:match("^[^ ]* (.*)$") or "")
      if rest ~= "" then
        local label, reason = rest:match("^([^:]*):?%s*(.*)$")
        list[#list + 1] = { label = label:lower(), reason = reason, text = rest }
      end
    elseif line:find("Judgement:", 1, true) then
      begun = true
    end
  end
  return begun and list or nil
end

-- The labels of a reply, when they are one for each of so many sentences.
local function fitting(text, count)
  local labels = text and M.parse(text)
  return labels and #labels == count and labels or nil
end

-- Whether a reply will do. The published programs take whatever holds the word, and lose those
-- sentences in silence if the count or a label is another.
local function acceptance(count, as_published)
  if as_published then return function(text) return text:find("Judgement", 1, true) ~= nil end end
  return function(text)
    local labels = fitting(text, count)
    for _, l in ipairs(labels or {}) do
      if not M.LABELS[l.label] then return false end
    end
    return labels ~= nil
  end
end

local function label(record, list, labels)
  record.sentences = {}
  for k, sentence in ipairs(list) do
    local l = labels and labels[k] or {}
    record.sentences[k] = { text = sentence .. ".", label = l.label, reason = l.reason, judgement = l.text }
  end
end

---@class lucid.ShrOptions
---@field prompt function|nil       request -> text
---@field max_prompt integer|nil    characters of the longest prompt that is sent; 0: any
---@field as_published boolean|nil  take replies as the published programs do

--- Labels every sentence of every record. A reply that has not one of the labels for each sentence is asked for again by
--- judges that can (request.accept); if their number stays another, the record's sentences stay without labels.
---@param records table[]
---@param judge table        judge:ask(requests) -> replies
---@param opt lucid.ShrOptions|nil
---@return table[]
function M.judge(records, judge, opt)
  opt = opt or {}
  local requests, asked = {}, {}
  for _, record in ipairs(records) do
    local request = M.request(record, opt)
    local length = request.text and whitespace.characters(request.text) or 0
    record.judgement, record.unparsed, record.refused, record.attempts = nil, nil, nil, nil
    record.prompt_length = length
    record.too_long = (opt.max_prompt or 0) > 0 and length > opt.max_prompt or nil
    if record.too_long or #request.sentences == 0 then       -- nothing to ask
      label(record, request.sentences)
    else
      request.accept = acceptance(#request.sentences, opt.as_published)
      requests[#requests + 1], asked[#asked + 1] = request, record
    end
  end
  for i, reply in ipairs(#requests > 0 and judge:ask(requests) or {}) do
    local record, list = asked[i], requests[i].sentences
    local labels = not reply.too_long and fitting(reply.text, #list) or nil
    record.judgement, record.too_long, record.refused, record.attempts =
      reply.text, reply.too_long, reply.refused, reply.attempts
    record.unparsed = not labels and not reply.too_long or nil
    label(record, list, labels)
  end
  return records
end

-- ---- scoring ------------------------------------------------------------------------------------------

-- Words as the published scorer counts them: pieces between single spaces.
local function words(text)
  local _, spaces = text:gsub(" ", "")
  return spaces + 1
end

--- The counts of a judged record, over all of its sentences, the labelled ones and the hallucinations.
---@param record table
---@return table
function M.count(record)
  local c = { texts = 1, sentences = 0, words = 0, judged = 0, judged_words = 0, bad = 0, bad_words = 0 }
  for _, s in ipairs(record.sentences) do
    local w = words(s.text)
    c.sentences, c.words = c.sentences + 1, c.words + w
    if M.LABELS[s.label] then c.judged, c.judged_words = c.judged + 1, c.judged_words + w end
    if s.label == "hallucination" then c.bad, c.bad_words = c.bad + 1, c.bad_words + w end
  end
  return c
end

local METRICS = {
  shr = function(c) return c.bad, c.judged end,
  hallucinated_words_ratio = function(c) return c.bad_words, c.judged_words end,
  sentences_per_image = function(c) return c.sentences, c.texts end,
  words_per_image = function(c) return c.words, c.texts end,
  hallucinated_sentences_per_image = function(c) return c.bad, c.texts end,
  hallucinated_words_per_image = function(c) return c.bad_words, c.texts end,
}

local RECALL = { object_recall = function(c) return c.hit, c.present end }

--- Which annotated things a description mentions, and which there are: two numbers.
---@param record table
---@param nouns table
---@return integer, integer
function M.mentioned(record, nouns)
  local facts = claims.facts({ objects = record.objects }, nouns)
  local said, hit = {}, 0
  for _, sentence in ipairs(sentences.split(record.response)) do
    for _, c in ipairs(claims.of(sentence, nouns)) do
      if not c.negated then said[c.name] = true end
    end
  end
  for _, name in ipairs(facts) do
    if said[name] then hit = hit + 1 end
  end
  return hit, #facts
end

-- What did not come to a label: as numbers of descriptions.
local LOST = {
  unjudged = function(record, c) return #record.sentences > 0 and c.judged == 0 end,
  unparsed = function(record) return record.unparsed end,
  refused = function(record) return record.refused end,
  asked_again = function(record) return (record.attempts or 1) > 1 end,
  too_long = function(record) return record.too_long end,
  prompts_over_15000 = function(record) return (record.prompt_length or 0) > M.LONGEST_PROMPT end,
}

--- Fails unless every record has been judged; the caller's name stands in front.
---@param records table[]
---@param name string
function M.need_judged(records, name)
  for i, record in ipairs(records) do
    if not record.sentences then
      error(("%s: record %d (image %s) is not judged"):format(name, i, tostring(record.image_id)), 3)
    end
  end
end

-- The counts of the records, added up where several are of one picture (several runs of a judge).
local function by_picture(records, counts)
  local list, place = {}, {}
  for i, record in ipairs(records) do
    local key = record.image_id or record.image or i
    if not place[key] then
      list[#list + 1] = {}
      place[key] = list[#list]
    end
    for name, n in pairs(counts[i]) do place[key][name] = (place[key][name] or 0) + n end
  end
  return list
end

--- Scores judged records. With opt.judge they are judged first; with opt.nouns and annotated
--- objects the share of present things that are mentioned is object_recall.
---@param records table[]
---@param opt table|nil      judge, nouns, bootstrap and seed of the intervals, and what M.judge takes
---@return table<string, table>
function M.score(records, opt)
  opt = opt or {}
  if opt.judge then M.judge(records, opt.judge, opt) end
  M.need_judged(records, "shr")
  local counts, recall = {}, {}
  for i, record in ipairs(records) do
    counts[i] = M.count(record)
    if opt.nouns and record.objects then
      local hit, present = M.mentioned(record, opt.nouns)
      recall[#recall + 1] = { hit = hit, present = present }
    end
  end
  local metrics = repetition.score(records, opt)
  local how = { n = #records, bootstrap = opt.bootstrap, seed = opt.seed }
  for name, m in pairs(ratios(by_picture(records, counts), METRICS, how)) do metrics[name] = m end
  for name, is_lost in pairs(LOST) do
    local n = 0
    for i, record in ipairs(records) do n = n + (is_lost(record, counts[i]) and 1 or 0) end
    metrics[name] = { value = n, n = #records }
  end
  local sentences_of, labelled = 0, 0
  for _, c in ipairs(counts) do sentences_of, labelled = sentences_of + c.sentences, labelled + c.judged end
  metrics.unlabelled_sentences = { value = sentences_of - labelled, n = sentences_of }
  if #recall > 0 then
    how.n = #recall
    metrics.object_recall = ratios(recall, RECALL, how).object_recall
  end
  return metrics
end

return M
