-- Mined data: what became of the pictures, how long the texts are, how the questions are balanced.
local file = require "lucid.file"
local html = require "lucid.report.html"
local json = require "lucid.json"
local keys = require "lucid.keys"

local M = {}

local function words_of(text)
  local _, n = text:gsub("%S+", "")
  return n
end

-- A report's numbers, those of a part under "part name".
local function numbers(report, prefix, list)
  for _, name in ipairs(keys(report)) do
    local v = report[name]
    if type(v) == "table" and v ~= json.null then
      numbers(v, prefix .. name .. " ", list)
    elseif type(v) == "number" or type(v) == "string" then
      list[#list + 1] = { name = ((prefix .. name):gsub("_", " ")), value = v }
    end
  end
  return list
end

local function counts_table(page, runs)
  local names, seen, values = {}, {}, {}
  for i, run in ipairs(runs) do
    values[i] = {}
    for _, n in ipairs(run.counts and numbers(run.counts, "", {}) or {}) do
      if not seen[n.name] then names[#names + 1], seen[n.name] = n.name, true end
      values[i][n.name] = n.value
    end
  end
  if #names == 0 then return end
  local heads, rows = { "" }, {}
  for i, run in ipairs(runs) do heads[i + 1] = run.label end
  for k, name in ipairs(names) do
    rows[k] = { name }
    for i = 1, #runs do rows[k][i + 1] = values[i][name] or "" end
  end
  page:table(heads, rows)
end

-- Texts of a record's side: a list, or one text. Files that were edited may hold anything.
local function texts(side)
  local list = {}
  for _, text in ipairs(type(side) == "table" and side or { side }) do
    if type(text) == "string" then list[#list + 1] = text end
  end
  return list
end

-- The records of a file, with their keys.
local function records(path)
  local each = json.each(path)
  return function()
    local record, key
    repeat record, key = each() until record == nil or type(record) == "table"
    return record, key
  end
end

local function lengths(page, run)
  local path = run.dir .. "/desc_data.json"
  if not file.exists(path) then return end
  local chosen, rejected = {}, {}
  for record in records(path) do
    for _, t in ipairs(texts(record.chosen)) do chosen[#chosen + 1] = words_of(t) end
    for _, t in ipairs(texts(record.rejected)) do rejected[#rejected + 1] = words_of(t) end
  end
  if #chosen == 0 or #rejected == 0 then return end
  page:legend { "chosen", "rejected" }
  page:distributions(("%s: words (%% of texts)"):format(run.label),
    { { name = "chosen", values = chosen }, { name = "rejected", values = rejected } })
end

local function balance(run)
  local path = run.dir .. "/pope_data.json"
  if not file.exists(path) then return nil end
  local yes, no, right = 0, 0, 0
  for record in records(path) do
    local answer = texts(record.answer)[1] or texts(record.chosen)[1] or ""
    if answer:lower():find("^yes") then yes = yes + 1 else no = no + 1 end
    if record.correct == true then right = right + 1 end
  end
  return { run.label, yes + no, yes, no, right }
end

-- A few pairs as they are trained on.
local EXAMPLES, TEXT = 2, 600
local function examples(page, run)
  local path = run.dir .. "/desc_data.json"
  if not file.exists(path) then return end
  local rows = {}
  for record, key in records(path) do
    if #rows == EXAMPLES then break end
    local chosen, rejected = texts(record.chosen)[1], texts(record.rejected)[1]
    if chosen and rejected then
      rows[#rows + 1] = { tostring(record.image_id or key), html.clip(chosen, TEXT), html.clip(rejected, TEXT) }
    end
  end
  if #rows > 0 then page:table({ "picture", "chosen", "rejected" }, rows, { caption = run.label }) end
end

--- The section of mined data.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
function M.section(page, runs)
  local mined = {}
  for _, run in ipairs(runs) do
    if run.command == "mine" or file.exists(run.dir .. "/desc_data.json") then mined[#mined + 1] = run end
  end
  if #mined == 0 then return end
  page:heading("Mined pairs")
  counts_table(page, mined)
  local rows = {}
  for _, run in ipairs(mined) do rows[#rows + 1] = balance(run) end
  if #rows > 0 then
    page:table({ "run", "questions", "answer yes", "answer no", "already answered right" }, rows)
  end
  for _, run in ipairs(mined) do
    lengths(page, run)
    examples(page, run)
  end
end

return M
