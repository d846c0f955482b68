-- The paper's tables: SHR and the three POPE sets, each model with and without HA-DPO, what is published beside it; the
-- counts behind POPE's figures; and whatever else runs have measured.
local html = require "lucid.report.html"
local keys = require "lucid.keys"
local pope = require "lucid.metric.pope"
local published = require "lucid.report.published"
local source = require "lucid.report.source"
local statistics = require "lucid.statistics"

local M = {}

local function value(task, name)
  local m = task[name]
  return type(m) == "table" and type(m.value) == "number" and m.value or nil
end

-- How many a metric is of; nil where it does not say.
local function size(task, name)
  local m = task[name]
  return type(m) == "table" and type(m.n) == "number" and m.n or nil
end

local function stderr(task, name)
  local m = task[name]
  return type(m) == "table" and type(m.stderr) == "number" and m.stderr or nil
end

-- A measured cell, times a scale; its error keeps its place also where there is none. What had nothing to divide by is no
-- figure: a 0 would be the best SHR of all.
local function cell(task, name, scale, digits)
  local v, e = value(task, name), stderr(task, name)
  if not v then return "" end
  if task[name].undefined then return { "–", err = "" } end
  local format = ("%%.%df"):format(digits)
  return { format:format(v * scale), err = e and ("±" .. format:format(e * scale)) or "", number = v }
end

-- Marks a column's best cells among rows of one model, where not all are alike.
local function mark_best(rows, column, lower)
  local cells, least, most = {}, math.huge, -math.huge
  for _, row in ipairs(rows) do
    if type(row[column]) == "table" and row[column].number then cells[#cells + 1] = row[column] end
  end
  for _, c in ipairs(cells) do least, most = math.min(least, c.number), math.max(most, c.number) end
  for _, c in ipairs(cells) do c.best = least < most and c.number == (lower and least or most) end
end

-- Rows of runs by model, in order: { who, rows }; rows_of(run) gives one row or nil.
local function groups(runs, row_of)
  local list, last = {}, nil
  for _, run in ipairs(source.by_model(runs)) do
    local row = row_of(run)
    if row then
      if not last or last.who ~= run.who then
        last = { who = run.who, model = run.model, rows = {} }
        list[#list + 1] = last
      end
      table.insert(last.rows, row)
    end
  end
  return list
end

-- A model's name in its row, and what tells the row from the model's others.
local function named(run)
  return { run.model ~= "" and run.model or run.label, note = run.apart }
end

local function shown_published(opt, who) return opt.published and published.of(who) or nil end

-- Whether a metric is a count wherever it stands.
local function is_count(items, metric)
  for _, item in ipairs(items) do
    local v = value(item.task, metric)
    if v and v ~= math.floor(v) or stderr(item.task, metric) then return false end
  end
  return true
end

-- A table, with a title or none: a row a metric, but for those that are known, and a column an item: { name, task }.
local function beside(page, title, items, known)
  local heads, rows, names = { "" }, {}, {}
  for i, item in ipairs(items) do
    heads[i + 1] = item.name
    for _, metric in ipairs(source.metrics(item.task)) do
      if not known[metric] then names[metric] = true end
    end
  end
  for k, metric in ipairs(keys(names)) do
    rows[k] = { (metric:gsub("_", " ")) }
    local digits = is_count(items, metric) and 0 or 4
    for i, item in ipairs(items) do rows[k][i + 1] = cell(item.task, metric, 1, digits) end
  end
  if #rows == 0 then return end
  if title then page:subheading(title) end
  page:table(heads, rows)
end

-- ---- SHR ------------------------------------------------------------------------------------------------

local function shr_of(run)
  if run.tasks.shr and value(run.tasks.shr, "shr") then return run.tasks.shr end
  for _, name in ipairs(keys(run.tasks)) do
    if value(run.tasks[name], "shr") then return run.tasks[name] end
  end
end

local SHR = { { "shr", "SHR", 100, 2, true }, { "hallucinated_words_ratio", "of words", 100, 2, true },
  { "object_recall", "object recall", 100, 2 }, { "sentences_per_image", "sentences", 1, 2 },
  { "words_per_image", "words", 1, 1 } }

local IN_TABLE = { unjudged = true }
for _, c in ipairs(SHR) do IN_TABLE[c[1]] = true end

--- The table of descriptions.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
---@param opt table           published: whether to show the paper's figures
function M.shr(page, runs, opt)
  local list = groups(runs, function(run)
    local task = shr_of(run)
    if not task then return nil end
    local row = { named(run), run.method }
    for _, c in ipairs(SHR) do row[#row + 1] = cell(task, c[1], c[3], c[4]) end
    row[#row + 1] = value(task, "unjudged") or ""
    row[#row + 1] = size(task, "shr") or ""
    return row
  end)
  if #list == 0 then return end
  local rows, noted = {}, false
  for _, group in ipairs(list) do
    for i, c in ipairs(SHR) do
      if c[5] or c[1] == "object_recall" then mark_best(group.rows, i + 2, c[5]) end
    end
    for _, row in ipairs(group.rows) do rows[#rows + 1] = row end
    local known = shown_published(opt, group.who)
    if known then
      noted = true
      for i, mark in ipairs { "–", "✓" } do
        rows[#rows + 1] = { { known.name, note = "published" }, mark, { ("%.1f"):format(known.shr[i]), err = "" },
          published = true }
      end
    end
  end
  local heads = { "model", "HA-DPO" }
  for _, c in ipairs(SHR) do heads[#heads + 1] = c[2] end
  heads[#heads + 1], heads[#heads + 2] = "unjudged", "pictures"
  page:heading("Descriptions: SHR")
  page:note("SHR: the share of judged sentences, in percent, that say what is not in the picture; lower is better, and "
    .. "the best of a model is bold. It falls also when a model says less: read it beside sentences, words and recall."
    .. (noted and " Published: the HA-DPO paper's figures." or ""))
  page:table(heads, rows)
  local items = {}
  for _, run in ipairs(source.by_model(runs)) do
    items[#items + 1] = shr_of(run) and { name = run.name, task = shr_of(run) } or nil
  end
  beside(page, "Further numbers of the descriptions", items, IN_TABLE)
end

-- ---- POPE -----------------------------------------------------------------------------------------------

local POPE = { { "accuracy", "accuracy" }, { "precision", "precision" }, { "recall", "recall" }, { "f1", "F1" },
  { "yes_ratio", "yes ratio" } }
local FIRST = { random = 1, popular = 2, adversarial = 3 }

local function is_pope(run, task)
  return (run.command == nil or run.command == "pope") and value(task, "accuracy") and value(task, "yes_ratio")
end

-- The sets that runs have answered, the paper's three first.
local function sets_of(runs)
  local seen = {}
  for _, run in ipairs(runs) do
    for name, task in pairs(run.tasks) do
      if is_pope(run, task) then seen[name] = true end
    end
  end
  local list = keys(seen)
  table.sort(list, function(a, b)
    if (FIRST[a] or 9) ~= (FIRST[b] or 9) then return (FIRST[a] or 9) < (FIRST[b] or 9) end
    return a < b
  end)
  return list
end

local function pope_rows(runs, set, opt)
  local list = groups(runs, function(run)
    local task = run.tasks[set]
    if not task or not is_pope(run, task) then return nil end
    local row = { named(run), run.method }
    for _, c in ipairs(POPE) do row[#row + 1] = cell(task, c[1], 100, 2) end
    row[#row + 1] = size(task, "accuracy") or ""
    return row
  end)
  local rows, noted = {}, false
  for _, group in ipairs(list) do
    for i, c in ipairs(POPE) do
      if c[1] ~= "yes_ratio" then mark_best(group.rows, i + 2) end
    end
    for _, row in ipairs(group.rows) do rows[#rows + 1] = row end
    local known = shown_published(opt, group.who)
    for i, counts in ipairs(known and known.pope[set] or {}) do
      local figures = published.figures(counts)
      local row = { { known.name, note = "published" }, i == 1 and "–" or "✓", published = true }
      for _, c in ipairs(POPE) do row[#row + 1] = { figures[c[1]], err = "" } end
      rows[#rows + 1], noted = row, true
    end
  end
  return rows, noted
end

-- One run's answers to one set: what was said of what is there, how often yes was said and should have been.
local function confusion(run, set, task)
  local tp, fp, tn, fn = value(task, "tp"), value(task, "fp"), value(task, "tn"), value(task, "fn")
  local n = tp and fp and tn and fn and size(task, "accuracy") or 0
  if n == 0 then return nil end
  local said, labelled = 100 * (tp + fp) / n, 100 * (tp + fn) / n
  local function counted(count)
    return ('<td class="n" style="background:color-mix(in srgb, var(--c1) %d%%, transparent)">%d</td>'):format(
      45 * count / n, count)
  end
  local out = { ('<div class="card"><h4>%s, %s</h4><table><thead><tr><td></td>'):format(html.escape(run.name),
    html.escape(set)) }
  for _, head in ipairs { "said yes", "said no" } do
    out[#out + 1] = ('<th scope="col" class="n">%s</th>'):format(head)
  end
  out[#out + 1] = "</tr></thead><tbody>"
  for _, row in ipairs { { "is there", tp, fn }, { "is not", fp, tn } } do
    out[#out + 1] = ('<tr><th scope="row">%s</th>%s%s</tr>'):format(row[1], counted(row[2]), counted(row[3]))
  end
  out[#out + 1] = ("</tbody></table><p>yes %.1f %%, of the labels %.1f %%</p>"):format(said, labelled)
  out[#out + 1] = ('<div class="bar" aria-hidden="true"><i style="width:%.1f%%"></i><b style="left:%.1f%%"></b></div>')
    :format(said, labelled)
  local strict, unclear = value(task, "strict_accuracy"), value(task, "unclear")
  if strict then
    out[#out + 1] = ("<p>read strictly: accuracy %.2f, %d unclear</p>"):format(100 * strict, unclear or 0)
  end
  out[#out + 1] = "</div>"
  return table.concat(out)
end

-- Whether a run's answers are right, by set and question: its number, picture and text, for sets of one name may differ.
local function right_answers(run)
  local right = {}
  for s in source.samples(run) do
    if type(s.answer) == "string" and type(s.label) == "string" and s.set and s.question_id then
      local question = ("%s\n%s\n%s"):format(tostring(s.question_id), tostring(s.image), tostring(s.text))
      right[s.set] = right[s.set] or {}
      right[s.set][question] = (pope.official(s.answer) == "no") == (s.label:lower() == "no")
    end
  end
  return right
end

-- How many questions of both are right in both, only before, only after, in neither, and how likely chance is to tell
-- them apart so far; nil where they have none in common.
local function compared(before, after)
  local both, lost, won, neither = 0, 0, 0, 0
  for question, was in pairs(before) do
    local is = after[question]
    if is ~= nil then
      if was and is then both = both + 1
      elseif was then lost = lost + 1
      elseif is then won = won + 1
      else neither = neither + 1 end
    end
  end
  if both + lost + won + neither == 0 then return nil end
  return { both, lost, won, neither, ("%.4f"):format((statistics.mcnemar(won, lost))) }
end

local function has_answered(run, sets)
  for _, set in ipairs(sets) do
    if run.tasks[set] and is_pope(run, run.tasks[set]) then return true end
  end
  return false
end

-- The same questions put to a model alone and with each of its adapters.
local function pairs_of(runs, sets)
  local rows, alone, before = {}, nil, nil
  for _, run in ipairs(source.by_model(runs)) do
    if has_answered(run, sets) and run.adapter == "" then
      alone, before = run, right_answers(run)
    elseif has_answered(run, sets) and alone and alone.who == run.who then
      local after = right_answers(run)
      for _, set in ipairs(sets) do
        local counts = before[set] and after[set] and compared(before[set], after[set])
        if counts then rows[#rows + 1] = { ("%s, %s"):format(run.model, set), run.apart, unpack(counts) } end
      end
    end
  end
  return rows
end

local COMPARED = { { "compare_accuracy", 100, 2 }, { "compare_better", 1, 0 }, { "compare_worse", 1, 0 },
  { "compare_p", 1, 4 } }

-- What runs found that were told to compare themselves with an earlier one.
local function comparisons(runs, sets)
  local rows = {}
  for _, run in ipairs(source.by_model(runs)) do
    for _, set in ipairs(sets) do
      local task = run.tasks[set]
      if task and value(task, "compare_p") then
        local row = { ("%s, %s"):format(run.name, set), run.options.compare or "" }
        for _, c in ipairs(COMPARED) do row[#row + 1] = cell(task, c[1], c[2], c[3]) end
        rows[#rows + 1] = row
      end
    end
  end
  return rows
end

--- The tables of yes/no questions.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
---@param opt table           published
function M.pope(page, runs, opt)
  local sets, rows, noted = sets_of(runs), {}, false
  if #sets == 0 then return end
  for _, set in ipairs(sets) do
    local part, known = pope_rows(runs, set, opt)
    rows[#rows + 1] = { group = set }
    for _, row in ipairs(part) do rows[#rows + 1] = row end
    noted = noted or known
  end
  local heads = { "model", "HA-DPO" }
  for _, c in ipairs(POPE) do heads[#heads + 1] = c[2] end
  heads[#heads + 1] = "questions"
  page:heading("Yes/no questions: POPE")
  page:note("Percent, by the benchmark's own reading of the answers; ± is the standard error over pictures. The best of "
    .. "a model is bold." .. (noted and " " .. published.NOTE or ""))
  page:table(heads, rows)

  local cards = {}
  for _, run in ipairs(source.by_model(runs)) do
    for _, set in ipairs(sets) do
      local task = run.tasks[set]
      cards[#cards + 1] = task and is_pope(run, task) and confusion(run, set, task) or nil
    end
  end
  if #cards > 0 then
    page:subheading("What was said of what is there")
    page:note("The bar is the share of answers that say yes, its mark the share that should.")
    page:put('<div class="cards">' .. table.concat(cards) .. "</div>")
  end
  local changes = pairs_of(runs, sets)
  if #changes > 0 then
    page:subheading("The same questions, without and with the adapter")
    page:table({ "questions", "the model", "both right", "only without", "only with", "both wrong", "McNemar's p" }, changes)
  end
  local told = comparisons(runs, sets)
  if #told > 0 then
    page:subheading("Compared with an earlier run")
    page:table({ "questions", "earlier run", "accuracy gained", "right only now", "right only then", "McNemar's p" }, told)
  end
end

-- ---- everything else --------------------------------------------------------------------------------------

local TITLES = { chair = "Things in descriptions: CHAIR", amber = "AMBER",
  amber_published = "AMBER's questions as its program counts them, in percent",
  shr = "SHR", shr_published = "SHR as the published programs count" }

-- What a task is shown under: the recipe that measured it, or that and "published", where numbers are of another kind.
local function kind_of(run, name)
  local kind = run.command or "other"
  return name:find(kind .. "_published", 1, true) == 1 and kind .. "_published" or kind
end

--- A table of each further kind of evaluation.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
function M.others(page, runs)
  local kinds = {}
  for _, run in ipairs(source.by_model(runs)) do
    for _, name in ipairs(keys(run.tasks)) do
      local task = run.tasks[name]
      if task ~= shr_of(run) and not is_pope(run, task) and #source.metrics(task) > 0 then
        local kind = kind_of(run, name)
        kinds[kind] = kinds[kind] or {}
        local column = name == kind and run.name or ("%s: %s"):format(run.name, name)
        table.insert(kinds[kind], { name = column, task = task })
      end
    end
  end
  for _, kind in ipairs(keys(kinds)) do
    page:heading(TITLES[kind] or ("Measured by " .. kind))
    beside(page, nil, kinds[kind], {})
  end
end

return M
