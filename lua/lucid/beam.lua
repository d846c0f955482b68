-- Beam search over a generator's leaves: each request has beams of its own, and all grow together. A beam that
-- goes on in several ways forks: keys and values are shared, nothing is copied; one that goes on in none ends at once.
--
-- Two rule books decide which hypotheses count, what they are worth and when a search is over: "full" is that of
-- transformers before 4.36, "new" today's. Both rank the best continuations of all beams by the sum of their
-- log-probabilities and take an end of answer only from among the first `beams` of them. "full" divides
-- that sum by the length of prompt and answer, the end id not counted; "new" by that of the answer, the
-- end id counted.
local ffi = require "ffi"
local native = require "lucid.native"

local C = native.C
local M = {}

-- ---- hypotheses ----------------------------------------------------------------------------------

-- A hypothesis' ids are a chain from its last one back: beams share their past here, too.
local function ids_of(node)
  local ids, logps = {}, {}
  while node do
    table.insert(ids, 1, node.id)
    table.insert(logps, 1, node.logp)
    node = node.before
  end
  return ids, logps
end

---@class lucid.BeamSearch
---@field beams table[]        the live ones { leaf =, sum =, node = }, best first
---@field finished table[]     hypotheses { score =, node =, reason = }
---@field made integer         tokens of every live beam
---@field over boolean
local Search = {}
Search.__index = Search

local function new_search(leaf, item, s, stops)
  return setmetatable({
    beams = { { leaf = leaf, sum = 0 } }, finished = {}, made = 0, over = item.most < 1,
    length = item.length, most = item.most, width = s.beams, power = s.length_penalty, early = s.early_stopping,
    is_end = s.is_end, stops = stops, watched = #s.stop_ids > 0,
  }, Search)
end

-- The continuations of all beams, best first; equal ones in the order of their beams and ids.
local function candidates(self, k, ids, logps)
  local list = {}
  for place, beam in ipairs(self.beams) do
    for j = beam.leaf * k, beam.leaf * k + k - 1 do
      list[#list + 1] = { beam = beam, place = place, id = ids[j], logp = logps[j], sum = beam.sum + logps[j] }
    end
  end
  table.sort(list, function(a, b)
    if a.sum ~= b.sum then return a.sum > b.sum end
    if a.place ~= b.place then return a.place < b.place end
    return a.id < b.id
  end)
  for i = #list, k + 1, -1 do list[i] = nil end
  return list
end

local function extended(c) return { id = c.id, logp = c.logp, before = c.beam.node } end

-- ---- transformers before 4.36 --------------------------------------------------------------------

local full = {}

-- Keeps the best `width` hypotheses; of equal ones the oldest goes first.
local function keep(self, node, sum, length, reason)
  local score = sum / length ^ self.power
  local list = self.finished
  if #list == self.width then
    local worst = 1
    for i = 2, #list do
      if list[i].score < list[worst].score then worst = i end
    end
    if score <= list[worst].score then return end
    table.remove(list, worst)
  end
  list[#list + 1] = { score = score, node = node, reason = reason }
end

local function worst_of(list)
  local worst = math.huge
  for _, h in ipairs(list) do worst = math.min(worst, h.score) end
  return worst
end

-- Whether no beam is expected to become better than what there is. best: the greatest sum so far.
local function decided(self, best)
  if #self.finished < self.width then return false end
  if self.early == true then return true end
  local length = self.early == "never" and self.power > 0 and self.most or self.made
  return worst_of(self.finished) >= best / (self.length + length) ^ self.power
end

-- Chooses among ranked continuations; those that go on.
function full.choose(self, list)
  local on = {}
  for rank, c in ipairs(list) do
    if not self.is_end[c.id] then
      on[#on + 1] = c
    elseif rank <= self.width then
      keep(self, c.beam.node, c.sum, self.length + self.made, "eos")
    end
    if #on == self.width then break end
  end
  self.made = self.made + 1
  self.over = decided(self, list[1].sum)
  if self.over then return on end
  -- A stop ends the whole search, and only that of the first beam is looked at.
  local stopped = on[1] and self.watched and self.stops.ids(ids_of(extended(on[1])))
  if not stopped and self.made < self.most then return on end
  for i, c in ipairs(on) do
    keep(self, extended(c), c.sum, self.length + self.made, stopped and i == 1 and "stop" or "length")
  end
  self.over = true
  return on
end

-- Best first; of equal ones the youngest.
function full.order(list)
  local order = {}
  for i, h in ipairs(list) do order[i] = { h = h, i = i } end
  table.sort(order, function(a, b)
    if a.h.score ~= b.h.score then return a.h.score > b.h.score end
    return a.i > b.i
  end)
  for i, entry in ipairs(order) do order[i] = entry.h end
  return order
end

-- ---- today's transformers ------------------------------------------------------------------------

local new = {}

local function stop_reason(self, c)
  if self.is_end[c.id] then return "eos" end
  if self.stops.text or self.watched then
    local ids = ids_of(extended(c))
    if self.watched and self.stops.ids(ids) or self.stops.text and self.stops.text(ids) then return "stop" end
  end
  return self.made == self.most and "length" or nil
end

-- Puts a hypothesis in its place among the finished, best first, and drops the last of too many.
local function place(self, h)
  local list, at = self.finished, #self.finished + 1
  while at > 1 and h.score > list[at - 1].score do at = at - 1 end
  table.insert(list, at, h)
  list[self.width + 1] = nil
end

local function improvable(self, best)
  if #self.finished < self.width then return true end
  local length = self.early == "never" and self.power > 0 and self.most or self.made
  return best / length ^ self.power > self.finished[self.width].score
end

function new.choose(self, list)
  local on, ended = {}, {}
  self.made = self.made + 1
  for rank, c in ipairs(list) do
    local reason = stop_reason(self, c)
    if not reason then
      if #on < self.width then on[#on + 1] = c end
    elseif rank <= self.width then
      local node = c.beam.node                            -- without the id that ends an answer
      if reason ~= "eos" then node = extended(c) end
      ended[#ended + 1] = { score = c.sum / self.made ^ self.power, node = node, reason = reason }
    end
  end
  if not (self.early == true and #self.finished == self.width) then
    for _, h in ipairs(ended) do place(self, h) end
  end
  self.over = #on == 0 or not improvable(self, on[1].sum) or self.early == true and #self.finished == self.width
  return on
end

function new.order(list) return list end

-- ---- leaves --------------------------------------------------------------------------------------

local RULES = { full = full, new = new }

-- Beams that nothing continues end; one that several continue forks before any of these chooses.
local function move_on(self, g, on)
  local taken, beams = {}, {}
  for _, c in ipairs(on) do taken[c.beam] = not self.over end
  for _, beam in ipairs(self.beams) do
    if not taken[beam] then native.check(C.lc_generator_end(g, beam.leaf)) end
  end
  for i, c in ipairs(self.over and {} or on) do
    local leaf = c.beam.leaf
    if taken[c.beam] == "used" then leaf = native.check(C.lc_generator_fork(g, leaf)) end
    taken[c.beam] = "used"
    beams[i] = { leaf = leaf, sum = c.sum, node = extended(c) }
  end
  for _, beam in ipairs(beams) do native.check(C.lc_generator_choose(g, beam.leaf, beam.node.id)) end
  self.beams = beams
end

local function hypotheses(self, rules)
  local list = {}
  for i, h in ipairs(rules.order(self.finished)) do
    local ids, logps = ids_of(h.node)
    list[i] = { ids = ids, logps = logps, score = h.score, reason = h.reason }
  end
  if #list == 0 then list[1] = { ids = {}, logps = {}, score = 0, reason = "length" } end
  return list
end

--- Searches from every leaf of a new generator; for each the hypotheses, best first: { ids, logps, score, reason }.
---@param g any                            a generator; its leaves are the requests
---@param items lucid.PreparedRequest[]
---@param s lucid.GenerateOptions          complete, with ends and is_end
---@param stops table                      ids(list), text(list) -> whether they stop an answer
---@return table[]
function M.search(g, items, s, stops)
  local rules = RULES[s.length_norm]
  local k = math.max(2, 1 + #s.ends) * s.beams            -- enough to go on where every beam could end
  local searches, open = {}, 0
  for i, item in ipairs(items) do
    searches[i] = new_search(i - 1, item, s, stops)
    if searches[i].over then move_on(searches[i], g, {}) else open = open + 1 end
  end
  local room, ids, logps = 0, nil, nil
  while open > 0 do
    local leaves = C.lc_generator_leaves(g)
    if leaves > room then
      room = 2 * leaves
      ids, logps = ffi.new("int32_t[?]", room * k), ffi.new("float[?]", room * k)
    end
    native.check(C.lc_generator_best(g, k, ids, logps))
    for _, search in ipairs(searches) do
      if not search.over then
        move_on(search, g, rules.choose(search, candidates(search, k, ids, logps)))
        if search.over then open = open - 1 end
      end
    end
  end
  for i, search in ipairs(searches) do searches[i] = hypotheses(search, rules) end
  return searches
end

return M
