-- What timings say: medians, limits, shares of them, and a table. A share is withheld where others kept the machine
-- busy or the rounds differ: it would be noise.
--
-- A row that was timed right behind a limit is compared with that, round by round, and its share is the rounds' median:
-- memory of one machine may read half as fast in some minutes as in others. Else a share is of the limit's best, and a
-- product has both: it is compared with oneDNN's beside it, and with the best of all.
local timing = require "lucid.bench.timing"

local M = {}

M.BUSY, M.SPREAD = 0.3, 0.1     -- others' cores, and the middle half's part of the median, beyond which there are no shares

---@class lucid.TimedRow: lucid.BenchRow
---@field work lucid.Work
---@field seconds number[]      of a call, one a round

local function amount(row) return row.work.flops or row.work.bytes end

-- The best of all rounds of all rows that measure a limit: { rate =, about = }.
local function best_of(rows)
  local best = {}
  for _, row in ipairs(rows) do
    local name = row.limit_of or row.group == "linear" and row.limit
    if name then
      local fastest = amount(row) / math.min(unpack(row.seconds))
      if not best[name] or fastest > best[name].rate then best[name] = { rate = fastest, about = row.about } end
    end
  end
  return best
end

-- The rate of a row as a part of that of the fastest limit beside it: the median of the rounds, and its spread.
local function of_beside(row)
  local fastest, least
  for _, limit in ipairs(row.beside) do
    local median = timing.median(limit.seconds)
    if not least or median < least then fastest, least = limit, median end
  end
  local parts = {}
  for i, seconds in ipairs(row.seconds) do
    parts[i] = amount(row) / seconds / (amount(fastest.row) / fastest.seconds[i])
  end
  return timing.median(parts)
end

-- A row as the result has it.
local function entry(row, best, busy)
  local w = row.work
  local e = { group = row.group, about = row.about, seconds = row.seconds, median = row.median, spread = row.spread,
    flops = w.flops, bytes = w.bytes, limit = row.limit, unit = row.unit, count = w.tokens }
  if not row.limit then return e end
  local part, spread
  if row.beside then part, spread = of_beside(row) end
  local of_best = row.shape or not part
  if busy or part and spread > M.SPREAD or of_best and row.spread > M.SPREAD then
    e.withheld = busy and "busy" or "spread"
    return e
  end
  e.of_onednn = row.shape and part
  e.share = of_best and amount(row) / row.median / best[row.limit].rate or part
  return e
end

--- The result of timed rows.
---@param rows lucid.TimedRow[]
---@param others number|nil     cores that others kept busy; nil: nobody knows
---@param small boolean|nil     sizes were small, so nothing was measured
---@return table
function M.make(rows, others, small)
  for _, row in ipairs(rows) do row.median, row.spread = timing.median(row.seconds) end
  local best = best_of(rows)
  local busy = small or others and others > M.BUSY or false
  local result = { others = others, busy = busy, small = small, limits = {}, rows = {} }
  for _, row in ipairs(rows) do
    local name = row.limit_of
    if name then
      result.limits[name] = result.limits[name] or { best = best[name].rate, from = best[name].about, forms = {} }
      table.insert(result.limits[name].forms, entry(row, best, busy))
    else
      table.insert(result.rows, entry(row, best, busy))
    end
  end
  return result
end

--- Whether every share that there could be was given.
---@param result table
---@return boolean
function M.complete(result)
  for _, row in ipairs(result.rows) do
    if row.withheld then return false end
  end
  return true
end

-- ---- text ------------------------------------------------------------------------------------------

local function scaled(v, unit)
  for _, step in ipairs { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } } do
    if v >= step[1] then return ("%.4g %s%s"):format(v / step[1], step[2], unit) end
  end
  return ("%.4g %s"):format(v, unit)
end

local function time(s)
  return s >= 1 and ("%.3g s"):format(s) or s >= 1e-3 and ("%.4g ms"):format(s * 1e3) or ("%.4g us"):format(s * 1e6)
end

local UNIT = { read = "B/s", copy = "B/s", bf16 = "FLOP/s", f16 = "FLOP/s", f32 = "FLOP/s" }

local function what_it_does(row)
  local parts = {}
  if row.flops then parts[#parts + 1] = scaled(row.flops / row.median, "FLOP/s") end
  if row.bytes then parts[#parts + 1] = scaled(row.bytes / row.median, "B/s") end
  if row.unit then parts[#parts + 1] = scaled(row.count / row.median, row.unit .. "/s") end
  return table.concat(parts, ", ")
end

local function share(row)
  if not row.limit then return "" end
  if row.withheld then return row.withheld == "busy" and "busy: no ratio" or "rounds differ: no ratio" end
  return ("%.1f %% of %s%s"):format(100 * row.share, row.limit,
    row.of_onednn and (", %.1f %% of oneDNN"):format(100 * row.of_onednn) or "")
end

--- The result as a table.
---@param result table      of M.run
---@return string
function M.text(result)
  local m, lines = result.machine, {}
  local function say(text, ...) lines[#lines + 1] = text:format(...) end
  say("%s, %d threads, %sof memory; lucid %s, gemm: %s%s", m.cpu, m.threads, m.memory and scaled(m.memory, "B ") or "",
    m.version, m.gemm, m.device and "; " .. m.device or "")
  say("%d rounds, others kept %s cores busy%s", result.rounds, result.others and ("%.2f"):format(result.others) or "unknown",
    result.small and "; sizes are small: nothing is measured"
      or result.busy and (": more than %.1f, so there are no ratios"):format(M.BUSY) or "")
  say("\nlimits, the best of all rounds; shares of read, copy and oneDNN are of what these reach beside the work")
  for _, name in ipairs { "read", "copy", "bf16", "f16", "f32" } do
    local l = result.limits[name]
    if l then say("  %-5s %-16s %s", name, scaled(l.best, UNIT[name]), l.from) end
  end
  say("\nwork, medians; spread: the middle half")
  for _, row in ipairs(result.rows) do
    say("  %s\n    %-10s %4.1f %%  %s%s", row.about, time(row.median), 100 * row.spread, what_it_does(row),
      row.limit and "  " .. share(row) or "")
  end
  return table.concat(lines, "\n")
end

return M
