-- AMBER (Wang et al. 2023). Questions: "no" counts as the positive answer, the one that finds a hallucination.
-- Descriptions, by words alone (rule "lexical"; the benchmark's program tags words and compares vectors):
--
--   chair   mentions of things that are not there / mentions
--   cover   things that are there and are mentioned / things that are there
--   hal     descriptions with a mention of what is not there / descriptions
--   cog     expected inventions that are mentioned / expected inventions (as the program has it)
--   cog_of_mentions   mentions of expected inventions / mentions (as the paper has it)
--   amber_score       (1 - chair + f1) / 2
--
-- A record: { id, image, kind, truth, hallu, response }: lucid.data.amber. Errors are over pictures, where they
-- are known.
local nouns = require "lucid.nouns"
local pope = require "lucid.metric.pope"
local ratios = require "lucid.ratios"
local whitespace = require "lucid.whitespace"

local M = { needs = "descriptions" }

local function set(text)
  local list = {}
  for word in text:gmatch("%S+") do list[word] = true end
  return list
end

-- ---- descriptions -----------------------------------------------------------------------------------

-- Words of the benchmark's lists that are often no things ("can", "light"): in the singular they count only
-- behind a determiner, or behind one and a common adjective.
local DOUBTFUL = set [[bail bill board brush can core drain drawing drink file grill ground hot individual light
  leave line lock lounge note orange pack paddle plug range ring sailing signal skate ski snack sound spray star
  support switch warp watch wire]]
local DETERMINERS = set [[a an the this that these those one another some any each every no his her its their my
  your our two three four five six seven eight nine ten several many few both]]
local ADJECTIVES = set [[big small large little long short tall old new wooden metal plastic bright dark single
  second other]]
for _, colour in ipairs(nouns.COLOURS) do ADJECTIVES[colour] = true end

--- What finds the benchmark's words in texts: a noun table in which every word is itself.
---@param words table       of lucid.data.amber.words
---@return table
function M.table(words)
  local categories, known = {}, {}
  local function add(word)
    if not known[word] then
      known[word] = true
      categories[#categories + 1] = { name = word, synonyms = {} }
    end
  end
  for thing, related in pairs(words.related) do
    add(thing)
    for _, word in ipairs(related) do add(word) end
  end
  table.sort(categories, function(a, b) return a.name < b.name end)
  return nouns.new(categories)
end

-- Whether the word at a place is surely a thing.
local function is_thing(all, i)
  local before, earlier = all[i - 1] and all[i - 1].text, all[i - 2] and all[i - 2].text
  return not DOUBTFUL[all[i].text] or DETERMINERS[before] or ADJECTIVES[before] and DETERMINERS[earlier]
end

-- The mentions of a text: { name, word }.
local function mentions_of(text, words)
  local list = {}
  local mentions, all = words.nouns:mentions(text)
  for _, m in ipairs(mentions) do
    if is_thing(all, m.word) then list[#list + 1] = { name = m.name, word = text:sub(m.first, m.last) } end
  end
  return list
end

-- Which of some things a word means: the thing itself, else the first that it may stand for.
local function meant(word, things, related)
  for _, thing in ipairs(things) do
    if thing == word then return thing end
  end
  for _, thing in ipairs(things) do
    for _, other in ipairs(related[thing] or {}) do
      if other == word then return thing end
    end
  end
end

local function distinct(list)
  local seen, n = {}, 0
  for _, v in ipairs(list) do
    if not seen[v] then seen[v], n = true, n + 1 end
  end
  return n
end

-- Looks at a description: its counts, and record.mentions = { { name, word, there, expected } }.
local function describe(record, words)
  local covered, invented = {}, {}
  local c = { descriptions = 1, mentions = 0, made_up = 0, bad = 0, expected = 0, covered = 0, invented = 0,
    things = distinct(record.truth), traps = distinct(record.hallu), words = #whitespace.words(record.response) }
  record.mentions = mentions_of(record.response, words)
  for _, m in ipairs(record.mentions) do
    c.mentions = c.mentions + 1
    local thing = meant(m.name, record.truth, words.related)
    m.there = thing ~= nil or words.safe[m.name] or false
    if thing and not covered[thing] then covered[thing], c.covered = true, c.covered + 1 end
    if not m.there then
      c.made_up, c.bad = c.made_up + 1, 1
      local trap = meant(m.name, record.hallu, words.related)
      m.expected = trap ~= nil
      if trap then
        c.expected = c.expected + 1
        if not invented[trap] then invented[trap], c.invented = true, c.invented + 1 end
      end
    end
  end
  return c
end

local DESCRIPTIONS = {
  chair = function(c) return c.made_up, c.mentions end,
  cover = function(c) return c.covered, c.things end,
  hal = function(c) return c.bad, c.descriptions end,
  cog = function(c) return c.invented, c.traps end,
  cog_of_mentions = function(c) return c.expected, c.mentions end,
  words_per_description = function(c) return c.words, c.descriptions end,
}

-- ---- questions --------------------------------------------------------------------------------------

-- How the metrics of questions are called, and which kinds they are about.
M.GROUPS = {
  [""] = "existence state number action relation",
  existence_ = "existence", attribute_ = "state number action", state_ = "state", number_ = "number",
  action_ = "action", relation_ = "relation",
}

local RATIOS = {
  accuracy = function(q) return q.tp + q.tn, q.n end,
  precision = function(q) return q.tp, q.tp + q.fp end,
  recall = function(q) return q.tp, q.tp + q.fn end,
  f1 = function(q) return 2 * q.tp, 2 * q.tp + q.fp + q.fn end,
}

-- Counts of an answer, "no" being positive; one that says neither yes nor no is wrong and finds nothing.
local function answer(record)
  local said, no = pope.strict(record.response), record.truth == "no"
  return { n = 1, tp = said == "no" and no and 1 or 0, fp = said == "no" and not no and 1 or 0,
    tn = said == "yes" and not no and 1 or 0, fn = said ~= "no" and no and 1 or 0, unclear = said == nil and 1 or 0 }
end

-- ---- both -----------------------------------------------------------------------------------------------

local function add(into, counts)
  for name, n in pairs(counts) do into[name] = (into[name] or 0) + n end
end

-- What of a picture's counts is asked for, when it has none.
local NONE = { n = 0, tp = 0, fp = 0, tn = 0, fn = 0, unclear = 0 }
local SILENT = { descriptions = 0, mentions = 0, made_up = 0, bad = 0, expected = 0, covered = 0, invented = 0,
  things = 0, traps = 0, words = 0 }

-- The counts of every picture, as { description = counts, [group] = counts }, and the sums of all.
local function counts_of(records, words)
  local pictures, place, sum = {}, {}, {}
  for i, record in ipairs(records) do
    if type(record.response) ~= "string" then error(("amber: record %d has no response"):format(i), 3) end
    local key = record.image or i
    if not place[key] then
      place[key] = {}
      pictures[#pictures + 1] = place[key]
    end
    local function take(group, counts)
      place[key][group] = place[key][group] or {}
      sum[group] = sum[group] or {}
      add(place[key][group], counts)
      add(sum[group], counts)
    end
    if record.kind == "description" then
      take("description", describe(record, words))
    else
      local counts = answer(record)
      for group, kinds in pairs(M.GROUPS) do
        if (" " .. kinds .. " "):find(" " .. record.kind .. " ", 1, true) then take(group, counts) end
      end
    end
  end
  return pictures, sum
end

--- Scores responses; of a part that is not asked there are no metrics.
---@param records table[]
---@param opt table          words: of lucid.data.amber.words; bootstrap and seed of the intervals
---@return table<string, table>
function M.score(records, opt)
  local words = opt.words and { related = opt.words.related, safe = opt.words.safe, nouns = M.table(opt.words) }
  local pictures, sum = counts_of(records, words)
  local parts, of = {}, {}
  for name, f in pairs(sum.description and DESCRIPTIONS or {}) do
    parts[name], of[name] = function(p) return f(p.description or SILENT) end, sum.description.descriptions
  end
  for group in pairs(M.GROUPS) do
    for name, f in pairs(sum[group] and RATIOS or {}) do
      parts[group .. name], of[group .. name] = function(p) return f(p[group] or NONE) end, sum[group].n
    end
  end
  local derived = sum.description and sum[""]
    and { amber_score = function(v) return (1 - v.chair + v.f1) / 2 end } or {}
  local metrics = ratios(pictures, parts, { n = #records, derived = derived, bootstrap = opt.bootstrap, seed = opt.seed })
  for name, n in pairs(of) do metrics[name].n = n end
  for name in pairs(sum.description and DESCRIPTIONS or {}) do metrics[name].rule = "lexical" end
  for group, counts in pairs(sum) do
    if group ~= "description" then metrics[group .. "unclear"] = { value = counts.unclear, n = counts.n } end
  end
  return metrics
end

return M
