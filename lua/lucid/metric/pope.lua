-- POPE: yes/no answers against labels. Positive means yes. Two ways to read an answer, side by
-- side: the benchmark's own, under plain names, and a strict one, under strict_*, that takes only
-- clear answers.
local statistics = require "lucid.statistics"

local M = { needs = "answers" }

local NO = { No = true, ["not"] = true, no = true }

--- The benchmark's own reading: up to the first full stop, commas deleted, cut at single spaces; no
--- when a piece is No, not or no, else yes (so an empty answer is yes).
function M.official(answer)
  local text = answer:match("^([^.]*)"):gsub(",", "")
  for word in (text .. " "):gmatch("([^ ]*) ") do
    if NO[word] then return "no" end
  end
  return "yes"
end

local CLEAR = { yes = "yes", yeah = "yes", no = "no", nope = "no" }

--- A strict reading: the first word decides when it is yes or no; else whichever of the two the
--- answer holds alone; else nil, and the answer counts as wrong.
function M.strict(answer)
  local text = answer:lower():gsub("</s>", "")
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

-- Counts of one cluster: tp, fp, tn, fn, and the answers that could not be read (on either label).
local function count(clusters, read)
  local all = { tp = 0, fp = 0, tn = 0, fn = 0, unclear = 0 }
  for _, cluster in ipairs(clusters) do
    local c = { tp = 0, fp = 0, tn = 0, fn = 0, unclear = 0, n = #cluster }
    for _, r in ipairs(cluster) do
      local said = read(r.answer)
      local truth = r.label ~= "no"
      if said == nil then c.unclear = c.unclear + 1 end
      local kind = said == "yes" and (truth and "tp" or "fp")
        or said == "no" and (truth and "fn" or "tn")
        -- Unread: missed when the label is yes; when it is no it is wrong without being a yes.
        or (truth and "fn" or nil)
      if kind then c[kind] = c[kind] + 1 end
    end
    for k in pairs(all) do all[k] = all[k] + c[k] end
    cluster.counts = c
  end
  return all
end

local RATIOS = {
  accuracy = function(c) return c.tp + c.tn, c.n end,
  precision = function(c) return c.tp, c.tp + c.fp end,
  recall = function(c) return c.tp, c.tp + c.fn end,
  f1 = function(c) return 2 * c.tp, 2 * c.tp + c.fp + c.fn end,
  yes_ratio = function(c) return c.tp + c.fp, c.n end,
}

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
    table.insert(by_image[key], { answer = r.answer, label = r.label:lower() })
  end
  return list
end

--- Scores answers: accuracy, precision, recall, f1 and yes_ratio as fractions with standard errors
--- over pictures, the counts tp, fp, tn and fn, and the same under strict_* with the number of
--- unclear answers.
---@param records table[]    { answer, label, image }
---@return table<string, table>
function M.score(records)
  local clusters, n = clusters_of(records), #records
  local metrics = {}
  for prefix, read in pairs { [""] = M.official, strict_ = M.strict } do
    local all = count(clusters, read)
    for name, parts in pairs(RATIOS) do
      local list = {}
      for i, cluster in ipairs(clusters) do list[i] = { parts(cluster.counts) } end
      metrics[prefix .. name] = statistics.ratio(list, n)
    end
    for _, name in ipairs { "tp", "fp", "tn", "fn" } do
      metrics[prefix .. name] = { value = all[name], n = n }
    end
    if prefix ~= "" then metrics.unclear = { value = all.unclear, n = n } end
  end
  return metrics
end

return M
