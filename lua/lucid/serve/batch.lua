-- The answers that grow together: sequences join and leave between two tokens of the others, and those on one picture
-- share its trunk. An answer's bits are those that it has alone.
--
--   local batch = Batch.new(model, { trunk_budget = 2 ^ 30 })
--   local sequence = batch:join { ids =, features =, key =, settings =, stream =, top =, say = function(sequence) end }
--   batch:step()                        -- one token for each; say is called with what has grown
--   batch:leave(sequence)               -- before it is over
local ffi = require "ffi"
local answer = require "lucid.answer"
local forest = require "lucid.forest"
local generate = require "lucid.generate"
local native = require "lucid.native"
local trunks = require "lucid.serve.trunks"

local C, check = native.C, native.check
local M = {}
local Batch = {}
Batch.__index = Batch

---@class lucid.ServedSequence
---@field leaf integer
---@field answer table            lucid.answer's; its reason is set once it is over
---@field pieces string[]         text that say has not seen
---@field tokens table[]          { id, logp, top = { { id, logp }, ... } } that say has not seen

local function id_list(ids) return ffi.new("int32_t[?]", math.max(#ids, 1), ids), #ids end

-- An empty generator, and the set of its trunks.
local function start(self)
  local m, s = self.model, generate.complete(self.model, {})
  local g = ffi.gc(check(C.lc_generator_new(m.handle, nil, m.positions, m.adapters)), C.lc_generator_free)
  check(C.lc_generator_ends(g, id_list(s.ends)))
  if s.words then check(C.lc_generator_words(g, s.words)) end
  self.g, self.sequences, self.count, self.resting = g, {}, 0, 0
  local old = self.trunks
  self.trunks = trunks.new(self.budget, function(leaf) check(C.lc_generator_end(g, leaf)) end)
  if old then self.trunks.hits, self.trunks.misses = old.hits, old.misses end
  self.row_bytes = tonumber(C.lc_generator_row_bytes(g))
end

--- A batch of a model: what joins is answered with the adapter where the model has it on.
---@param model lucid.Model
---@param opt table         trunk_budget: bytes of keys and values that trunks may hold
---@return table
function M.new(model, opt)
  local self = setmetatable({ model = model, budget = opt.trunk_budget, made = 0 }, Batch)
  start(self)
  return self
end

--- Gives everything back.
function Batch:close() C.lc_generator_free(ffi.gc(self.g, nil)) end

--- Begins anew, without sequences and trunks: what an error in the middle of a pass leaves is not to be trusted.
function Batch:reset()
  self:close()
  start(self)
end

-- Where a prompt's trunk ends: with the picture, or with the first id.
local function trunk_end(ids)
  for i, id in ipairs(ids) do
    if id == forest.IMAGE then return i end
  end
  return 1
end

local function trunk_of(item)
  local n = trunk_end(item.ids)
  return n, ("%s:%s"):format(table.concat(item.ids, ",", 1, n), item.key or "")
end

local function run_trunk(self, item, n)
  local f = forest.new { { tokens = { unpack(item.ids, 1, n) }, image = item.image } }
  local rows = n + (item.image and self.model.image_rows - 1 or 0)
  return check(C.lc_generator_trunk(self.g, self.model:batch(f))), rows * self.row_bytes
end

local function join(self, item)
  local n, key = trunk_of(item)
  local trunk = self.trunks:get(key, function() return run_trunk(self, item, n) end)
  local leaf = check(C.lc_generator_join(self.g, trunk, id_list { unpack(item.ids, n + 1) }))
  local s = generate.complete(self.model, item.settings)
  check(C.lc_generator_leaf_sampling(self.g, leaf, s.temperature, s.top_k, s.top_p, s.seed))
  check(C.lc_generator_stream(self.g, leaf, item.stream or 0))
  local most = math.min(s.max_new_tokens, tonumber(C.lc_generator_room(self.g, leaf)))
  local sequence = { leaf = leaf, item = item, pieces = {}, tokens = {}, batch = self }
  sequence.answer = answer.new(self.model.tokenizer, most, s, function(piece) table.insert(sequence.pieces, piece) end)
  if most < 1 then check(C.lc_generator_end(self.g, leaf)) end
  return sequence
end

--- A prompt's sequence, which grows from the next step on.
---@param item table     ids, image (as model:picture gives it), key (of the picture), settings, stream (of random
---   numbers), top (alternatives a token; nil: no log-probabilities), say
---@return lucid.ServedSequence
function Batch:join(item)
  local sequence = native.scope(native.no_grad, join, self, item)
  if not sequence.answer.reason then
    self.sequences[sequence.leaf], self.count = sequence, self.count + 1
  end
  return sequence
end

--- A sequence is done, or not wanted any more.
---@param sequence table
function Batch:leave(sequence)
  if self.sequences[sequence.leaf] ~= sequence then return end
  self:rest(sequence, false)
  check(C.lc_generator_end(self.g, sequence.leaf))
  self.sequences[sequence.leaf], self.count = nil, self.count - 1
end

--- A sequence whose reader is slow takes no part until it is woken.
---@param sequence table
---@param on boolean
function Batch:rest(sequence, on)
  if (sequence.rests or false) == on or self.sequences[sequence.leaf] ~= sequence then return end
  check(C.lc_generator_rest(self.g, sequence.leaf, on and 1 or 0))
  sequence.rests = on
  self.resting = self.resting + (on and 1 or -1)
end

-- The likeliest tokens in the place of the one that was chosen.
local function likeliest(self, leaf, k)
  local ids, logps, list = ffi.new("int32_t[?]", k), ffi.new("float[?]", k), {}
  check(C.lc_generator_likeliest(self.g, leaf, k, ids, logps))
  for i = 0, k - 1 do list[i + 1] = { id = ids[i], logp = logps[i] } end
  return list
end

local function push(self, sequence, id, logp)
  local a = sequence.answer
  if sequence.item.top and not a.s.is_end[id] then
    table.insert(sequence.tokens, { id = id, logp = logp,
      top = sequence.item.top > 0 and likeliest(self, sequence.leaf, sequence.item.top) or {} })
  end
  self.made = self.made + 1
  if a:push(id, logp) then self:leave(sequence) end
end

local function step(self)
  local n = C.lc_generator_leaves(self.g)
  local tokens, logps = ffi.new("int32_t[?]", n), ffi.new("float[?]", n)
  check(C.lc_generator_step(self.g, tokens, logps))
  local grown = {}
  for leaf = 0, n - 1 do
    local sequence = self.sequences[leaf]
    if sequence and tokens[leaf] >= 0 then
      if logps[leaf] ~= logps[leaf] then
        error("the model's numbers are none (NaN); lucid inspect --check looks at its weights", 0)
      end
      push(self, sequence, tokens[leaf], logps[leaf])
      grown[#grown + 1] = sequence
    end
  end
  return grown
end

--- One token for every sequence that does not rest.
function Batch:step()
  if self.count <= self.resting then return end
  for _, sequence in ipairs(native.scope(native.no_grad, step, self)) do sequence.item.say(sequence) end
end

return M
