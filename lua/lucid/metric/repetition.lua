-- How varied a text is: distinct n-grams / all n-grams, n = 1 to 4, as SHR's scorer prints them (a
-- higher number is less repetition). A text with fewer than n words counts as 1.0 and is flagged as
-- short.
local ratios = require "lucid.ratios"
local whitespace = require "lucid.whitespace"

local M = { needs = "descriptions" }

M.LONGEST = 4

--- Distinct n-grams / all n-grams of a text; true as second value when it has none.
---@param text string
---@param n integer
---@return number, boolean
function M.gram(text, n)
  local words = whitespace.words((text:gsub("[.:\n?,]", "")))
  local total = #words - n + 1
  if total < 1 then return 1, true end
  local seen, distinct = {}, 0
  for i = 1, total do
    local gram = table.concat(words, "\0", i, i + n - 1)
    if not seen[gram] then seen[gram], distinct = true, distinct + 1 end
  end
  return distinct / total, false
end

--- The mean over descriptions, under gram_1 to gram_4.
---@param records table[]    { response }
---@param opt table|nil      bootstrap and seed of the intervals
---@return table
function M.score(records, opt)
  local grams, short, parts = {}, {}, {}
  for i, r in ipairs(records) do
    grams[i] = {}
    for n = 1, M.LONGEST do
      local value, is_short = M.gram(r.response, n)
      grams[i][n] = value
      if is_short then short[n] = (short[n] or 0) + 1 end
    end
  end
  for n = 1, M.LONGEST do parts["gram_" .. n] = function(c) return c[n], 1 end end
  local metrics = ratios(grams, parts, { n = #records, bootstrap = opt and opt.bootstrap, seed = opt and opt.seed })
  for n = 1, M.LONGEST do metrics["gram_" .. n].short = short[n] end
  return metrics
end

return M
