-- A run's folder: what was asked (config.json), what happened (log.jsonl, TensorBoard events), what
-- came out (adapter/, checkpoint-N/, results.json, samples.jsonl). Every file is complete or absent.
local ffi = require "ffi"
local native = require "lucid.native"
local file = require "lucid.file"
local json = require "lucid.json"
local keys = require "lucid.keys"
local recipe = require "lucid.recipe"

local C = native.C
local M = {}
local Run = {}
Run.__index = Run

--- What a result depends on beside its options.
function M.versions()
  return {
    lucid = native.version,
    features = ffi.string(C.lc_features()),
    luajit = jit.version,
    threads = C.lc_threads_used(),
    processes = C.lc_comm_size(),
  }
end

--- Hashes of the files that options name: { option = sha256 }.
---@param opt table          parsed options
---@param names string[]     which of them are files (absent ones are skipped)
function M.hashes(opt, names)
  local list = {}
  for _, name in ipairs(names) do
    local path = opt[name]
    if type(path) == "string" and file.kind(path) == "file" then list[name] = file.hash(path) end
  end
  return list
end

local function plain(opt)
  local copy = {}
  for k, v in pairs(opt) do
    if type(v) == "string" or type(v) == "number" or type(v) == "boolean" then copy[k] = v end
  end
  return copy
end

--- Puts what holds in place of options that were not given, so that results name it.
---@param opt table         parsed options
---@param settings table    what holds, by the options' fields
function M.note(opt, settings)
  for field, value in pairs(settings) do
    if opt[field] == nil then opt[field] = value end
  end
end

--- What config.json holds.
---@param command string     the recipe's name
---@param opt table          parsed options
---@param hashes table|nil
function M.config(command, opt, hashes)
  return { command = command, options = plain(opt), versions = M.versions(), hashes = hashes or {} }
end

--- Makes the folder and writes config.json.
---@param out string
---@param command string     the recipe's name
---@param opt table          parsed options
---@param hashes table|nil
function M.open(out, command, opt, hashes)
  native.check(C.lc_make_folder(out))
  json.write(out .. "/config.json", M.config(command, opt, hashes))
  return setmetatable({ out = out, command = command, opt = opt, hashes = hashes or {} }, Run)
end

--- Writes an evaluation: results.json = { TASK = { METRIC = { value, stderr, n } }, config, versions,
--- hashes } and samples.jsonl, one record a line.
---@param results table
---@param samples table[]
function Run:results(results, samples)
  local lines = {}
  for i, s in ipairs(samples) do lines[i] = json.encode(s) end
  lines[#lines + 1] = ""
  file.write(self.out .. "/samples.jsonl", table.concat(lines, "\n"))
  local all = { config = plain(self.opt), versions = M.versions(), hashes = self.hashes }
  for task, metrics in pairs(results) do all[task] = metrics end
  json.write(self.out .. "/results.json", all, { indent = 2 })
  return all
end

-- ---- showing results -----------------------------------------------------------------------------

--- Prints { TASK = { METRIC = { value, stderr, n } } } as a table, unless another recipe asked for it.
function M.print(results)
  if recipe.nested() then return end
  for _, task in ipairs(keys(results)) do
    print(task)
    for _, name in ipairs(keys(results[task])) do
      local m = results[task][name]
      local spread = m.stderr and (" +- %.4f"):format(m.stderr) or ""
      print(("  %-34s %10.4f%s"):format(name, m.value, spread))
    end
  end
end

local function object(value, name)
  if type(value) ~= "table" then error(name .. ": a JSON object is expected", 0) end
  return value
end

-- The tasks of a results.json: what is not about the run itself.
local function tasks_of(all)
  local tasks = {}
  for name, metrics in pairs(all) do
    if name ~= "config" and name ~= "versions" and name ~= "hashes" then tasks[name] = metrics end
  end
  return tasks
end

--- Adds a table of every run's results to a page, a row a run and task.
---@param page table
---@param runs string[]
function M.tables(page, runs)
  local rows, columns, seen = {}, {}, {}
  for _, dir in ipairs(runs) do
    if file.exists(dir .. "/results.json") then
      local tasks = tasks_of(object(json.read(dir .. "/results.json"), dir .. "/results.json"))
      for _, task in ipairs(keys(tasks)) do
        for _, metric in ipairs(keys(tasks[task])) do
          if not seen[metric] then
            seen[metric] = true
            columns[#columns + 1] = metric
          end
        end
        rows[#rows + 1] = { dir = dir, task = task, metrics = tasks[task] }
      end
    end
  end
  if #rows == 0 then return end
  local heads = { "run", "task" }
  for _, c in ipairs(columns) do heads[#heads + 1] = c end
  local cells = {}
  for i, r in ipairs(rows) do
    cells[i] = { r.dir, r.task }
    for _, c in ipairs(columns) do
      cells[i][#cells[i] + 1] = r.metrics[c] and r.metrics[c].value or ""
    end
  end
  page:heading("Results"):table(heads, cells)
end

--- The records of a run's log.jsonl; an empty list when there is none.
function M.history(dir)
  local list, path = {}, dir .. "/log.jsonl"
  if file.exists(path) then
    for record in json.each(path) do list[#list + 1] = object(record, path) end
  end
  return list
end

-- What tells runs apart, as short as it can be: a/before/shr and a/after/shr are "before" and "after".
local function names_of(runs)
  local parts, common, names = {}, 0, {}
  for i, dir in ipairs(runs) do
    parts[i] = {}
    for part in dir:gmatch("[^/]+") do table.insert(parts[i], 1, part) end   -- the last one first
  end
  local function all_have(n)
    for _, p in ipairs(parts) do
      if not p[n + 1] or p[n] ~= parts[1][n] then return false end
    end
    return #runs > 1
  end
  while all_have(common + 1) do common = common + 1 end
  for length = 1, 64 do
    local taken, clear = {}, true
    for i, p in ipairs(parts) do
      local words = {}
      for k = math.min(#p, common + length), common + 1, -1 do words[#words + 1] = p[k] end
      names[i] = #words > 0 and table.concat(words, "/") or runs[i]
      clear = clear and not taken[names[i]]
      taken[names[i]] = true
    end
    if clear then break end
  end
  return names
end

local CURVES = { "loss", "eval_loss", "rewards/margins", "rewards/accuracies", "rewards/chosen", "rewards/rejected", "grad_norm",
  "learning_rate" }

--- Adds the training curves of runs to a page.
---@param page table
---@param runs string[]
function M.curves(page, runs)
  local histories, labels = {}, names_of(runs)
  for _, dir in ipairs(runs) do histories[dir] = M.history(dir) end
  for _, name in ipairs(CURVES) do
    local series = {}
    for i, dir in ipairs(runs) do
      local s = { name = labels[i], x = {}, y = {} }
      for _, record in ipairs(histories[dir]) do
        if type(record[name]) == "number" then
          s.x[#s.x + 1], s.y[#s.y + 1] = record.step, record[name]
        end
      end
      if #s.x > 1 then series[#series + 1] = s end
    end
    if #series > 0 then page:curves(name, series) end
  end
end

--- Whether a folder holds something that a page shows of a run.
function M.is_run(dir)
  for _, name in ipairs { "results.json", "log.jsonl", "samples.jsonl" } do
    if file.exists(dir .. "/" .. name) then return true end
  end
  return false
end

-- A sample's sentences as a page shows them.
local function marked(sample)
  local list = {}
  for i, s in ipairs(sample.sentences or {}) do list[i] = { text = s.text, bad = s.label == "hallucination" } end
  return list
end

--- Adds described pictures, the hallucinated sentences marked; the same pictures for every run.
---@param page table
---@param runs string[]
---@param count integer
function M.pictures(page, runs, count)
  local order, texts, labels = {}, {}, names_of(runs)
  for i, dir in ipairs(runs) do
    local path = dir .. "/samples.jsonl"
    if file.exists(path) then
      for sample in json.each(path) do
        if sample.sentences and sample.image and file.exists(sample.image) then
          if not texts[sample.image] then
            texts[sample.image] = {}
            order[#order + 1] = sample.image
          end
          table.insert(texts[sample.image], { label = labels[i], sentences = marked(sample) })
        end
      end
    end
  end
  for i = 1, math.min(count, #order) do page:picture(order[i], texts[order[i]]) end
end

return M
