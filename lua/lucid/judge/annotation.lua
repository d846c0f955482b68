-- A judge that reads annotations instead of asking a language model: it knows the nouns of a table,
-- colours and places, and answers in the form that language models are asked for, so that what
-- reads one reads the other.
--
--   local judge = lucid.judge.annotation { nouns = "categories.json" }
--   local replies = judge:ask { { kind = "judge", sentences = {...}, regions = {...}, objects = {...} } }
local claims = require "lucid.claims"
local noun_table = require "lucid.nouns"
local sentences = require "lucid.sentences"

local M = {}
local Judge = {}
Judge.__index = Judge

---@class lucid.JudgeRequest
---@field kind string              "judge", "correct", "rewrite" or "ask"
---@field text string|nil          the prompt, for judges that are language models
---@field image_id any
---@field sentences string[]|nil   of the description, without full stops
---@field question string|nil      of "ask"
---@field variants integer|nil     of "rewrite", default 3
---@field complete boolean|nil     "correct" also adds the annotated things that were left out
---@field objects table[]|nil      { name, attributes, box }
---@field regions table[]|nil      { phrase, box }
---@field facts string[]|nil       sentences that are true

--- The judge.
---@param opt table    nouns: a noun table or its file
---@return table
function M.new(opt)
  local nouns = opt.nouns
  if type(nouns) == "string" then nouns = noun_table.read(nouns) end
  if not nouns then error("judge annotation: needs nouns, a table of nouns or its file (--nouns)", 2) end
  return setmetatable({ nouns = nouns }, Judge)
end

-- ---- judging ----------------------------------------------------------------------------------------

local REASON = {
  absent = function(c) return ("there is no %s"):format(c.name) end,
  present = function(c) return ("there is %s %s"):format(noun_table.article(c.name), c.name) end,
  colour = function(c) return ("the %s is not %s"):format(c.name, c.colour.name) end,
  place = function(c) return ("the %s is not at the %s"):format(c.name, c.place.name) end,
  again = function(c) return ("the %s was described before"):format(c.name) end,
}

-- Every sentence with its claims and the first fault found: { claims, fault, claim, instance }.
local function examine(self, list, facts)
  local said, findings = {}, {}
  for i, sentence in ipairs(list) do
    local found = { claims = claims.of(sentence, self.nouns) }
    for _, c in ipairs(found.claims) do
      if not found.fault then
        local fault, instance = claims.fault(c, facts)
        -- In a closed world a thing is described once; elsewhere a text may come back to it.
        if not fault and self.nouns.closed and not c.negated
          and (said[c.name] or 0) >= #facts[c.name] then
          fault = "again"
        end
        if fault then found.fault, found.claim, found.instance = fault, c, instance end
      end
    end
    for _, c in ipairs(found.claims) do said[c.name] = (said[c.name] or 0) + 1 end
    findings[i] = found
  end
  return findings
end

local function verdict(self, found)
  if found.fault then return "hallucination", REASON[found.fault](found.claim) end
  if #found.claims > 0 then return "correct", "it is annotated" end
  if self.nouns.closed then return "hallucination", "it names nothing that a picture can hold" end
  return "cannot judge", "it names nothing that is annotated"
end

local function judgement(self, findings)
  local lines, labels = { "Judgement:" }, {}
  for i, found in ipairs(findings) do
    local label, reason = verdict(self, found)
    labels[i] = label
    lines[#lines + 1] = ("%d. %s: %s"):format(i, label, reason)
  end
  return table.concat(lines, "\n"), labels
end

local answer = {}

function answer.judge(self, request)
  local facts = claims.facts(request, self.nouns)
  local text, labels = judgement(self, examine(self, request.sentences, facts))
  return { text = text, labels = labels }
end

-- ---- correcting ---------------------------------------------------------------------------------------

local FAULTS = 4          -- a sentence with more faults than this is dropped

-- Applies edits { first, last, text } to a sentence, from its end to its beginning.
local function edit(sentence, edits)
  table.sort(edits, function(a, b) return a.first > b.first end)
  for _, e in ipairs(edits) do
    sentence = sentence:sub(1, e.first - 1) .. e.text .. sentence:sub(e.last + 1)
  end
  return sentence
end

-- The attributes of a claim, set to an instance's; what is not known of it stays as it is said.
local function attribute_edits(claim, instance, edits)
  if claim.colour and instance.colour then
    edits[#edits + 1] = { first = claim.colour.first, last = claim.colour.last, text = instance.colour }
  end
  if claim.place and instance.box then
    edits[#edits + 1] = { first = claim.place.first, last = claim.place.last,
      text = claims.quarter(instance.box) }
  end
end

-- The same sentence about another thing: the noun with its article, and its attributes.
local function about(sentence, claim, name, instance)
  local edits = { { first = claim.first, last = claim.last, text = name } }
  local at, article, space = sentence:sub(1, claim.first - 1):match("()(%a+)(%s+)$")
  if article and (article:lower() == "a" or article:lower() == "an") then
    local fitting = noun_table.article(name)
    if article:find("^A") then fitting = "A" .. fitting:sub(2) end
    edits[1] = { first = at, last = claim.last, text = fitting .. space .. name }
  end
  attribute_edits(claim, instance, edits)
  return edit(sentence, edits)
end

-- Present things that no sentence names, in the order of the annotations.
local function unmentioned(findings, facts)
  local said, list = {}, {}
  for _, found in ipairs(findings) do
    for _, c in ipairs(found.claims) do said[c.name] = true end
  end
  for _, name in ipairs(facts) do
    if not said[name] then list[#list + 1] = name end
  end
  return list
end

-- A sentence without its fault, or nil where nothing true can be said in its place.
local function corrected(sentence, found, facts, spare)
  if found.fault == "colour" or found.fault == "place" then
    local edits = {}
    attribute_edits(found.claim, found.instance, edits)
    return edit(sentence, edits)
  end
  if (found.fault == "absent" or found.fault == "again") and #spare > 0 then
    local name = table.remove(spare, 1)
    return about(sentence, found.claim, name, facts[name][1])
  end
end

-- Adds sentences about spare things, worded after the last kept sentence that names one thing,
-- where the annotations' order puts them.
local function complete(self, kept, facts, spare)
  local model, claim
  local place = {}                     -- name -> its place among the annotations
  for i, name in ipairs(facts) do place[name] = i end
  for _, sentence in ipairs(kept) do
    local list = claims.of(sentence, self.nouns)
    if #list == 1 and not list[1].negated then model, claim = sentence, list[1] end
  end
  for _, name in ipairs(model and spare or {}) do
    local at = #kept + 1
    for i = #kept, 1, -1 do
      local first = claims.of(kept[i], self.nouns)[1]
      if first and (place[first.name] or 0) > place[name] then at = i end
    end
    table.insert(kept, at, about(model, claim, name, facts[name][1]))
  end
end

function answer.correct(self, request)
  local facts = claims.facts(request, self.nouns)
  local findings = examine(self, request.sentences, facts)
  local text, labels = judgement(self, findings)
  local spare, kept = unmentioned(findings, facts), {}
  for i, sentence in ipairs(request.sentences) do
    local tries = FAULTS
    local found = findings[i]
    local meaningless = labels[i] == "hallucination" and not found.fault
    while sentence and found.fault and tries > 0 do
      sentence = corrected(sentence, found, facts, spare)
      -- By itself: whether it repeats another sentence was decided above.
      found = sentence and examine(self, { sentence }, facts)[1]
      tries = tries - 1
    end
    if sentence and not meaningless and not found.fault then kept[#kept + 1] = sentence end
  end
  if request.complete then complete(self, kept, facts, spare) end
  return { text = text .. "\nDescription:\n" .. sentences.join(kept), labels = labels }
end

-- ---- rewriting -----------------------------------------------------------------------------------------

-- Forms that say the same of a thing at a place in a colour: { pattern, writer }.
local FORMS = {
  { "^There is an? (.-) at the (%a+ %a+) in (%a+)$", function(name, place, colour)
    return ("There is %s %s at the %s in %s"):format(noun_table.article(name), name, place, colour)
  end },
  { "^The (.-) at the (%a+ %a+) is (%a+)$", function(name, place, colour)
    return ("The %s at the %s is %s"):format(name, place, colour)
  end },
}

local function reworded(sentence, form)
  for _, f in ipairs(FORMS) do
    local name, place, colour = sentence:match(f[1])
    if name then return form[2](name, place, colour) end
  end
  return sentence
end

-- Variant k of any text is in form k, so what is written of two texts never differs in form; beyond
-- the forms the text stays as it is.
function answer.rewrite(_, request)
  local lines = {}
  for k = 1, request.variants or 3 do
    local form, list = FORMS[k], {}
    for i, sentence in ipairs(request.sentences) do
      list[i] = form and reworded(sentence, form) or sentence
    end
    lines[k] = ("%d. %s"):format(k, sentences.join(list))
  end
  return { text = table.concat(lines, "\n") }
end

-- ---- answering --------------------------------------------------------------------------------------------

function answer.ask(self, request)
  local facts = claims.facts(request, self.nouns)
  local claim = claims.of(request.question, self.nouns)[1]
  if not claim then return { text = "I do not know." } end
  if claims.fault(claim, facts) then return { text = ("No, there is no %s."):format(claim.name) } end
  return { text = ("Yes, there is %s %s."):format(noun_table.article(claim.name), claim.name) }
end

--- Answers requests, in their order.
---@param requests lucid.JudgeRequest[]
---@return table[] replies    { text, labels }
function Judge:ask(requests)
  local replies = {}
  for i, request in ipairs(requests) do
    local f = answer[request.kind]
    if not f then
      error(("judge annotation: request %d is of kind '%s'"):format(i, tostring(request.kind)), 2)
    end
    local need = request.kind == "ask" and "question" or "sentences"
    if not request[need] then
      error(("judge annotation: request %d (%s) has no %s"):format(i, request.kind, need), 2)
    end
    replies[i] = f(self, request)
  end
  return replies
end

return setmetatable(M, { __call = function(_, opt) return M.new(opt) end })
