-- A DPO step as a run takes it (lucid.dpo.steps, lucid.dist), on a small LLaVA of random weights whose pictures take
-- 576 rows: what it costs, counted and measured. The tower sees every picture anew in every step.
--   local one = step.new "small"
--   one.run(step.list(step.photos(dir, 2), 8, 64))
local dist = require "lucid.dist"
local flops = require "lucid.flops"
local forest = require "lucid.forest"
local lucid = require "lucid"
local models = require "lucid.bench.models"
local native = require "lucid.native"
local pairs_of = require "tests.bench.pairs"
local photos = require "lucid.bench.photos"
local plan = require "lucid.plan"

local M = {}

M.RANK, M.GROUP = 16, "image"                   -- of LoRA; a picture's pairs share its rows
-- tiny: for tests, of 16 rows a picture.
M.SIZES = { small = models.SMALL,
  tiny = { vision = models.TINY.vision,
    language = { width = 64, mlp = 96, layers = 2, heads = 2, words = 512, positions = 1024 } } }
local TRUNK, QUESTION, IDS = 35, 25, 400        -- ids before a picture, of a question, that there are

local function ids(n, first)
  local list = {}
  for i = 1, n do list[i] = (first + i) % IDS + 3 end
  return list
end

--- Pairs that cost alike, dealt to the pictures in turns.
---@param pictures any[]
---@param count integer      pairs
---@param answer integer     tokens of each answer
function M.list(pictures, count, answer)
  local list = {}
  for k = 1, count do
    local prompt = ids(TRUNK, 0)
    prompt[TRUNK + 1] = forest.IMAGE
    for _, id in ipairs(ids(QUESTION, TRUNK + k)) do prompt[#prompt + 1] = id end
    list[k] = { id = k, kind = "desc", image = pictures[(k - 1) % #pictures + 1], prompt = prompt,
      chosen = ids(answer, k), rejected = ids(answer, 2 * k + 7) }
  end
  return list
end

--- The pairs of the paper mix's first pictures, in their true lengths.
---@param pictures any[]
function M.mixed(pictures)
  local list = pairs_of.read("paper", "image", #pictures)
  for _, p in ipairs(list) do
    p.image = pictures[p.picture]
    for _, part in ipairs { "prompt", "chosen", "rejected" } do
      for i, id in ipairs(p[part]) do p[part][i] = id == forest.IMAGE and id or id % IDS + 3 end
    end
  end
  return list
end

-- The part of a count that grows with the square of a sequence.
local function seen(count) return { tokens = 0, seen = count.seen, scored = 0 } end

--- What a step on pairs takes in one process, as lucid.plan counts it.
---@param list lucid.EncodedPair[]
---@param shape lucid.Shape
---@param group string
---@return { pairs: integer, tokens: number, flops: number, attention: number, tower: number }   the last two: of flops
function M.count(list, shape, group)
  local w = plan.work { pairs = list, draw = function() return list end, steps = 1, settings = { group = group },
    shape = shape, processes = 1 }
  local f, policy, reference = w.flops, seen(w.policy), seen(w.reference)
  return { pairs = #list, tokens = w.policy.tokens, tower = f.tower,
    flops = f.policy + f.reference + f.bridge + f.tower,
    attention = flops.forward(shape, policy, false) + flops.backward(shape, policy)
      + flops.forward(shape, reference, false) }
end

--- A model, and steps on it.
---@param size string       of M.SIZES
function M.new(size)
  local m = models.new(M.SIZES[size], { device = "cpu", dtype = "f32", seed = 1 })
  m:lora { rank = M.RANK, alpha = 2 * M.RANK }
  local optimizer = lucid.optim.adamw(m:parameters())
  local steps = lucid.dpo.steps(m, m:base(), { loss = "sigmoid", options = { beta = 0.1 }, group = M.GROUP })
  local step = { shape = flops.shape(m), trained = 0 }
  for _, p in ipairs(m:parameters()) do step.trained = step.trained + p.tensor:count() end

  --- Forward and backward of this process's share: its seconds of work.
  function step.pass(list)
    local started = os.clock()
    m:forget_features()
    for _, part in ipairs(steps.split { list }) do
      native.scope(function() steps.loss(part):backward() end)
    end
    return os.clock() - started
  end

  --- A whole step: its seconds of work before the processes' sum.
  function step.run(list)
    local seconds = step.pass(list)
    dist.reduce(optimizer.parameters)
    optimizer:step(1e-6)
    return seconds
  end

  return step
end

--- Pictures of a folder, which are written there.
---@param dir string
---@param count integer
function M.photos(dir, count)
  local paths = {}
  for i, name in ipairs(photos.write(dir, count)) do paths[i] = dir .. "/" .. name end
  return paths
end

return M
