-- Stage 5: yes/no questions with a right and a hallucinated answer: of some things that are there, and of the most
-- tempting ones that are not; or, --questions judge, of what the judge found when it corrected the description.
local asking = require "lucid.mine.asking"
local claims = require "lucid.claims"
local data_pope = require "lucid.data.pope"
local json = require "lucid.json"
local lines = require "lucid.mine.lines"
local nouns_of = require "lucid.nouns"
local rng = require "lucid.rng"
local source = require "lucid.mine.source"

local M = {
  from = { "correct", "select" },
  asks = true,
  options = asking.options "questions statistics prompt-questions present absent seed",
}

-- The names of the annotated things of a picture, in their order.
local function names_of(picture, nouns) return { unpack(claims.facts(picture, nouns)) } end

--- How often things occur, alone and beside each other.
---@param each fun(): string[]|nil     the names of picture after picture
---@param nouns table
---@return table statistics            names, most frequent first; counts; together[a][b]
function M.statistics(each, nouns)
  local counts, together = {}, {}
  for names in each do
    for _, a in ipairs(names) do
      counts[a], together[a] = (counts[a] or 0) + 1, together[a] or {}
      for _, b in ipairs(names) do together[a][b] = (together[a][b] or 0) + 1 end
    end
  end
  local names = data_pope.ranked(counts)
  for _, name in ipairs(nouns.names) do                     -- what never occurs can be asked for, too
    if not counts[name] then names[#names + 1] = name end
  end
  return { names = names, counts = counts, together = together }
end

-- The pictures that are counted: those of --statistics, or the selected ones.
local function pictures(run, nouns)
  if run.opt.statistics == "" then
    local each = lines.kept(run:file "select")
    return function()
      local r = each()
      return r and names_of(r, nouns)
    end
  end
  local from, i = source.open({ images = run.opt.statistics }, run.cache), 0
  return function()
    i = i + 1
    return from.ids[i] and names_of(from:get(from.ids[i]), nouns) or nil
  end
end

-- Absent things, most tempting first: what this picture's description made up, then by how often a thing occurs beside
-- one that is there.
local function tempting(made_up, present, statistics)
  local taken, score, rank, list = {}, {}, {}, {}
  for _, name in ipairs(present) do taken[name] = true end
  for _, name in ipairs(made_up) do score[name] = 2 end
  for i, name in ipairs(statistics.names) do
    rank[name] = i
    if not taken[name] then
      local s = score[name] or 0
      for _, p in ipairs(present) do
        local together = statistics.together[p] and statistics.together[p][name] or 0
        local alone = statistics.counts[p] or 0
        if alone > 0 then s = math.max(s, together / alone) end
      end
      score[name] = s
      list[#list + 1] = name
    end
  end
  table.sort(list, function(a, b)
    if score[a] ~= score[b] then return score[a] > score[b] end
    return rank[a] < rank[b]
  end)
  return list
end

local function question(name, yes)
  local article = nouns_of.article(name)
  local there, missing = ("Yes, there is %s %s."):format(article, name), ("No, there is no %s."):format(name)
  return { question = ("Is there %s %s in the image?"):format(article, name), answer = yes and "yes" or "no",
    chosen = yes and there or missing, rejected = yes and missing or there }
end

--- The questions about one picture.
---@param picture table       as selected
---@param made_up string[]    names of things that its description made up
---@param statistics table    of M.statistics
---@param opt table           nouns, present, absent, seed
---@return table[]            { question, answer, chosen, rejected }
function M.of(picture, made_up, statistics, opt)
  local present, list = names_of(picture, opt.nouns), json.array {}
  local absent = tempting(made_up, present, statistics)
  rng(opt.seed, "mine:questions:" .. picture.image_id):shuffle(present)
  for k = 1, math.min(opt.present, #present) do list[#list + 1] = question(present[k], true) end
  for k = 1, math.min(opt.absent, #absent) do list[#list + 1] = question(absent[k], false) end
  return list
end

--- What the stage keeps between its parts of the pictures.
---@param run lucid.Mining
---@return table
function M.begin(run)
  local nouns = run:nouns()
  return { find = lines.ahead(run:file "select"), how = { nouns = nouns, present = run.opt.present, absent = run.opt.absent,
    seed = run.opt.seed }, statistics = run.opt.questions == "annotations" and M.statistics(pictures(run, nouns), nouns) or nil }
end

-- By a judge, from what it said of the sentences.
local function asked(run, inputs)
  local requests, list = {}, {}
  for i, r in ipairs(inputs) do
    local texts, labels = {}, {}
    for k, s in ipairs(r.sentences) do texts[k], labels[k] = s.text, s.label end
    requests[i] = asking.request(run, "questions", run.state.find(r.image_id), { sentences = texts, labels = labels,
      corrected = r.corrected, present = run.opt.present, absent = run.opt.absent })
  end
  for i, answer in ipairs(asking.ask(run, requests, asking.questions)) do
    local id = inputs[i].image_id
    list[i] = answer.lost and asking.lost(id, answer) or { image_id = id, questions = answer.value, tries = answer.tries }
  end
  return list
end

--- One line of each input, in the same order.
---@param run lucid.Mining
---@param inputs table[]
---@return table[]
function M.work(run, inputs)
  if run.opt.questions == "judge" then return asked(run, inputs) end
  local list = {}
  for i, r in ipairs(inputs) do
    local found = M.of(run.state.find(r.image_id), r.made_up, run.state.statistics, run.state.how)
    list[i] = { image_id = r.image_id, questions = found, left_out = #found == 0 and "nothing to ask" or nil }
  end
  return list
end

return M
