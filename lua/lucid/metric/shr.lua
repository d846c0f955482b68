-- SHR, the sentence-level hallucination ratio: a judge labels every sentence of a description as
-- hallucination, correct or cannot judge; SHR is the share of hallucinations among the labelled
-- ones.
--
--   shr.judge(records, judge, { prompt = ... })   -- fills in record.sentences
--   local metrics = shr.score(records, { nouns = table })
--
-- A record: { image_id, response, regions, facts, objects }, what is annotated as far as it is
-- known.
local claims = require "lucid.claims"
local repetition = require "lucid.metric.repetition"
local sentences = require "lucid.sentences"
local statistics = require "lucid.statistics"

local M = { needs = "descriptions" }

local LABELS = { hallucination = true, correct = true, ["cannot judge"] = true }

-- ---- asking the judge ------------------------------------------------------------------------------

--- The request about one record. opt.prompt writes the text for judges that are language models.
---@return lucid.JudgeRequest
function M.request(record, opt)
  local request = { kind = "judge", image_id = record.image_id, regions = record.regions,
    facts = record.facts, objects = record.objects, sentences = sentences.split(record.response) }
  if opt and opt.prompt then request.text = opt.prompt(request) end
  return request
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return lines
end

--- The labels of a reply: after the line with "Judgement:", one line a sentence, "n. label:
--- reason".
---@param text string
---@return table[]|nil        { label, reason } each; nil when the reply has no judgement
function M.parse(text)
  local list, begun = {}, false
  for _, line in ipairs(lines_of(text)) do
    if begun then
      local rest = line:match("^[^ ]* (.*)$")
      rest = rest and rest:match("^%s*(.-)%s*$") or ""
      if rest ~= "" then
        local label, reason = rest:match("^([^:]*):?%s*(.*)$")
        list[#list + 1] = { label = label:lower(), reason = reason }
      end
    elseif line:find("Judgement:", 1, true) then
      begun = true
    end
  end
  return begun and list or nil
end

--- Labels every sentence of every record. Where a reply has not one label a sentence, the record's
--- sentences stay without labels.
---@param records table[]
---@param judge table        judge:ask(requests) -> replies
---@param opt table|nil      prompt: function(request) -> text
function M.judge(records, judge, opt)
  local requests = {}
  for i, record in ipairs(records) do requests[i] = M.request(record, opt) end
  for i, reply in ipairs(judge:ask(requests)) do
    local record, labels = records[i], M.parse(reply.text)
    record.judgement, record.sentences = reply.text, {}
    local fits = labels and #labels == #requests[i].sentences
    for k, sentence in ipairs(requests[i].sentences) do
      record.sentences[k] = { text = sentence .. ".", label = fits and labels[k].label or nil,
        reason = fits and labels[k].reason or nil }
    end
  end
  return records
end

-- ---- scoring ------------------------------------------------------------------------------------------

-- Words as the published scorer counts them: pieces between single spaces.
local function words(text)
  local _, spaces = text:gsub(" ", "")
  return spaces + 1
end

local function count(record)
  local c = { sentences = 0, words = 0, judged = 0, judged_words = 0, bad = 0, bad_words = 0 }
  for _, s in ipairs(record.sentences) do
    local w = words(s.text)
    c.sentences, c.words = c.sentences + 1, c.words + w
    if LABELS[s.label] then c.judged, c.judged_words = c.judged + 1, c.judged_words + w end
    if s.label == "hallucination" then c.bad, c.bad_words = c.bad + 1, c.bad_words + w end
  end
  return c
end

local METRICS = {
  shr = function(c) return c.bad, c.judged end,
  hallucinated_words_ratio = function(c) return c.bad_words, c.judged_words end,
  sentences_per_image = function(c) return c.sentences, 1 end,
  words_per_image = function(c) return c.words, 1 end,
  hallucinated_sentences_per_image = function(c) return c.bad, 1 end,
  hallucinated_words_per_image = function(c) return c.bad_words, 1 end,
}

--- Which annotated things a description mentions, and which there are: two numbers.
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

--- Scores judged records. With opt.judge they are judged first; with opt.nouns and annotated
--- objects the share of present things that are mentioned is object_recall.
---@param records table[]
---@param opt table|nil      judge, prompt, nouns
---@return table<string, table>
function M.score(records, opt)
  opt = opt or {}
  if opt.judge then M.judge(records, opt.judge, opt) end
  local counts, unjudged, recall = {}, 0, {}
  for i, record in ipairs(records) do
    if not record.sentences then
      error(("shr: record %d (image %s) is not judged"):format(i, tostring(record.image_id)), 2)
    end
    counts[i] = count(record)
    if counts[i].sentences > 0 and counts[i].judged == 0 then unjudged = unjudged + 1 end
    if opt.nouns and record.objects then recall[#recall + 1] = { M.mentioned(record, opt.nouns) } end
  end
  local metrics = repetition.score(records)
  for name, parts in pairs(METRICS) do
    local list = {}
    for i, c in ipairs(counts) do list[i] = { parts(c) } end
    metrics[name] = statistics.ratio(list, #records)
  end
  metrics.unjudged = { value = unjudged, n = #records }
  if #recall > 0 then metrics.object_recall = statistics.ratio(recall, #recall) end
  return metrics
end

return M
