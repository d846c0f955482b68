-- What the paper's training would take on 8 and on 512 GPUs: LLaVA-1.5-7B with LoRA of rank 128 (tests.bench.mix),
-- dealt out as the program deals (lucid.dist), over the length lists of data/mix. Work, shares and bytes are counted;
-- bandwidths and the chip's peak are a data sheet's; which part of the peak a step reaches is assumed. scale.md says
-- what it means.
--   bin/lucid tests/bench/cluster.lua            (a part of make bench-scale) writes results/DATE-cluster.txt and .json
local dist = require "lucid.dist"
local draw = require "lucid.draw"
local json = require "lucid.json"
local microbatch = require "lucid.microbatch"
local mix = require "tests.bench.mix"
local results = require "tests.bench.scale.results"
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

local function bytes() return 4 * mix.SHAPE.adapter end

--- Seconds that the gradients' sum takes at full bandwidth, as native/cuda/group.cu sums them: each GPU sends every
--- other one its part, which is added there, and the sums go round. Within a node NVLink carries that; between nodes
--- the ports do, the first half from each GPU, the second once from each node.
---@param ranks integer
---@param ports integer     of a node
function M.reduction(ranks, ports)
  if ranks <= M.NODE then return M.ring(ranks, ports) end
  return ((ranks - M.NODE) / ranks * M.NODE + (ranks - 1) / ranks) * bytes() / (ports * M.PORT)
end

--- Seconds of a ring's sum: each of its links carries all numbers nearly twice. Within a node that is the same.
function M.ring(ranks, ports)
  return 2 * (ranks - 1) / ranks * bytes() / (ranks <= M.NODE and M.NVLINK or ports * M.PORT)
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
      r.mix, r.group, r.ranks, r.pairs = name, group, case.ranks, case.pairs
      if r.steps > 0 then
        local speed = M.SHARE * M.PEAK
        r.balance, r.extra = r.all / case.ranks / r.busiest, r.all / r.alone - 1
        r.compute, r.optimizer, r.times = r.busiest / speed, M.optimizer(), {}
        for i, ports in ipairs(case.ranks > M.NODE and { 8, 1 } or { 0 }) do
          local t = { ports = ports, reduction = M.reduction(case.ranks, ports), ring = M.ring(case.ranks, ports) }
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

-- The table's columns: title, width and the form of a value.
local COLUMNS = {
  { "mix", -9, "%s" }, { "group", -5, "%s" }, { "GPUs", 4, "%d" }, { "pairs", 5, "%d" }, { "steps", 5, "%d" },
  { "TFLOP", 6, "%.0f" }, { "tower", 6, "%.1f %%" }, { "twice", 6, "%.1f %%" }, { "busiest", 7, "%.1f" },
  { "tokens", 6, "%.0f" }, { "balance", 7, "%.1f %%" }, { "ports", 5, "%d" }, { "work", 5, "%.0f" },
  { "sum", 5, "%.1f" }, { "ring", 5, "%.1f" }, { "AdamW", 5, "%.1f" }, { "step", 7, "%.0f ms" },
  { "efficiency", 10, "%.1f %%" },
}

-- A line of it; without values: of the titles.
local function line(values)
  local cells = {}
  for i, column in ipairs(COLUMNS) do
    local text = values and column[3]:format(values[i]) or column[1]
    cells[i] = ("%" .. column[2] .. "s"):format(text)
  end
  return table.concat(cells, " ")
end

local function main()
  local say, finish = results.open "cluster"
  say("LLaVA-1.5-7B, LoRA of rank 128: %.1f million numbers, %.3f GB of gradients", mix.SHAPE.adapter / 1e6,
    bytes() / 1e9)
  say("a pass reaches %.0f %% of %.0f TFLOP/s; NVLink %.0f GB/s, a port %.0f GB/s, memory %.2f TB/s; times in ms",
    100 * M.SHARE, M.PEAK / 1e12, M.NVLINK / 1e9, M.PORT / 1e9, M.MEMORY / 1e12)
  say("%s", line())
  local rows = json.array {}
  for _, name in ipairs { "paper", "published" } do
    for _, r in ipairs(M.measure(name)) do
      rows[#rows + 1] = r
      for _, t in ipairs(r.times) do
        say("%s", line { r.mix, r.group, r.ranks, r.pairs, r.steps, r.alone / 1e12, 100 * r.tower, 100 * r.extra,
          r.busiest / 1e12, r.tokens, 100 * r.balance, t.ports, 1e3 * r.compute, 1e3 * t.reduction, 1e3 * t.ring,
          1e3 * r.optimizer, 1e3 * t.step, 100 * t.efficiency })
      end
    end
  end
  finish { numbers = mix.SHAPE.adapter, share = M.SHARE, peak = M.PEAK, memory = M.MEMORY, nvlink = M.NVLINK,
    port = M.PORT, cases = rows }
end

if ... == nil then main() end

return M
