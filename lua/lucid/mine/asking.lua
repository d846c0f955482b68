-- Asking a judge: requests made from pictures, replies read or counted as lost. A reply that cannot be read is asked
-- for again, a bounded number of times: by the judge itself where it can (request.accept says what can be read).
local nouns = require "lucid.nouns"
local shr = require "lucid.metric.shr"

local M = {}

--- The options that a stage that asks a judge depends on, and others.
---@param others string     names between spaces
---@return string[]
function M.options(others)
  local list = { "judge", "judge-model", "judge-adapter", "judge-parameters", "base-url", "nouns" }
  for name in others:gmatch "%S+" do list[#list + 1] = name end
  return list
end

---@class lucid.MineRequest: lucid.JudgeRequest
---@field accept fun(text: string): boolean

-- What a prompt tells of a picture. Where nobody wrote regions the annotated things stand for them, and those without a
-- box are facts.
local function told(request)
  local r = {}
  for name, value in pairs(request) do r[name] = value end
  if #(r.regions or {}) > 0 then return r end
  local facts, known = {}, {}
  for i, fact in ipairs(r.facts or {}) do facts[i] = fact end
  r.regions, r.facts = {}, facts
  for _, o in ipairs(r.objects or {}) do
    local words = { unpack(o.attributes or {}) }
    words[#words + 1] = o.name
    local phrase = table.concat(words, " ")
    if o.box then
      table.insert(r.regions, { phrase = phrase, box = o.box })
    elseif not known[phrase] then
      known[phrase] = true
      facts[#facts + 1] = ("There is %s %s."):format(nouns.article(phrase), phrase)
    end
  end
  return r
end

--- A request about a picture.
---@param run lucid.Mining
---@param kind string          "correct", "rewrite", "questions", "judge"
---@param picture table        image_id, objects, regions, facts: as selected
---@param fields table         what else the request holds: sentences
---@return lucid.MineRequest
function M.request(run, kind, picture, fields)
  local r = { kind = kind, image_id = picture.image_id, objects = picture.objects, regions = picture.regions,
    facts = picture.facts }
  for name, value in pairs(fields) do r[name] = value end
  r.text = run:prompt(kind)(told(r))
  return r
end

-- What a reply is worth: what parse made of it, or nil and why.
local function value_of(reply, request, parse)
  local value = reply.text and not reply.refused and parse(reply.text, request)
  if value then return value end
  if reply.refused then return nil, "refused" end
  if reply.too_long then return nil, "too long to ask" end
  if reply.error then return nil, "the judge failed" end
  if reply.cut then return nil, "cut off" end
  return nil, "unparsable"
end

local function said(reply)
  local text = reply.error or type(reply.refused) == "string" and reply.refused or reply.text
  return text and tostring(text)
end

-- Whether asking again may help: a judge that knows of accept has done so itself.
local function may_try(reply, lost)
  return lost == "unparsable" and reply.accepted == nil
end

---@class lucid.MineAnswer
---@field value any             what parse made of the reply
---@field lost string|nil       why there is none: "refused", "unparsable", "cut off", "too long to ask", "the judge failed"
---@field reply string|nil      what the judge said, where it is lost
---@field tries integer         how often it was asked

--- Asks requests; an answer each, in their order.
---@param run lucid.Mining
---@param requests lucid.MineRequest[]
---@param parse fun(text: string, request: table): any
---@return lucid.MineAnswer[]
function M.ask(run, requests, parse)
  local judge, answers, left = run:judge(), {}, {}
  for i, r in ipairs(requests) do
    r.accept = function(text) return parse(text, r) ~= nil end
    left[i] = i
  end
  for try = 1, 1 + run.opt.judge_retries do
    if #left == 0 then break end
    local asked, again = {}, {}
    for k, i in ipairs(left) do
      asked[k] = requests[i]
      if try > 1 then asked[k].sample = try end            -- another request: no recording answers for it
    end
    for k, reply in ipairs(judge:ask(asked)) do
      local i = left[k]
      local value, lost = value_of(reply, requests[i], parse)
      answers[i] = { value = value, lost = lost, reply = lost and said(reply), tries = (reply.attempts or 1) + try - 1 }
      if may_try(reply, lost) then again[#again + 1] = i end
    end
    left = again
  end
  return answers
end

--- The line of a picture whose answer is lost.
---@param image_id integer|string
---@param answer lucid.MineAnswer
---@return table
function M.lost(image_id, answer)
  return { image_id = image_id, left_out = answer.lost, reply = answer.reply, tries = answer.tries }
end

-- ---- replies ----------------------------------------------------------------------------------------

--- A judgement: one known label for each of the request's sentences, or nil.
---@param text string
---@param request table
---@return table[]|nil labels    { label, reason }
function M.judgement(text, request)
  local labels = shr.parse(text)
  if not labels or #labels ~= #request.sentences then return nil end
  for _, l in ipairs(labels) do
    if not shr.LABELS[l.label] then return nil end
  end
  return labels
end

--- A correction: a judgement, and behind "Description:" the text as it should be; or nil.
---@param text string
---@param request table
---@return { labels: table[], description: string }|nil
function M.correction(text, request)
  local verdict, description = text:match("^(.-)\n%s*Description:%s*(.-)%s*$")
  local labels = verdict and M.judgement(verdict, request)
  return labels and { labels = labels, description = description }
end

--- A rewriting: as many numbered lines as versions were asked for; or nil.
---@param text string
---@param request table
---@return string[]|nil
function M.versions(text, request)
  local list = {}
  for line in text:gmatch("[^\n]+") do
    local version = line:match("^%s*%d+[.)]%s+(.-)%s*$")
    if version and version ~= "" and #list < request.variants then list[#list + 1] = version end
  end
  return #list == request.variants and list or nil
end

local OPPOSITE = { yes = "no", no = "yes" }

local function question_of(line)
  local question, answer, right, wrong = line:match("^%s*%d+[.)]%s+(.-%?)%s*|%s*(%a+)[.]?%s*|%s*(.-)%s*|%s*(.-)%s*$")
  answer = answer and answer:lower()
  if not OPPOSITE[answer] or right:match("^%a*"):lower() ~= answer or wrong:match("^%a*"):lower() ~= OPPOSITE[answer] then
    return nil
  end
  return { question = question, answer = answer, chosen = right, rejected = wrong }
end

--- Questions: lines "1. Is there a dog? | no | No, there is no dog. | Yes, there is a dog."; nil where no line is one.
---@param text string
---@return table[]|nil     { question, answer, chosen, rejected }
function M.questions(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do list[#list + 1] = question_of(line) end
  return #list > 0 and list or nil
end

return M
