-- What the runs are, what they were asked, and with what: so that a figure can be made again.
local html = require "lucid.report.html"
local json = require "lucid.json"
local keys = require "lucid.keys"
local source = require "lucid.report.source"

local M = {}

--- The first line: how many runs these are, and of how many something is missing.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
function M.overview(page, runs)
  local missing = 0
  for _, run in ipairs(runs) do missing = missing + (#run.notes > 0 and 1 or 0) end
  page:note(("%d run%s%s"):format(#runs, #runs == 1 and "" or "s",
    missing > 0 and ("; of %d something is missing: see Runs."):format(missing) or "."))
end

-- Every run, and what of it is not there.
local function folders(page, runs)
  local rows = {}
  for i, run in ipairs(runs) do
    rows[i] = { run.label, run.command or "?", run.model, run.adapter, run.dir, table.concat(run.notes, "; ") }
  end
  page:heading("Runs")
  page:table({ "run", "recipe", "model", "adapter", "folder", "missing" }, rows, { code = { [5] = true } })
end

-- Options as texts.
local function options_of(run)
  local list = {}
  for name, value in pairs(run.options) do
    if type(value) ~= "table" then list[name] = tostring(value) end
  end
  return list
end

local TEXT = 300

local function value_of(options, name)
  local value = options[name]
  return value == nil and "–" or value == "" and "(empty)" or html.clip(value, TEXT)
end

-- Runs of one recipe beside each other, where they differ in an option.
local function differences(page, command, runs)
  local options, names = {}, {}
  for i, run in ipairs(runs) do
    options[i] = options_of(run)
    for name in pairs(options[i]) do names[name] = true end
  end
  local heads, rows = { "option" }, {}
  for i, run in ipairs(runs) do heads[i + 1] = run.label end
  for _, name in ipairs(keys(names)) do
    local row, differs = { name }, false
    for i = 1, #runs do
      row[i + 1] = value_of(options[i], name)
      differs = differs or row[i + 1] ~= row[2]
    end
    if differs and name ~= "out" then rows[#rows + 1] = row end
  end
  if #rows > 0 then page:table(heads, rows, { caption = "lucid " .. command .. ": options that differ" }) end
end

local GENERATION = { "beams", "length-norm", "length-penalty", "max-length", "max-new-tokens", "min-length",
  "min-new-tokens", "repetition-penalty", "stop", "temperature", "top-k", "top-p", "template", "dtype", "quant",
  "seed" }

-- How answers were made: the settings that hold, those that were not given having their defaults.
local function generation(page, runs)
  local asked, options = {}, {}
  for _, run in ipairs(runs) do
    if next(run.tasks) and run.model ~= "" then
      asked[#asked + 1] = run
      options[#asked] = options_of(run)
    end
  end
  if #asked == 0 then return end
  local heads, rows = { "setting" }, {}
  for i, run in ipairs(asked) do heads[i + 1] = run.label end
  for _, name in ipairs(GENERATION) do
    local row, known = { name }, false
    for i in ipairs(asked) do
      row[i + 1] = value_of(options[i], name)
      known = known or options[i][name] ~= nil
    end
    if known then rows[#rows + 1] = row end
  end
  local counts = {}
  for _, run in ipairs(asked) do
    for _, name in ipairs(source.metrics(run.generation)) do counts[name] = true end
  end
  for _, name in ipairs(keys(counts)) do
    local row = { name }
    for i, run in ipairs(asked) do row[i + 1] = run.generation[name] and run.generation[name].value or "–" end
    rows[#rows + 1] = row
  end
  page:subheading("How answers were made")
  page:note("A setting that is not listed, or has a dash, is the default of its recipe.")
  page:table(heads, rows)
end

-- Names and values; those of a part stand under "part name".
local function key_rows(values, prefix, rows)
  for _, name in ipairs(keys(values)) do
    local value = values[name]
    if type(value) == "table" and value ~= json.null then
      key_rows(value, prefix .. name .. " ", rows)
    else
      rows[#rows + 1] = { prefix .. name, html.clip(tostring(value):gsub("\n", "; "), TEXT) }
    end
  end
  return rows
end

local function whole(page, run)
  local out = { ("<details><summary>%s: %s</summary>"):format(html.escape(run.label),
    html.escape("lucid " .. (run.command or "?"))) }
  for _, part in ipairs { { "options", options_of(run) }, { "hashes", run.hashes }, { "versions", run.versions } } do
    local rows = key_rows(part[2], "", {})
    if #rows > 0 then
      local table_html = page.table_html({ part[1], "" }, rows, { code = { [2] = true } })
      out[#out + 1] = '<div class="wide">' .. table_html .. "</div>"
    end
  end
  out[#out + 1] = "</details>"
  page:put(table.concat(out))
end

--- The last sections: the runs, their options, hashes and versions.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
function M.section(page, runs)
  folders(page, runs)
  page:heading("Settings and hashes")
  generation(page, runs)
  local by_command = {}
  for _, run in ipairs(runs) do
    if run.command then
      by_command[run.command] = by_command[run.command] or {}
      table.insert(by_command[run.command], run)
    end
  end
  page:subheading("Options")
  for _, command in ipairs(keys(by_command)) do
    if #by_command[command] > 1 then differences(page, command, by_command[command]) end
  end
  for _, run in ipairs(runs) do whole(page, run) end
end

return M
