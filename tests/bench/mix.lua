-- The operations that HA-DPO's training takes here, relative to the usual loop: both sequences of a pair whole, padded
-- to the longest of their batch, activations recomputed, policy and reference each through the vision tower, every row
-- through the head. Arithmetic, not timing: lucid.plan on the length lists of data/mix (make.lua says where they are
-- from), whole steps of 128 pairs.
--
--   bin/lucid tests/bench/mix.lua
local draw = require "lucid.draw"
local file = require "lucid.file"
local flops = require "lucid.flops"
local forest = require "lucid.forest"
local native = require "lucid.native"
local plan = require "lucid.plan"
local tensor = require "lucid.tensor"

local M = {}

local BATCH, ACCUMULATE = 16, 8                 -- as published: 16 pairs on each of 8 devices are a step
local TRUNK, QUESTION, ROWS = 36, 25, 576       -- ids before the picture's end (its rows stand for one), of a question
local KIND = { d = "desc", q = "pope" }

-- LLaVA-1.5-7B with LoRA of rank 128 on all seven linears of a block.
local WIDTH, MLP, LAYERS, RANK = 4096, 11008, 32, 128
local TOWER = { layers = 24, width = 1024, mlp = 4096, rows = 577 }

local function tower(layers)
  local block = 4 * TOWER.width ^ 2 + 2 * TOWER.width * TOWER.mlp
  return flops.tower(layers * block + TOWER.width * 3 * 14 * 14, TOWER.rows, layers, TOWER.width)
end

M.SHAPE = { layers = LAYERS, hidden = WIDTH, heads = WIDTH, keys = WIDTH, mlp = MLP, vocabulary = 32000,
  adapter = LAYERS * RANK * (4 * 2 * WIDTH + 3 * (WIDTH + MLP)), image_rows = ROWS,
  tower = tower(TOWER.layers - 1), bridge = 2 * ROWS * (TOWER.width * WIDTH + WIDTH * WIDTH) }

-- ---- pairs of these lengths ------------------------------------------------------------------------

local function ids(n, first)
  local list = {}
  for i = 1, n do list[i] = first + i end
  return list
end

--- The pairs of a list; the ids differ from question to question, a picture is any tensor.
---@param name string     "published" or "paper"
function M.read(name)
  local list, number = {}, 0
  for line in file.read(("%stests/bench/data/mix/%s.txt"):format(native.root, name)):gmatch("[^\n]+") do
    local picture = tensor.zeros { 1 }
    for kind, chosen, rejected in line:gmatch("(%a)(%d+)/(%d+)") do
      number = number + 1
      local prompt = ids(TRUNK - 1, 0)
      prompt[TRUNK] = forest.IMAGE
      for i = 1, QUESTION do prompt[TRUNK + i] = 1000 + number + i end
      list[number] = { id = number, kind = KIND[kind], image = picture, prompt = prompt,
        chosen = ids(tonumber(chosen), 100), rejected = ids(tonumber(rejected), 100) }
    end
  end
  return list
end

-- ---- the usual loop ----------------------------------------------------------------------------------

-- One batch: forward and backward of the policy with recomputation, forward of the reference. All queries see all keys.
-- The gradient of attention needs two products of scores and two of values; none are made again.
local function usual_batch(batch)
  local s, longest = M.SHAPE, 0
  for _, p in ipairs(batch) do longest = math.max(longest, #p.prompt + ROWS - 1 + math.max(#p.chosen, #p.rejected)) end
  local sequences = 2 * #batch
  local count = { tokens = sequences * longest, seen = sequences * longest * longest, scored = sequences * longest }
  local attention, head = 4 * WIDTH * LAYERS * count.seen, 2 * WIDTH * s.vocabulary * count.scored
  local weights = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * MLP)
  local backward = (2 * weights + 4 * s.adapter) * count.tokens + 2 * attention + head
  local pictures = 2 * sequences * (tower(TOWER.layers) + s.bridge)
  local forward = flops.forward(s, count, true) + flops.recompute(s, count) + flops.forward(s, count, false)
  return forward + backward + pictures, count.tokens
end

--- The usual loop over an epoch: operations, and padded tokens.
function M.usual(list, repeats)
  local next_batch, size = draw.pairs(list, { seed = 1, batch = BATCH, group = "none", repeats = repeats })
  local total, tokens, seen = 0, 0, 0
  while seen < size do
    local batch = next_batch()
    local work, padded = usual_batch(batch)
    total, tokens, seen = total + work, tokens + padded, seen + #batch
  end
  return total, tokens, size
end

-- ---- here ----------------------------------------------------------------------------------------------

-- A reference that is kept, and of which nothing is there yet.
local COLD = { has = function() return false end }

--- An epoch as the plan counts it.
---@param group string
---@param references table|nil      COLD, or nil: the reference is computed every step
function M.here(list, repeats, group, references)
  local next_batch, size = draw.pairs(list, { seed = 1, batch = BATCH, group = group, repeats = repeats })
  local w = plan.work { pairs = list, draw = next_batch, steps = math.ceil(size / BATCH / ACCUMULATE),
    accumulate = ACCUMULATE, settings = { group = group }, references = references, shape = M.SHAPE }
  return w.flops.policy + w.flops.reference + w.flops.bridge + w.flops.tower, w
end

M.MIXES = {
  { name = "published", about = "the published LLaVA files, descriptions twice", repeats = { desc = 2 }, pair = 2.6,
    image = 6.4 },
  { name = "paper", about = "the paper's mix: 2,000 pictures, 5 questions and 2 descriptions each", pair = 2.9,
    image = 9 },
}

--- Both mixes: how many times fewer operations than the usual loop, by pair with a live reference, and by picture with
--- the reference computed once within the run.
function M.measure()
  local out = {}
  for i, mix in ipairs(M.MIXES) do
    local list = M.read(mix.name)
    local usual, padded, size = M.usual(list, mix.repeats)
    local by_pair, pair_work = M.here(list, mix.repeats, "pair")
    local by_image, image_work = M.here(list, mix.repeats, "image", COLD)
    out[i] = { mix = mix, pairs = size, usual = usual / size, padded = padded / size,
      apart = pair_work.apart.tokens / size, pair = usual / by_pair, pair_tokens = pair_work.policy.tokens / size,
      image = usual / by_image, image_tokens = image_work.policy.tokens / size }
  end
  return out
end

if ... == nil then
  for _, r in ipairs(M.measure()) do
    print(("%s: %d pairs"):format(r.mix.about, r.pairs))
    print(("  usual loop             %6.0f tokens a pair (%.0f without padding) %6.1f TFLOP a pair"):format(r.padded,
      r.apart, r.usual / 1e12))
    print(("  by pair, live          %6.0f tokens a pair, 1/%.2f of the operations (at most 1/%.1f is asked)"):format(
      r.pair_tokens, r.pair, r.mix.pair))
    print(("  by picture, kept cold  %6.0f tokens a pair, 1/%.2f of the operations (at most 1/%.1f is asked)"):format(
      r.image_tokens, r.image, r.mix.image))
  end
end

return M
