-- The speed of this machine, and how close lucid comes: limits first, then work as a share of them.
--
--   local result = bench.run { device = "cpu", rounds = 5, only = { "decode" } }
--   print(bench.text(result))
--
-- Every round times every row once, so that what else the machine does hits all of them, and right before a row what
-- limits it; a figure is the median of the rounds (lucid.bench.result).
local decoder = require "lucid.bench.decoder"
local files = require "lucid.bench.files"
local layers = require "lucid.bench.layers"
local limits = require "lucid.bench.limits"
local machine = require "lucid.bench.machine"
local native = require "lucid.native"
local progress = require "lucid.progress"
local questions = require "lucid.bench.questions"
local result = require "lucid.bench.result"
local timing = require "lucid.bench.timing"

local M = {}

local EACH = 0.1                -- seconds of a timing

--- What --only takes, in the order of the table.
M.GROUPS = { "linear", "lora", "attention", "memory", "adamw", "cross-entropy", "decode", "prefill", "dpo", "pope", "pictures",
  "json", "checkpoint", "startup" }

---@class lucid.BenchOptions
---@field device string         "cpu" or "cuda:0"
---@field dtype string|nil      default: what the device multiplies fastest
---@field rounds integer
---@field only string[]|nil     groups; nil: all
---@field small boolean|nil     sizes that test the bench and measure nothing
---@field tell fun(text: string)|nil     told what is measured next
---@field progress boolean|nil          with a progress line
---@field size fun(large: any, small: any): any     set here: which of the two holds

---@class lucid.BenchRow
---@field group string
---@field about string
---@field limit string|nil      "read", "copy", "bf16", "f16" or "f32": what it is a share of
---@field limit_of string|nil   of a row that measures a limit: which one
---@field shape string|nil      of a product: what one of oneDNN has, too
---@field beside table[]|nil    set here: the limits timed right before it, { row =, seconds = one a round }
---@field unit string|nil       what work.tokens counts
---@field make fun(): lucid.Work

local MEMORY = { read = true, copy = true }
local FAST = { [native.C.LC_BF16] = "bf16" }

-- The limits that a row is timed beside: how fast memory is, or oneDNN's products of its shape.
local function limits_beside(row, limiting)
  local list = {}
  for _, limit in ipairs(limiting) do
    if MEMORY[limit.limit_of] and limit.limit_of == row.limit or limit.shape and limit.shape == row.shape then
      list[#list + 1] = { row = limit, seconds = {} }
    end
  end
  return #list > 0 and list or nil
end

-- The rows that are asked for, behind those of the limits that they need.
local function rows_of(o)
  local asked, wanted, list = {}, {}, {}
  for _, name in ipairs(o.only or M.GROUPS) do asked[name] = true end
  for _, part in ipairs { layers, decoder, questions, files } do
    part.rows(function(row)
      if not asked[row.group] then return end
      list[#list + 1] = row
      if row.limit then wanted[row.limit] = true end
    end, o)
  end
  local all = {}
  limits.rows(function(row) all[#all + 1] = row end, o, wanted)
  local limiting = { unpack(all) }
  for _, row in ipairs(list) do
    row.beside = limits_beside(row, limiting)
    all[#all + 1] = row
  end
  return all
end

local function close(rows)
  for _, row in ipairs(rows) do
    if row.work and row.work.close then row.work.close() end
  end
end

local function measure(rows, o)
  local wait = timing.waiting(o.device)
  for _, row in ipairs(rows) do
    o.tell(row.about)
    row.work = row.make()
    row.calls, row.seconds = timing.calls(row.work, o.small and 0 or EACH, wait), {}
  end
  local bar = progress { total = o.rounds * math.max(1, #rows), label = "bench", unit = "timings", quiet = not o.progress }
  local watch = machine.watch()
  for round = 1, o.rounds do
    for i, row in ipairs(rows) do
      for _, limit in ipairs(row.beside or {}) do
        limit.seconds[round] = timing.seconds(limit.row.work, limit.row.calls, wait)
      end
      row.seconds[round] = timing.seconds(row.work, row.calls, wait)
      bar:step((round - 1) * #rows + i)
    end
  end
  bar:done()
  return watch()
end

--- Measures. What it returns is what --json prints.
---@param o lucid.BenchOptions
---@return table
function M.run(o)
  o.dtype = o.dtype or FAST[native.C.lc_fast_dtype(native.device(o.device))] or "f32"
  o.tell, o.size = o.tell or function() end, function(large, small) return o.small and small or large end
  local rows = rows_of(o)
  local ok, others = pcall(measure, rows, o)
  close(rows)
  if not ok then error(others, 0) end
  local made = result.make(rows, others, o.small)
  made.machine, made.dtype, made.rounds = machine.describe(o.device), o.dtype, o.rounds
  return made
end

--- The GPU's name, or nil and why there is none.
---@return string|nil, string|nil
function M.gpu()
  local ok, found = pcall(native.device, "cuda")
  if not ok then return nil, (tostring(found):gsub("^[^\n]-%.lua:%d+: ", "")) end
  return native.device_name(found)
end

M.complete, M.text = result.complete, result.text

return M
