-- POPE: yes/no answers against labels. Positive means yes. Two ways to read an answer, side by
-- side: the benchmark's own, under plain names, and a strict one, under strict_*, that takes only
-- clear answers. Both read up to the first full stop, so the same part of an answer decides both.
local statistics = require "lucid.statistics"

local M = { needs = "answers" }

-- ---- reading ---------------------------------------------------------------------------------------

local function sentence(answer) return (answer:match("^[^.]*")) end

local NO = { No = true, ["not"] = true, no = true }

--- The benchmark's own reading: up to the first full stop, commas deleted, cut at single spaces; no
--- when a piece is No, not or no, else yes (so an empty answer is yes).
---@param answer string
---@return string
function M.official(answer)
  local text = sentence(answer):gsub(",", "")
  for word in (text .. " "):gmatch("([^ ]*) ") do
    if NO[word] then return "no" end
  end
  return "yes"
end

local CLEAR = { yes = "yes", yeah = "yes", no = "no", nope = "no" }

--- A strict reading: the first word decides when it is yes or no; else whichever of the two the first sentence holds
--- alone; else nil, and the answer counts as wrong.
---@param answer string
---@return string|nil
function M.strict(answer)
  local text = sentence(answer):lower():gsub("</s>%s*$", "")
  local first = text:match("%a+")
  if CLEAR[first] then return CLEAR[first] end
  local found
  for word in text:gmatch("[%a']+") do
    local reading = CLEAR[word] or (word == "not" or word:find("n't$")) and "no" or nil
    if reading and found and found ~= reading then return nil end
    found = reading or found
  end
  return found
end

--- Whether nothing that may follow a text changes how it is read, neither officially nor strictly: its first sentence is
--- over, or there is an official no in it that is a whole word and its first word is a strict yes or no.
---@param text string
---@return boolean
function M.decided(text)
  if text:find(".", 1, true) then return true end
  text = text:gsub("^%s+", "")                    -- which is cut off at last
  local whole = text:match("^(.*) ")              -- behind the last space a word may still grow
  local first = text:lower():match("(%a+)[^%a]")
  return whole ~= nil and M.official(whole) == "no" and CLEAR[first] ~= nil
end

-- ---- counting --------------------------------------------------------------------------------------

local READINGS = { [""] = M.official, strict_ = M.strict }
local COUNTS = { "tp", "fp", "tn", "fn" }

-- What belongs to one picture; a record without one is by itself.
local function clusters_of(records)
  local list, by_image = {}, {}
  for i, r in ipairs(records) do
    if type(r.answer) ~= "string" or type(r.label) ~= "string" then
      error(("pope: record %d needs an answer and a label"):format(i), 3)
    end
    local key = r.image or r.image_id or i
    if not by_image[key] then
      by_image[key] = {}
      list[#list + 1] = by_image[key]
    end
    table.insert(by_image[key], r)
  end
  return list
end

local function is_yes(r) return r.label:lower() ~= "no" end

-- What an answer counts as. Unread: missed when the label is yes; when it is no it is wrong without being a yes.
local function kind_of(said, yes)
  if said == "yes" then return yes and "tp" or "fp" end
  if said == "no" then return yes and "fn" or "tn" end
  return yes and "fn" or nil
end

-- Counts of every cluster, with the answers that could not be read (on either label).
local function counts_of(clusters, read)
  local list = {}
  for i, cluster in ipairs(clusters) do
    local c = { tp = 0, fp = 0, tn = 0, fn = 0, unclear = 0, n = #cluster }
    for _, r in ipairs(cluster) do
      local said = read(r.answer)
      local kind = kind_of(said, is_yes(r))
      if said == nil then c.unclear = c.unclear + 1 end
      if kind then c[kind] = c[kind] + 1 end
    end
    list[i] = c
  end
  return list
end

-- The counts of all, each cluster so many times (from 0); once without times.
local function total(counts, times)
  local all = { tp = 0, fp = 0, tn = 0, fn = 0, unclear = 0, n = 0 }
  for i, c in ipairs(counts) do
    local k = times and times[i - 1] or 1
    if k > 0 then
      for name in pairs(all) do all[name] = all[name] + k * c[name] end
    end
  end
  return all
end

-- ---- numbers ---------------------------------------------------------------------------------------

local RATIOS = {
  accuracy = function(c) return c.tp + c.tn, c.n end,
  precision = function(c) return c.tp, c.tp + c.fp end,
  recall = function(c) return c.tp, c.tp + c.fn end,
  f1 = function(c) return 2 * c.tp, 2 * c.tp + c.fp + c.fn end,
  yes_ratio = function(c) return c.tp + c.fp, c.n end,
}

local function share(a, b) return b == 0 and 0 or a / b end

-- The benchmark's own way to F1, to the last bit; it divides by 0 where nothing is right of what was said to be there.
local function f1(c)
  local precision, recall = share(c.tp, c.tp + c.fp), share(c.tp, c.tp + c.fn)
  return share(2 * precision * recall, precision + recall)
end

local function ratio_of(name, counts, n)
  local list = {}
  for i, c in ipairs(counts) do list[i] = { RATIOS[name](c) } end
  local m = statistics.ratio(list, n)
  if name == "f1" then
    local all = total(counts)
    m.value, m.undefined = f1(all), all.tp == 0 or nil
  end
  return m
end

-- Draws of the bootstrap, where they are asked for, and what they depend on.
local function draws(opt) return { draws = opt and opt.bootstrap or 0, seed = opt and opt.seed or 0 } end

local function add_intervals(metrics, intervals)
  for name, interval in pairs(intervals) do
    local m = metrics[name]
    if not m.undefined then m.low, m.high = unpack(interval) end
  end
end

--- Scores answers: accuracy, precision, recall, f1 and yes_ratio as fractions with standard errors
--- over pictures, the counts tp, fp, tn and fn, and the same under strict_* with the number of
--- unclear answers. With opt.bootstrap draws (and opt.seed) the fractions have intervals, too: low and high. What
--- there is nothing to divide by for is 0, and undefined is set.
---@param records table[]    { answer, label, image }
---@param opt { bootstrap: integer|nil, seed: integer|nil }|nil
---@return table<string, table>
function M.score(records, opt)
  local clusters, n = clusters_of(records), #records
  local metrics, by_reading = { images = { value = #clusters, n = n } }, {}
  for prefix, read in pairs(READINGS) do
    local counts = counts_of(clusters, read)
    local all = total(counts)
    by_reading[prefix] = counts
    for name in pairs(RATIOS) do metrics[prefix .. name] = ratio_of(name, counts, n) end
    for _, name in ipairs(COUNTS) do metrics[prefix .. name] = { value = all[name], n = n } end
    if prefix ~= "" then metrics.unclear = { value = all.unclear, n = n } end
  end
  add_intervals(metrics, statistics.bootstrap(#clusters, draws(opt), function(times)
    local values = {}
    for prefix, counts in pairs(by_reading) do
      local all = total(counts, times)
      for name, parts in pairs(RATIOS) do values[prefix .. name] = share(parts(all)) end
    end
    return values
  end))
  return metrics
end

-- ---- two runs --------------------------------------------------------------------------------------

--- Compares answers with earlier ones to the same questions, pair by pair: by how much more of them are right, with its
--- standard error over pictures and its interval; how many are right only now (better) or only then (worse); and
--- McNemar's p. All under compare_*, and strict_compare_*. Records without an earlier answer are counted: compare_unmatched.
---@param records table[]    { answer, earlier, label, image }
---@param opt { bootstrap: integer|nil, seed: integer|nil }|nil
---@return table<string, table>
function M.compare(records, opt)
  local matched = {}
  for _, r in ipairs(records) do
    if r.earlier then matched[#matched + 1] = r end
  end
  local clusters = clusters_of(matched)
  local metrics = { compare_unmatched = { value = #records - #matched, n = #records } }
  for prefix, read in pairs(READINGS) do
    local better, worse, gains = 0, 0, {}
    local function right(r, answer) return read(answer) == (is_yes(r) and "yes" or "no") end
    for i, cluster in ipairs(clusters) do
      gains[i] = { 0, #cluster }
      for _, r in ipairs(cluster) do
        local now, before = right(r, r.answer), right(r, r.earlier)
        if now and not before then
          better, gains[i][1] = better + 1, gains[i][1] + 1
        elseif before and not now then
          worse, gains[i][1] = worse + 1, gains[i][1] - 1
        end
      end
    end
    local function add(name, m) metrics[("%scompare_%s"):format(prefix, name)] = m end
    local p, test = statistics.mcnemar(better, worse)
    add("accuracy", statistics.ratio(gains, #matched))
    add("better", { value = better, n = #matched })
    add("worse", { value = worse, n = #matched })
    add("p", { value = p, n = better + worse, test = test })
    add_intervals(metrics, statistics.bootstrap(#clusters, draws(opt), function(times)
      local a, b = 0, 0
      for i, gain in ipairs(gains) do a, b = a + times[i - 1] * gain[1], b + times[i - 1] * gain[2] end
      return { [prefix .. "compare_accuracy"] = share(a, b) }
    end))
  end
  return metrics
end

-- ---- as JSON ---------------------------------------------------------------------------------------

local function comparison(metrics, prefix)
  local function of(name) return metrics[("%scompare_%s"):format(prefix, name)] end
  local gain, p = of "accuracy", of "p"
  return { accuracy = gain.value, stderr = gain.stderr, low = gain.low, high = gain.high, n = gain.n,
    better = of("better").value, worse = of("worse").value, p = p.value, test = p.test }
end

--- Metrics as --json prints them: { official = { accuracy = 0.9, ... }, strict = { ... }, ... }, plain numbers; what is
--- known of their spread stands beside them.
---@param metrics table<string, table>
---@return table
function M.shape(metrics)
  local shaped = { n = metrics.accuracy.n, images = metrics.images.value, unclear = metrics.unclear.value }
  for name, prefix in pairs { official = "", strict = "strict_" } do
    local values, spread, undefined = {}, {}, {}
    for ratio in pairs(RATIOS) do
      local m = metrics[prefix .. ratio]
      values[ratio] = m.value
      spread[ratio] = { stderr = m.stderr, low = m.low, high = m.high }
      undefined[ratio] = m.undefined
    end
    for _, count in ipairs(COUNTS) do values[count] = metrics[prefix .. count].value end
    shaped[name], shaped[name .. "_spread"] = values, spread
    shaped[name .. "_undefined"] = next(undefined) and undefined or nil
    if metrics.compare_p then
      shaped.compare = shaped.compare or { unmatched = metrics.compare_unmatched.value }
      shaped.compare[name] = comparison(metrics, prefix)
    end
  end
  return shaped
end

return M
