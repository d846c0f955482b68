-- Stage 7: what is not good enough to train on stays behind, with the reason: corrections that the judge still finds
-- fault with, pairs that differ too much in length, that say the same, that are there already, and questions of
-- whichever answer there are too many of.
local asking = require "lucid.mine.asking"
local json = require "lucid.json"
local lines = require "lucid.mine.lines"
local rng = require "lucid.rng"
local sentences = require "lucid.sentences"

local M = {
  from = { "correct", "select", "rewrite", "check" },
  asks = true,
  options = asking.options "prompt-judge verify min-ratio max-ratio duplicates balance seed",
}

--- The words of a text.
---@param text string
---@return integer
function M.words(text)
  local _, n = text:gsub("%S+", "")
  return n
end

-- ---- questions -----------------------------------------------------------------------------------------

-- The questions of a picture, each once.
local function distinct(list, duplicates, drop)
  local kept, seen = json.array {}, {}
  for _, q in ipairs(list) do
    local known = seen[q.question] and not duplicates
    seen[q.question] = true
    if known then drop("question asked already") else kept[#kept + 1] = q end
  end
  return kept
end

local function place(seed, id, k) return rng(seed, ("mine:balance:%s:%d"):format(id, k)):uniform() end

--- Which questions go so that neither answer has more than a share of all: those of one answer whose random number is at
--- most a bound.
---@param path string          the checked questions
---@param opt table            balance, duplicates, seed
---@return string|nil answer, number|nil bound    nil: none go
function M.surplus(path, opt)
  local numbers = { yes = {}, no = {} }
  for r in lines.kept(path) do
    for k, q in ipairs(distinct(r.questions, opt.duplicates, function() end)) do
      table.insert(numbers[q.answer], place(opt.seed, r.image_id, k))
    end
  end
  local more, less = "yes", "no"
  if #numbers.no > #numbers.yes then more, less = less, more end
  local most = opt.balance < 1 and math.floor(#numbers[less] * opt.balance / (1 - opt.balance)) or math.huge
  local surplus = #numbers[more] - most
  if surplus <= 0 or #numbers[less] == 0 then return nil end
  table.sort(numbers[more])
  return more, numbers[more][surplus]
end

local function questions_of(run, r, drop)
  local kept = json.array {}
  for k, q in ipairs(distinct(r and r.questions or {}, run.opt.duplicates, drop)) do
    if q.answer == run.state.surplus and place(run.opt.seed, r.image_id, k) <= run.state.bound then
      drop("too many of this answer")
    else
      kept[#kept + 1] = q
    end
  end
  return kept
end

-- ---- descriptions ----------------------------------------------------------------------------------------

-- Requests that judge a picture's true texts again.
local function add_requests(run, requests, c, r)
  local picture, texts = run.state.find(c.image_id), {}
  if not r or run.opt.verify == "none" then return {} end
  texts[1] = sentences.split(c.corrected)
  for _, p in ipairs(run.opt.verify == "all" and r.pairs or {}) do
    for _, text in ipairs(p.chosen or {}) do texts[#texts + 1] = sentences.split(text) end
  end
  local asked, known = {}, {}
  for _, list in ipairs(texts) do
    local text = sentences.join(list)
    if not known[text] then
      known[text] = true
      requests[#requests + 1] = asking.request(run, "judge", picture, { sentences = list })
      asked[text] = #requests
    end
  end
  return asked
end

-- Why a text does not pass, or nil; asked: text -> its request.
local function verdict(list, asked, answers)
  local answer = answers[asked[sentences.join(list)]]
  if not answer then return nil end
  if answer.lost then return "correction not judged: " .. answer.lost end
  for _, l in ipairs(answer.value) do
    if l.label == "hallucination" then return "correction still wrong" end
  end
end

local function fits(chosen, rejected, opt)
  local ratio = M.words(chosen) / math.max(1, M.words(rejected))
  return ratio >= opt.min_ratio and ratio <= opt.max_ratio
end

-- Why one pair of texts does not pass, or nil.
local function fault(pair, chosen, rejected, seen, how)
  local opt = how.run.opt
  if chosen == rejected then return "both texts the same" end
  local key = chosen .. "\0" .. rejected
  if seen[key] and not opt.duplicates then return "pair of texts there already" end
  if pair.source ~= "omission" and not fits(chosen, rejected, opt) then return "length" end
  local wrong = opt.verify == "all" and verdict(sentences.split(chosen), how.asked, how.answers)
  if wrong then return wrong end
  seen[key] = true
end

-- The pairs of texts of a picture that pass.
local function descriptions_of(c, r, how, drop)
  local kept, seen = json.array {}, {}
  if not r then return kept end
  local wrong = verdict(sentences.split(c.corrected), how.asked, how.answers)
  for _, p in ipairs(r.pairs) do
    if p.lost then
      drop("not rewritten: " .. p.lost, how.run.opt.variants)
    elseif wrong then
      drop(wrong, #p.chosen)
    elseif p.source ~= "omission" and not fits(c.corrected, c.response, how.run.opt) then
      drop("length", #p.chosen)
    else
      local d = { source = p.source, chosen = json.array {}, rejected = json.array {} }
      for k = 1, math.min(#p.chosen, #p.rejected) do
        local reason = fault(p, p.chosen[k], p.rejected[k], seen, how)
        if reason then
          drop(reason)
        else
          table.insert(d.chosen, p.chosen[k])
          table.insert(d.rejected, p.rejected[k])
        end
      end
      if #d.chosen > 0 then kept[#kept + 1] = d end
    end
  end
  return kept
end

-- ---- the stage -------------------------------------------------------------------------------------------

--- What the stage keeps between its parts of the pictures.
---@param run lucid.Mining
---@return table
function M.begin(run)
  local surplus, bound = M.surplus(run:file "check", run.opt)
  return { find = lines.ahead(run:file "select"), rewritten = lines.beside(run:file "rewrite"),
    checked = lines.beside(run:file "check"), surplus = surplus, bound = bound }
end

--- The corrected pictures, each with its line of the stages after, where it has one.
---@param run lucid.Mining
---@return function
function M.each(run)
  local each, s = lines.kept(run:file "correct"), run.state
  return function()
    local c = each()
    if c then return { image_id = c.image_id, corrected = c, rewritten = s.rewritten(c.image_id), checked = s.checked(c.image_id) } end
    s.rewritten()
    s.checked()
  end
end

--- One line of each input, in the same order.
---@param run lucid.Mining
---@param inputs table[]
---@return table[]
function M.work(run, inputs)
  local requests, asked, list = {}, {}, {}
  for i, input in ipairs(inputs) do asked[i] = add_requests(run, requests, input.corrected, input.rewritten) end
  local answers = #requests > 0 and asking.ask(run, requests, asking.judgement) or {}
  for i, input in ipairs(inputs) do
    local dropped = {}
    local function drop(reason, n) dropped[reason] = (dropped[reason] or 0) + (n or 1) end
    list[i] = { image_id = input.image_id, dropped = dropped,
      descriptions = descriptions_of(input.corrected, input.rewritten, { run = run, asked = asked[i], answers = answers }, drop),
      questions = questions_of(run, input.checked, drop) }
    if #list[i].descriptions + #list[i].questions == 0 then list[i].left_out = "nothing passed" end
  end
  return list
end

return M
