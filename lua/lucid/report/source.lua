-- What a page is made from: run folders, found and read. Parts that are not there are noted, not missed.
local file = require "lucid.file"
local json = require "lucid.json"
local keys = require "lucid.keys"

local M = {}

---@class lucid.ReportRun
---@field dir string
---@field label string            what tells it from the other runs
---@field index integer           its place, and its colour
---@field command string|nil      the recipe that made it
---@field options table
---@field hashes table
---@field versions table
---@field tasks table<string, table>   of results.json
---@field generation table        counts of how the answers were made, as metrics
---@field log table[]             of log.jsonl
---@field samples integer         whole records of samples.jsonl
---@field counts table|nil        report.json of mined data
---@field model string            what the model is called; "" when no model was asked
---@field adapter string          and the adapter; "": none
---@field apart string|nil        what tells it from the model's other runs: "with dpo"
---@field name string             the model's name and that, where a model was asked, else the label
---@field method string           "–": the model alone, "✓": with HA-DPO, else the loss its adapter was trained with
---@field notes string[]          what is missing or was cut off

local PARTS = { "results.json", "log.jsonl", "samples.jsonl", "desc_data.json", "pope_data.json" }

-- The named values of a JSON object; of anything else, none.
local function named(value)
  local list = {}
  for key, v in pairs(type(value) == "table" and value or {}) do
    if type(key) == "string" and v ~= json.null then list[key] = v end
  end
  return list
end

-- The values of a file that holds an object; none where it is damaged, which `notes` then says.
local function object(path, notes)
  local ok, value = pcall(json.read_object, path)
  if ok then return named(value) end
  if notes then notes[#notes + 1] = "cannot be read: " .. tostring(value):gsub(".*/", "") end
  return {}
end

-- config.json of a run; that of a model says no command.
local function config_of(dir, notes)
  local path = dir .. "/config.json"
  local config = file.kind(path) == "file" and object(path, notes) or nil
  return config and type(config.command) == "string" and type(config.options) == "table" and config or nil
end

--- Whether a folder holds something that a page shows of a run.
---@param dir string
---@return boolean
function M.is_run(dir)
  for _, name in ipairs(PARTS) do
    if file.kind(dir .. "/" .. name) == "file" then return true end
  end
  return config_of(dir) ~= nil
end

local DEEP, MOST = 3, 48     -- how far runs are looked for below a folder, and how many a page takes

local function search(dir, depth, list)
  for _, name in ipairs(file.list(dir) or {}) do
    local path = dir .. "/" .. name
    -- A run's own folders are no runs; last and best are links to them.
    if not name:find("^%.") and not name:find("^checkpoint%-") and file.kind(path) == "folder" then
      if M.is_run(path) then list[#list + 1] = path
      elseif depth < DEEP then search(path, depth + 1, list) end
    end
  end
  return list
end

--- The run folders that are meant by folders: themselves, or the runs below them (a demo's folder).
---@param folders string[]
---@return string[]
function M.find(folders)
  local list, seen = {}, {}
  for _, given in ipairs(folders) do
    local dir = #given > 1 and given:gsub("/+$", "") or given
    if file.kind(dir) ~= "folder" then error(("report: %s: there is no such folder"):format(given), 0) end
    local found = M.is_run(dir) and { dir } or search(dir, 1, {})
    if #found == 0 then
      error(("report: %s: there is no results.json, log.jsonl or samples.jsonl, so this is no run's folder"):format(
        given), 0)
    end
    for _, path in ipairs(found) do
      if not seen[path] then list[#list + 1], seen[path] = path, true end
    end
  end
  if #list > MOST then
    error(("report: these are %d runs and a page takes %d; name fewer folders"):format(#list, MOST), 0)
  end
  return list
end

--- What tells paths apart, as short as it can be: a/before/shr and a/after/shr are "before" and "after".
---@param paths string[]
---@return string[]
function M.names(paths)
  local parts, common, names = {}, 0, {}
  for i, path in ipairs(paths) do
    parts[i] = {}
    for part in path:gmatch("[^/]+") do table.insert(parts[i], 1, part) end   -- the last one first
  end
  local function all_have(n)
    for _, p in ipairs(parts) do
      if not p[n + 1] or p[n] ~= parts[1][n] then return false end
    end
    return #paths > 1
  end
  while all_have(common + 1) do common = common + 1 end
  for length = 1, 64 do
    local taken, clear = {}, true
    for i, p in ipairs(parts) do
      local words = {}
      for k = math.min(#p, common + length), common + 1, -1 do words[#words + 1] = p[k] end
      names[i] = #words > 0 and table.concat(words, "/") or paths[i]
      clear = clear and not taken[names[i]]
      taken[names[i]] = true
    end
    if clear then break end
  end
  return names
end

-- ---- one run ------------------------------------------------------------------------------------------

local NO_TASKS = { config = true, versions = true, hashes = true, generation = true }

local function read_results(run)
  local path = run.dir .. "/results.json"
  if not file.exists(path) then return end
  local all = object(path, run.notes)
  for name, metrics in pairs(all) do
    if not NO_TASKS[name] and type(metrics) == "table" then run.tasks[name] = named(metrics) end
  end
  run.generation = named(all.generation)
  if not run.command then
    run.options, run.hashes, run.versions = named(all.config), named(all.hashes), named(all.versions)
  end
end

-- The records of a file of JSON lines, which may be written while it is read, or have lost its end in a crash: what is
-- whole counts.
local function read_lines(run, name, noun, take)
  local path, count = run.dir .. "/" .. name, 0
  if file.kind(path) ~= "file" then return count end
  local ok, reason = pcall(function()
    for record in json.each(path) do
      count = count + 1
      if take then take(record) end
    end
  end)
  if not ok then
    run.notes[#run.notes + 1] = ("%s ends after %d %s: %s"):format(name, count, noun, tostring(reason):gsub(".*/", ""))
  end
  return count
end

local function read_log(run)
  read_lines(run, "log.jsonl", "steps", function(record)
    if type(record) == "table" then run.log[#run.log + 1] = record end
  end)
end

-- What every kind of run should have.
local EXPECTED = { llava = { "log.jsonl" }, minigpt4 = { "log.jsonl" }, instructblip = { "log.jsonl" },
  sft = { "log.jsonl" }, mine = { "report.json", "desc_data.json", "pope_data.json" } }
local EVALUATION = { "results.json", "samples.jsonl" }
M.TRAINING = { llava = true, minigpt4 = true, instructblip = true, sft = true }

local function note_missing(run)
  local missing = {}
  if not run.command then missing[1] = "a run's config.json" end
  for _, name in ipairs(EXPECTED[run.command or ""] or (#run.log == 0 and not run.counts) and EVALUATION or {}) do
    if not file.exists(run.dir .. "/" .. name) then missing[#missing + 1] = name end
  end
  if #missing > 0 then run.notes[#run.notes + 1] = "not there: " .. table.concat(missing, ", ") end
end

local function text_option(run, name)
  local value = run.options[name]
  return type(value) == "string" and value or ""
end

-- The loss that an adapter was trained with, where the run that made it is still there.
local function loss_of(adapter)
  for _, dir in ipairs { adapter, adapter .. "/.." } do
    local ok, config = pcall(config_of, dir)
    if ok and config and type(config.options.loss) == "string" then return config.options.loss end
  end
end

local DPO = { sigmoid = true, sigmoid_norm = true }

local function method_of(adapter)
  if adapter == "" then return "–" end
  local loss = loss_of(adapter)
  return (not loss or DPO[loss]) and "✓" or loss
end

-- The paths that say who answered: a model, or the file of what was answered elsewhere.
local function who(run)
  for _, name in ipairs { "model", "answers", "responses" } do
    local path = text_option(run, name)
    if path ~= "" then return path end
  end
  return ""
end

-- Names of distinct paths: path -> name.
local function short(runs, path_of)
  local paths, seen, names = {}, {}, {}
  for _, run in ipairs(runs) do
    local path = path_of(run)
    if path ~= "" and not seen[path] then paths[#paths + 1], seen[path] = path, true end
  end
  for i, name in ipairs(M.names(paths)) do names[paths[i]] = name end
  return names
end

-- Gives runs their names. Runs of one recipe, model and adapter are told apart by their folders.
local function name_all(runs)
  local taken = {}
  local function key(run) return ("%s\n%s\n%s"):format(run.command, run.who, run.adapter) end
  for _, run in ipairs(runs) do taken[key(run)] = (taken[key(run)] or 0) + 1 end
  for _, run in ipairs(runs) do
    local apart = {}
    if run.adapter ~= "" then apart[1] = "with " .. run.adapter end
    if taken[key(run)] > 1 then apart[#apart + 1] = run.label end
    run.apart = #apart > 0 and table.concat(apart, ", ") or nil
    local asked = run.model ~= "" and not M.TRAINING[run.command or ""]
    run.name = not asked and run.label or run.apart and ("%s %s"):format(run.model, run.apart) or run.model
  end
end

local function adapter_of(run) return text_option(run, "adapter") end

-- A page of nothing but damage would look like a result.
local function check_some(runs)
  for _, run in ipairs(runs) do
    if run.command or run.counts or next(run.tasks) or #run.log > 0 or run.samples > 0 then return end
  end
  error(("%s: %s"):format(runs[1].dir, runs[1].notes[1]), 0)
end

--- Reads runs.
---@param folders string[]     of M.find
---@return lucid.ReportRun[]
function M.read(folders)
  local runs, labels = {}, M.names(folders)
  for i, dir in ipairs(folders) do
    local notes = {}
    local config = config_of(dir, notes) or {}
    local run = { dir = dir, label = labels[i], index = i, command = config.command, options = named(config.options),
      hashes = named(config.hashes), versions = named(config.versions), tasks = {}, generation = {}, log = {},
      notes = notes }
    read_results(run)
    read_log(run)
    run.samples = read_lines(run, "samples.jsonl", "samples")
    if run.command == "mine" and file.exists(dir .. "/report.json") then run.counts = object(dir .. "/report.json", notes) end
    note_missing(run)
    runs[i] = run
  end
  check_some(runs)
  local models, adapters = short(runs, who), short(runs, adapter_of)
  for _, run in ipairs(runs) do
    run.who = who(run)
    run.model = models[run.who] or ""
    run.adapter = adapters[adapter_of(run)] or ""
    run.method = method_of(adapter_of(run))
  end
  name_all(runs)
  return runs
end

--- Runs in the order of a results table: by model, the model alone first.
---@param runs lucid.ReportRun[]
---@return table[]
function M.by_model(runs)
  local order, list = {}, {}
  for _, run in ipairs(runs) do
    if not order[run.who] then order[run.who] = run.index end
    list[#list + 1] = run
  end
  table.sort(list, function(a, b)
    if a.who ~= b.who then return order[a.who] < order[b.who] end
    if (a.adapter == "") ~= (b.adapter == "") then return a.adapter == "" end
    return a.index < b.index
  end)
  return list
end

--- The whole records of a run's samples.jsonl, one by one; none when it is not there.
---@param run lucid.ReportRun
---@return function
function M.samples(run)
  local each, left = run.samples > 0 and json.each(run.dir .. "/samples.jsonl"), run.samples
  return function()
    left = left - 1
    if left >= 0 then return (each()) end
  end
end

--- The names of a table's entries that are metrics: { value = number }.
---@param task table
---@return string[]
function M.metrics(task)
  local names = {}
  for _, name in ipairs(keys(task)) do
    local m = task[name]
    if type(m) == "table" and type(m.value) == "number" then names[#names + 1] = name end
  end
  return names
end

return M
