-- CHAIR (Rohrbach et al. 2018): which of the things that captions name are not in the pictures. Things
-- are found by a noun table alone: the longest phrase first, plurals by rule.
--
--   chair_i  mentions of things that are not there / mentions of things
--   chair_s  captions with such a mention / captions
--   recall   things of the pictures that their captions name / things of the pictures
--
-- A record: { image_id, response, truth }, truth the table's names of what is there.
local ratios = require "lucid.ratios"
local whitespace = require "lucid.whitespace"

local M = { needs = "descriptions" }

local METRICS = {
  chair_i = function(c) return c.made_up, c.mentions end,
  chair_s = function(c) return c.bad, 1 end,
  recall = function(c) return c.named, c.things end,
  words_per_caption = function(c) return c.words, 1 end,
  mentions_per_caption = function(c) return c.mentions, 1 end,
}

-- Looks at one record: its counts, and record.mentions = { { name, word, there } } in the text's order.
local function examine(record, nouns)
  local there, named = {}, {}
  local c = { mentions = 0, made_up = 0, bad = 0, named = 0, things = 0, words = #whitespace.words(record.response) }
  for _, name in ipairs(record.truth) do
    if not there[name] then there[name], c.things = true, c.things + 1 end
  end
  record.mentions = {}
  for i, m in ipairs((nouns:mentions(record.response))) do
    local is_there = there[m.name] or false
    record.mentions[i] = { name = m.name, word = record.response:sub(m.first, m.last), there = is_there }
    c.mentions = c.mentions + 1
    if not is_there then c.made_up, c.bad = c.made_up + 1, 1 end
    if is_there and not named[m.name] then named[m.name], c.named = true, c.named + 1 end
  end
  return c
end

--- Scores captions.
---@param records table[]
---@param opt table      nouns: the noun table; bootstrap and seed of the intervals
---@return table<string, table>
function M.score(records, opt)
  local counts, silent = {}, 0
  for i, record in ipairs(records) do
    if type(record.response) ~= "string" or type(record.truth) ~= "table" then
      error(("chair: record %d needs a response and its picture's truth"):format(i), 2)
    end
    counts[i] = examine(record, opt.nouns)
    if counts[i].mentions == 0 then silent = silent + 1 end
  end
  local metrics = ratios(counts, METRICS, { n = #records, bootstrap = opt.bootstrap, seed = opt.seed })
  metrics.captions_without_mention = { value = silent, n = #records }
  return metrics
end

return M
