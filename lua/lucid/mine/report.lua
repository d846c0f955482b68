-- What became of every picture and every text, counted from the stages' files.
local json = require "lucid.json"
local keys = require "lucid.keys"
local lines = require "lucid.mine.lines"
local stage = require "lucid.mine.stage"
local gate = require "lucid.mine.gate"

local M = {}

local NAMES = { "select", "describe", "correct", "rewrite", "questions", "check", "gate" }

-- Length statistics that grow: words of texts.
local function lengths() return { texts = 0, sum = 0, min = math.huge, max = 0 } end

local function add(l, text)
  local n = gate.words(text)
  l.texts, l.sum, l.min, l.max = l.texts + 1, l.sum + n, math.min(l.min, n), math.max(l.max, n)
end

local function settled(l)
  if l.texts == 0 then return { texts = 0 } end
  return { texts = l.texts, mean = l.sum / l.texts, min = l.min, max = l.max }
end

local function raise(counts, name, n) counts[name] = (counts[name] or 0) + (n or 1) end

-- Records of a stage, and by reason those that are left out; how often a judge was asked again.
local function of_stage(path)
  local s = { records = 0, left_out = {}, asked_again = 0 }
  for r in lines.each(path) do
    s.records = s.records + 1
    if r.left_out then raise(s.left_out, r.left_out) end
    s.asked_again = s.asked_again + math.max(0, (r.tries or 1) - 1)
  end
  return s
end

local function of_gate(path)
  local counts = { pictures = 0, corrected = 0, omission = 0, dropped = {} }
  local chosen, rejected = lengths(), lengths()
  local q = { all = 0, yes = 0, no = 0, answered_right = 0, trained_on = { yes = 0, no = 0 } }
  for r in lines.each(path) do
    for reason, n in pairs(r.dropped or {}) do raise(counts.dropped, reason, n) end
    if not r.left_out then counts.pictures = counts.pictures + 1 end
    for _, d in ipairs(not r.left_out and r.descriptions or {}) do
      raise(counts, d.source)
      for k = 1, #d.chosen do
        add(chosen, d.chosen[k])
        add(rejected, d.rejected[k])
      end
    end
    for _, question in ipairs(not r.left_out and r.questions or {}) do
      raise(q, "all")
      raise(q, question.answer)
      if question.correct then raise(q, "answered_right") else raise(q.trained_on, question.answer) end
    end
  end
  counts.chosen_words, counts.rejected_words = settled(chosen), settled(rejected)
  return counts, q
end

--- All numbers of a run whose stages are whole.
---@param run lucid.Mining
---@return table
function M.of(run)
  local numbers = { stages = {}, selection = stage.stamp(run, "select").facts }
  for _, name in ipairs(NAMES) do
    numbers.stages[name] = of_stage(run:file(name))
  end
  numbers.descriptions, numbers.questions = of_gate(run:file "gate")
  numbers.questions.asked = stage.stamp(run, "check").settings["--check"]
  return numbers
end

local function reasons(counts)
  local list = {}
  for _, name in ipairs(keys(counts)) do list[#list + 1] = ("%d %s"):format(counts[name], name) end
  return #list > 0 and table.concat(list, ", ") or "none"
end

local function words(l) return l.texts > 0 and ("%.1f words (%d to %d)"):format(l.mean, l.min, l.max) or "no words" end

--- The numbers as text.
---@param numbers table
---@return string
function M.text(numbers)
  local list = {}
  local function say(...) list[#list + 1] = string.format(...) end
  local d, q = numbers.descriptions, numbers.questions
  say("pictures: %d, passed over: %s", numbers.selection.pictures, reasons(numbers.selection.passed_over))
  for _, name in ipairs(NAMES) do
    local s = numbers.stages[name]
    say("%-10s %d, left out: %s%s", name, s.records, reasons(s.left_out),
      s.asked_again > 0 and (", asked again: %d"):format(s.asked_again) or "")
  end
  say("dropped by the gate: %s", reasons(d.dropped))
  say("description pairs: %d corrected, %d omissions; chosen %s, rejected %s", d.corrected, d.omission, words(d.chosen_words),
    words(d.rejected_words))
  say("questions: %d (%d yes, %d no), answered right by the model: %s; left to train on: %d yes, %d no", q.all, q.yes, q.no,
    q.asked and q.answered_right or "not asked", q.trained_on.yes, q.trained_on.no)
  say("files in the form of %s: %d records in desc_data.json, %d in pope_data.json", numbers.form, numbers.records.desc,
    numbers.records.pope)
  return table.concat(list, "\n")
end

--- Why nothing was mined, in one line; nil: something was.
---@param numbers table
---@param out string
---@return string|nil
function M.fault(numbers, out)
  if numbers.records.desc + numbers.records.pope > 0 then return nil end
  local list = {}
  for _, name in ipairs(NAMES) do
    local left_out = numbers.stages[name].left_out
    if next(left_out) then list[#list + 1] = ("%s left out %s"):format(name, reasons(left_out)) end
  end
  if next(numbers.descriptions.dropped) then list[#list + 1] = "the gate dropped " .. reasons(numbers.descriptions.dropped) end
  return ("%s: nothing was mined from %d pictures: %s; what was said is in %s/stages, and --from STAGE makes a stage anew"):format(out,
    numbers.stages.select.records, table.concat(list, "; "), out)
end

--- Reads the report of a run.
---@param out string
---@return table
function M.read(out) return json.read_object(out .. "/report.json") end

return M
