-- What the paper's training would take on many GPUs: LLaVA-1.5-7B with LoRA of rank 128 (tests.bench.mix), dealt out as
-- the program deals (lucid.dist), over the length lists of data/mix. Work, shares and bytes are counted; bandwidths and
-- the chip's peak are a data sheet's; which part of the peak a step reaches is assumed.
local dist = require "lucid.dist"
local draw = require "lucid.draw"
local microbatch = require "lucid.microbatch"
local mix = require "tests.bench.mix"
local step = require "tests.bench.scale.step"

local M = {}

--- An H100 SXM by its data sheet: dense bf16 operations, bytes of its memory and over NVLink in one direction, all a
--- second; a network port of 400 Gb/s. SHARE is of the peak, and an assumption. A node has NODE of them.
M.PEAK, M.MEMORY, M.NVLINK, M.PORT, M.SHARE, M.NODE = 989e12, 3.35e12, 450e9, 50e9, 0.4, 8

--- Ranks and pairs of a step: the paper's step on one node, and 64 pairs a GPU there; the paper's step on 64 nodes, and
--- its 16 pairs a GPU there.
M.CASES = {
  { ranks = 8, pairs = 128 }, { ranks = 8, pairs = 512 }, { ranks = 512, pairs = 128 }, { ranks = 512, pairs = 8192 },
}
M.GROUPS = { "image", "pair" }

-- Bytes of one number in AdamW's step and the norm before it: the gradient is read twice, weight and moments are read
-- and written.
local OPTIMIZER = 4 * (2 + 2 * 3)

--- The work of steps of an epoch in which nothing is kept yet, on average: operations of a step in one process (alone)
--- and of all ranks (all); of the rank that has most the operations and the tokens (busiest, tokens); and the part of
--- all that the vision tower is (tower).
---@param list lucid.EncodedPair[]     of mix.read
---@param repeats table|nil
---@param ranks integer
---@param size integer                 pairs of a step
---@param group string
---@param steps integer|nil            default: the whole ones of an epoch
function M.work(list, repeats, ranks, size, group, steps)
  local next_batch, epoch = draw.pairs(list, { seed = 1, batch = size, group = group, repeats = repeats })
  steps = steps or math.floor(epoch / size)
  local w = { steps = steps, alone = 0, all = 0, busiest = 0, tokens = 0, tower = 0 }
  for _ = 1, steps do
    local batch, most = next_batch(), { flops = 0 }
    for _, share in ipairs(dist.shares(batch, ranks, microbatch.sharing(group, mix.SHAPE.image_rows))) do
      if #share > 0 then
        local own = step.count(share, mix.SHAPE, group)
        if own.flops > most.flops then most = own end
        w.all, w.tower = w.all + own.flops / steps, w.tower + own.tower / steps
      end
    end
    w.busiest, w.tokens = w.busiest + most.flops / steps, w.tokens + most.tokens / steps
    w.alone = w.alone + step.count(batch, mix.SHAPE, group).flops / steps
  end
  w.tower = w.tower / w.all
  return w
end

--- Seconds that the gradients' sum takes at full bandwidth, as native/cuda/group.cu sums them: each GPU sends every
--- other one its part, which is added there, and the sums go round. Within a node NVLink carries that; between nodes the
--- ports do, the first half from each GPU, the second once from each node.
---@param ranks integer
---@param ports integer     of a node
function M.reduction(ranks, ports)
  local bytes = 4 * mix.SHAPE.adapter
  if ranks <= M.NODE then return 2 * (ranks - 1) / ranks * bytes / M.NVLINK end
  local out, round = (ranks - M.NODE) / ranks * bytes * M.NODE, (ranks - 1) / ranks * bytes
  return (out + round) / (ports * M.PORT)
end

--- Seconds of AdamW over the adapter, which every rank does whole.
function M.optimizer() return OPTIMIZER * mix.SHAPE.adapter / M.MEMORY end

--- The cases for a mix, each with its work and its seconds. balance: even work over the busiest rank's; extra: work
--- that ranks do twice; efficiency: of so many GPUs, beside one that does the same step alone.
---@param name string     "paper" or "published"
function M.measure(name)
  local list, repeats, out = mix.read(name), nil, {}
  for _, m in ipairs(mix.MIXES) do repeats = m.name == name and m.repeats or repeats end
  for _, group in ipairs(M.GROUPS) do
    for _, case in ipairs(M.CASES) do
      local r = M.work(list, repeats, case.ranks, case.pairs, group)
      r.mix, r.group, r.ranks, r.pairs, r.numbers = name, group, case.ranks, case.pairs, mix.SHAPE.adapter
      if r.steps > 0 then
        local speed = M.SHARE * M.PEAK
        r.balance, r.extra = r.all / case.ranks / r.busiest, r.all / r.alone - 1
        r.compute, r.optimizer, r.times = r.busiest / speed, M.optimizer(), {}
        for i, ports in ipairs(case.ranks > M.NODE and { 8, 1 } or { 0 }) do
          local t = { ports = ports, reduction = M.reduction(case.ranks, ports) }
          t.step = r.compute + r.optimizer + t.reduction
          t.efficiency = (r.alone / speed + r.optimizer) / case.ranks / t.step
          r.times[i] = t
        end
        out[#out + 1] = r
      end
    end
  end
  return out
end

return M
