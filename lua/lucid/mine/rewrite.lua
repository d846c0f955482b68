-- Stage 4: the right and the wrong text of a picture are written again, both by the same judge under the same request,
-- so that nothing but their content tells them apart. Beside the description and its correction, --omission makes pairs
-- whose rejected text leaves out something that is there: they keep a model from saying less.
local asking = require "lucid.mine.asking"
local claims = require "lucid.claims"
local lines = require "lucid.mine.lines"
local rng = require "lucid.rng"
local sentences = require "lucid.sentences"

local M = {
  from = { "correct", "select" },
  asks = true,
  options = asking.options "prompt-rewrite variants omission omit seed",
}

-- How often each thing was made up, over all pictures.
local function count_made_up(path)
  local counts = {}
  for r in lines.kept(path) do
    for _, name in ipairs(r.made_up) do counts[name] = (counts[name] or 0) + 1 end
  end
  return counts
end

--- What the stage keeps between its parts of the pictures.
---@param run lucid.Mining
---@return table
function M.begin(run)
  return { find = lines.ahead(run:file "select"), nouns = run:nouns(), counts = count_made_up(run:file "correct") }
end

--- True texts without some of their sentences, at most count of them, each without others: sentences that name what is
--- made up most elsewhere go first, for these are the ones that training tempts a model to leave out.
---@param list string[]          the sentences of the true text
---@param count integer
---@param opt table              omit: sentences that go, image_id, seed, nouns, counts: how often a thing was made up
---@return table
function M.shortened(list, count, opt)
  local random, ranked, versions = rng(opt.seed, "mine:omit:" .. opt.image_id), {}, {}
  for i, sentence in ipairs(list) do
    local weight = 0
    for _, c in ipairs(opt.nouns and claims.of(sentence, opt.nouns) or {}) do
      weight = math.max(weight, opt.counts[c.name] or 0)
    end
    ranked[i] = { i = i, weight = weight + random:uniform() }
  end
  table.sort(ranked, function(a, b) return a.weight > b.weight end)
  local each = math.min(opt.omit, #list - 1)
  for from = 1, each > 0 and #list - each + 1 or 0, each do
    if #versions == count then break end
    local dropped, kept = {}, {}
    for k = from, from + each - 1 do dropped[ranked[k].i] = true end
    for i, sentence in ipairs(list) do
      if not dropped[i] then kept[#kept + 1] = sentence end
    end
    versions[#versions + 1] = kept
  end
  return versions
end

--- Pairs of texts before they are rewritten, as lists of sentences; or nil and why there are none.
---@param r table            a line of the stage before
---@param opt table          omission, omit, seed, nouns, counts
---@return table[]|nil drafts, string|nil reason
function M.drafts(r, opt)
  if r.corrected == "" then return nil, "nothing true is left" end
  local list, chosen = {}, sentences.split(r.corrected)
  if r.faults > 0 then
    list[1] = { source = "corrected", chosen = chosen, rejected = sentences.split(r.response) }
  end
  local count = math.floor(opt.omission + rng(opt.seed, "mine:omission:" .. r.image_id):uniform())
  for _, rejected in ipairs(M.shortened(chosen, count, { omit = opt.omit, seed = opt.seed, image_id = r.image_id,
    nouns = opt.nouns, counts = opt.counts })) do
    list[#list + 1] = { source = "omission", chosen = chosen, rejected = rejected }
  end
  if #list == 0 then return nil, "nothing is made up" end
  return list
end

-- Requests for all texts of a picture's drafts; a text that stands in several is asked for once.
local function add_requests(run, requests, r, drafts)
  local picture, known = run.state.find(r.image_id), {}
  local function ask(list)
    local text = sentences.join(list)
    if not known[text] then
      requests[#requests + 1] = asking.request(run, "rewrite", picture, { sentences = list, variants = run.opt.variants })
      known[text] = #requests
    end
    return known[text]
  end
  for _, d in ipairs(drafts) do d.ask_chosen, d.ask_rejected = ask(d.chosen), ask(d.rejected) end
end

-- The line of a picture: its pairs; where no text came back, why.
local function line(r, drafts, answers)
  local pairs_made, lost, tries = {}, nil, 0
  for _, d in ipairs(drafts) do
    local chosen, rejected = answers[d.ask_chosen], answers[d.ask_rejected]
    tries = math.max(tries, chosen.tries, rejected.tries)
    if chosen.lost or rejected.lost then
      lost = chosen.lost and chosen or rejected
      pairs_made[#pairs_made + 1] = { source = d.source, lost = lost.lost }
    else
      pairs_made[#pairs_made + 1] = { source = d.source, chosen = chosen.value, rejected = rejected.value }
    end
  end
  for _, p in ipairs(pairs_made) do
    if not p.lost then return { image_id = r.image_id, pairs = pairs_made, tries = tries } end
  end
  return asking.lost(r.image_id, lost)
end

--- One line of each input, in the same order.
---@param run lucid.Mining
---@param inputs table[]
---@return table[]
function M.work(run, inputs)
  local requests, drafts, reasons, list = {}, {}, {}, {}
  local how = { omission = run.opt.omission, omit = run.opt.omit, seed = run.opt.seed, nouns = run.state.nouns,
    counts = run.state.counts }
  for i, r in ipairs(inputs) do
    drafts[i], reasons[i] = M.drafts(r, how)
    if drafts[i] then add_requests(run, requests, r, drafts[i]) end
  end
  local answers = #requests > 0 and asking.ask(run, requests, asking.versions) or {}
  for i, r in ipairs(inputs) do
    list[i] = drafts[i] and line(r, drafts[i], answers) or { image_id = r.image_id, left_out = reasons[i] }
  end
  return list
end

return M
