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
---@return table
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
---@return table
function M.hashes(opt, names)
  local list = {}
  for _, name in ipairs(names) do
    local path = opt[name]
    if type(path) == "string" and file.kind(path) == "file" then list[name] = file.hash(path) end
  end
  return list
end

-- What JSON can hold, by the options' names on the command line: those with a dash have their Lua names beside them.
local function plain(opt)
  local copy = {}
  for name, v in pairs(opt) do
    if type(v) == "string" or type(v) == "number" or type(v) == "boolean" then copy[name:gsub("_", "-")] = v end
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
---@return table
function M.config(command, opt, hashes)
  return { command = command, options = plain(opt), versions = M.versions(), hashes = hashes or {} }
end

local held = {}                 -- locks by folder

--- Makes the folder and holds it against other processes, which would mix their files with this one's: until M.release,
--- or the end of this process, however it ends.
---@param out string
---@return boolean first       false: this process has it already
function M.hold(out)
  if held[out] then return false end
  file.mkdir(out)
  held[out] = file.lock(out .. "/.lock")
  return true
end

--- Lets other processes have it.
---@param out string
function M.release(out)
  if held[out] then file.unlock(held[out]) end
  held[out] = nil
end

--- Makes the folder, holds it, takes away what a killed run was just writing there, and writes config.json.
---@param out string
---@param command string     the recipe's name
---@param opt table          parsed options
---@param hashes table|nil
---@return table
function M.open(out, command, opt, hashes)
  M.hold(out)
  file.tidy(out)
  json.write(out .. "/config.json", M.config(command, opt, hashes))
  return setmetatable({ out = out, command = command, opt = opt, hashes = hashes or {} }, Run)
end

--- What results.json holds.
---@param results table      { TASK = { METRIC = { value, stderr, n } } }
---@param opt table          parsed options
---@param hashes table|nil
---@return table
function M.result(results, opt, hashes)
  local all = { config = plain(opt), versions = M.versions(), hashes = hashes or {} }
  for task, metrics in pairs(results) do all[task] = metrics end
  return all
end

--- Writes an evaluation: results.json = { TASK = { METRIC = { value, stderr, n } }, config, versions,
--- hashes } and samples.jsonl, one record a line.
---@param results table
---@param samples table[]
---@return table
function Run:results(results, samples)
  local lines = {}
  for i, s in ipairs(samples) do lines[i] = json.encode(s) end
  lines[#lines + 1] = ""
  file.write(self.out .. "/samples.jsonl", table.concat(lines, "\n"))
  local all = M.result(results, self.opt, self.hashes)
  json.write(self.out .. "/results.json", all, { indent = 2 })
  return all
end

-- ---- showing results -----------------------------------------------------------------------------

--- Metrics as lines of text: { TASK = { METRIC = { value, stderr, n } } }.
---@param results table
---@return string
function M.text(results)
  local lines = {}
  for _, task in ipairs(keys(results)) do
    lines[#lines + 1] = task
    for _, name in ipairs(keys(results[task])) do
      local m = results[task][name]
      local spread = m.stderr and (" +- %.4f"):format(m.stderr) or ""
      if m.undefined then spread = "  undefined: nothing to divide by" end
      if m.low then spread = ("%s  [%.4f, %.4f]"):format(spread, m.low, m.high) end
      local count = m.value % 1 == 0 and not m.stderr and not m.low and not m.undefined
      lines[#lines + 1] = ("  %-34s %s%s"):format(name, (count and "%10.0f" or "%10.4f"):format(m.value), spread)
    end
  end
  return table.concat(lines, "\n")
end

--- Prints what a recipe has found out, unless another recipe asked for it: with --json the value and nothing else,
--- without it text.
---@param opt table              parsed options
---@param value any              what JSON can hold
---@param text string|nil        default: M.text of the value
function M.show(opt, value, text)
  if recipe.nested() then return end
  print(opt.json and json.encode(value) or text or M.text(value))
end

return M
