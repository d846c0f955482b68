-- What the demo shows at its end: the numbers before and after, as a table and as a page.
local json = require "lucid.json"
local report = require "lucid.report"

local M = {}

local DESCRIPTION = { "shr", "object_recall", "sentences_per_image", "words_per_image" }
local POPE = { "accuracy", "precision", "recall", "f1", "yes_ratio" }

--- The numbers of an evaluation's folder: SHR's, and pope[set] of each question set; fractions.
---@param dir string      holds shr/results.json and pope/results.json
---@param sets string[]
---@return table
function M.read(dir, sets)
  local shr, pope = json.read(dir .. "/shr/results.json").shr, json.read(dir .. "/pope/results.json")
  local summary = { pope = {} }
  for _, name in ipairs(DESCRIPTION) do summary[name] = shr[name].value end
  for _, set in ipairs(sets) do
    summary.pope[set] = {}
    for _, name in ipairs(POPE) do summary.pope[set][name] = pope[set][name].value end
  end
  return summary
end

--- Preference training cannot teach a model to see: a base that does not is an error.
---@param before table
function M.check_base(before)
  local accuracy, recall = before.pope.random.accuracy, before.object_recall
  if accuracy < 0.85 or recall < 0.93 then
    error(("demo: the base model has not learnt to see: POPE random accuracy %.3f (0.85 is needed), object recall %.3f (0.93); another --seed may do"):format(
      accuracy, recall), 0)
  end
end

-- ---- the table ----------------------------------------------------------------------------------------

local function percent(x) return ("%.1f"):format(100 * x) end

local function pope_rows(columns, sets)
  local rows = {}
  for _, set in ipairs(sets) do
    for _, c in ipairs(columns) do
      local p = c.values.pope[set]
      rows[#rows + 1] = { set, c.name, percent(p.accuracy), percent(p.precision), percent(p.recall),
        percent(p.f1), percent(p.yes_ratio) }
    end
  end
  return { "POPE", "model", "accuracy", "precision", "recall", "F1", "yes" }, rows
end

local function shr_rows(columns)
  local rows = {}
  for i, c in ipairs(columns) do
    local v = c.values
    rows[i] = { c.name, percent(v.shr), percent(v.object_recall), ("%.2f"):format(v.sentences_per_image),
      ("%.1f"):format(v.words_per_image) }
  end
  return { "model", "SHR", "object recall", "sentences", "words" }, rows
end

local function columns_of(before, after, control)
  return { { name = "base", values = before }, { name = "HA-DPO", values = after },
    { name = "SFT control", values = control } }
end

local function table_lines(lines, heads, rows)
  local width = {}
  for i, h in ipairs(heads) do
    width[i] = #h
    for _, row in ipairs(rows) do width[i] = math.max(width[i], #row[i]) end
  end
  for _, row in ipairs { heads, unpack(rows) } do
    local cells = {}
    for i = 1, #heads do cells[i] = row[i] .. (" "):rep(width[i] - #row[i]) end
    lines[#lines + 1] = table.concat(cells, "  "):gsub("%s+$", "")
  end
end

--- Both tables as text: percentages; SHR is better when lower.
---@param before table
---@param after table
---@param control table
---@param sets string[]
---@return string
function M.text(before, after, control, sets)
  local columns, lines = columns_of(before, after, control), {}
  table_lines(lines, shr_rows(columns))
  lines[#lines + 1] = ""
  table_lines(lines, pope_rows(columns, sets))
  return table.concat(lines, "\n")
end

-- ---- the page -------------------------------------------------------------------------------------------

local RUNS = { "eval/before/shr", "eval/before/pope", "eval/after/shr", "eval/after/pope", "eval/control/shr",
  "eval/control/pope", "mined", "dpo", "control" }

--- Writes out/report.html.
---@param out string        the demo's folder
function M.page(out)
  local folders = {}
  for i, name in ipairs(RUNS) do folders[i] = out .. "/" .. name end
  report { title = "HA-DPO on a tiny world" }
    :note("A small LLaVA was trained on captions by an annotator who mentions what usually is there, described pictures "
      .. "in which it often is not, and was then trained by DPO on its own corrected mistakes. The control saw the same "
      .. "corrected answers by plain fine-tuning (sft). The pictures are those that neither training nor mining has seen.")
    :runs(folders, { pictures = 9 })
    :write(out .. "/report.html")
end

return M
