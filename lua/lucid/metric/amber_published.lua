-- AMBER's numbers of questions as the benchmark's program prints them: percentages to one place, of answers
-- that are "Yes" or "No" to the letter (any other is wrong; `neither` says how many), with its small numbers against
-- division by 0, F1 from the rounded precision and recall. Its numbers of descriptions need its word vectors.
local amber = require "lucid.metric.amber"
local decimal = require "lucid.decimal"

local M = { needs = "descriptions" }

local NEAR_ZERO = 0.001             -- where every denominator begins

-- What F1's denominator has more; one part has another.
local MORE, MORE_OF = 1e-4, { existence_ = 1e-3 }

local function percent(a, b) return decimal.round(a / b * 100, 1) end

-- right answers, questions, right "No", questions to which it is right, answers "No"
local function new() return { right = 0, n = NEAR_ZERO, found = 0, no = NEAR_ZERO, said_no = NEAR_ZERO } end

local function take(c, record)
  local no, said_no = record.truth == "no", record.response == "No"
  local right = said_no and no or record.response == "Yes" and not no
  c.n = c.n + 1
  if right then c.right = c.right + 1 end
  if no then c.no = c.no + 1 end
  if said_no then c.said_no = c.said_no + 1 end
  if said_no and no then c.found = c.found + 1 end
end

-- The sum of the counts of some kinds.
local function sum_of(by_kind, kinds)
  local sum = { right = 0, n = 0, found = 0, no = 0, said_no = 0 }
  for kind in kinds:gmatch("%S+") do
    for name, v in pairs(by_kind[kind]) do sum[name] = sum[name] + v end
  end
  return sum
end

--- Scores answers; descriptions among the records are passed over.
---@param records table[]
---@return table<string, table>
function M.score(records)
  local by_kind, all, asked, neither = {}, new(), 0, 0
  for kind in amber.GROUPS[""]:gmatch("%S+") do by_kind[kind] = new() end
  for _, record in ipairs(records) do
    if record.kind ~= "description" then
      take(by_kind[record.kind], record)
      take(all, record)
      asked = asked + 1
      if record.response ~= "Yes" and record.response ~= "No" then neither = neither + 1 end
    end
  end
  local metrics = { neither = { value = neither, n = asked } }
  for group, kinds in pairs(amber.GROUPS) do
    local c = group == "" and all or sum_of(by_kind, kinds)
    local precision, recall = percent(c.found, c.said_no), percent(c.found, c.no)
    local p, r = precision / 100, recall / 100
    local n = group == "" and asked or math.floor(c.n + 0.5)
    for name, value in pairs { accuracy = percent(c.right, c.n), precision = precision, recall = recall,
      f1 = decimal.round(2 * p * r / (p + r + (MORE_OF[group] or MORE)) * 100, 1) } do
      metrics[group .. name] = { value = value, n = n }
    end
  end
  return metrics
end

return M
