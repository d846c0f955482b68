-- What a DPO step costs as its tokens, pairs, pictures and processes grow, measured on a small model; scale.md says
-- what it means, with cluster.lua.
--   bin/lucid tests/bench/scale.lua            (make bench-scale) writes results/DATE-scale.txt, .json and .svg
-- One thread; seconds are the processor's, so that others' load spoils them less than it does the clock's.
local json = require "lucid.json"
local line = require "tests.bench.scale.line"
local lucid = require "lucid"
local machine = require "lucid.bench.machine"
local native = require "lucid.native"
local plot = require "tests.bench.scale.plot"
local ranks = require "tests.bench.scale.ranks"
local results = require "tests.bench.scale.results"
local scratch = require "lucid.bench.scratch"
local step = require "tests.bench.scale.step"
local timing = require "lucid.bench.timing"

local C = native.C
local M = {}

local ROUNDS, PICTURES, MORE = 3, 8, 1         -- of a point; of the ranks' step, and its steps beyond a first one

--- What grows, over which values, and the pairs of a value.
M.SWEEPS = {
  { name = "tokens", about = "tokens of an answer; 1 picture, 4 pairs", values = { 32, 64, 96, 128, 192, 256 },
    list = function(photos, n) return step.list({ photos[1] }, 4, n) end },
  { name = "pairs", about = "pairs; 2 pictures, answers of 64 tokens", values = { 2, 4, 6, 8, 12, 16 },
    list = function(photos, n) return step.list({ photos[1], photos[2] }, n, 64) end },
  { name = "pictures", about = "pictures; 6 pairs, answers of 64 tokens", values = { 1, 2, 3, 4, 5, 6 },
    list = function(photos, n) return step.list({ unpack(photos, 1, n) }, 6, 64) end },
}

-- ---- measuring ---------------------------------------------------------------------------------------

--- A sweep's points, counted: { x, pairs, tokens, flops, attention, list }.
---@param sweep table
---@param one table         step.new
---@param photos string[]
function M.points(sweep, one, photos)
  local points = {}
  for i, x in ipairs(sweep.values) do
    local list = sweep.list(photos, x)
    points[i] = step.count(list, one.shape, step.GROUP)
    points[i].x, points[i].list = x, list
  end
  return points
end

-- Rounds over all points, so that a slow minute meets them all alike; a first one warms up.
local function measure(points, one)
  for _, p in ipairs(points) do p.all, p.peak = {}, 0 end
  for round = 0, ROUNDS do
    for _, p in ipairs(points) do
      C.lc_memory_peak_reset()
      local seconds = one.run(p.list)
      if round > 0 then p.all[round] = seconds end
      p.peak = math.max(p.peak, tonumber(C.lc_memory_peak()))
    end
  end
  for _, p in ipairs(points) do
    p.seconds, p.spread = timing.median(p.all)
    p.list, p.all = nil, nil
  end
end

local function column(points, name)
  local list = json.array {}
  for i, p in ipairs(points) do list[i] = p[name] end
  return list
end

--- The lines of counted and measured columns over a sweep's values.
function M.lines(points, names)
  local x, lines = column(points, "x"), {}
  for _, name in ipairs(names) do lines[name] = line.fit(x, column(points, name)) end
  return lines
end

local function measure_sweep(s, one, photos)
  local points = M.points(s, one, photos)
  measure(points, one)
  return { name = s.name, about = s.about, points = json.array(points),
    lines = M.lines(points, { "flops", "seconds", "peak" }) }
end

-- One to four processes.
local function rank_all(dir)
  local out = json.array {}
  if not ranks.HERE then return out end
  for n = 1, 4 do
    local r = ranks.measure(n, dir, "small", PICTURES, MORE)
    r.n, r.expected, r.all, r.busiest, r.seconds = n, ranks.expected(n, r.trained), 0, 0, 0
    for _, rank in ipairs(r.ranks) do
      r.all, r.busiest = r.all + rank.flops, math.max(r.busiest, rank.flops)
      r.seconds = math.max(r.seconds, rank.seconds)
    end
    out[n] = r
  end
  return out
end

-- ---- saying it ---------------------------------------------------------------------------------------

local say, finish = results.open "scale"

local function say_sweep(s)
  say("")
  say("%s", s.about)
  say("       x  pairs  tokens    GFLOP  attention  seconds  spread  GFLOP/s  peak MB")
  for _, p in ipairs(s.points) do
    say("%8d %6d %7d %8.1f %8.1f %% %8.3f %5.1f %% %8.1f %8.1f", p.x, p.pairs, p.tokens, p.flops / 1e9,
      100 * p.attention / p.flops, p.seconds, 100 * p.spread, p.flops / p.seconds / 1e9, p.peak / 1e6)
  end
  for _, of in ipairs { { "flops", "GFLOP", 1e9 }, { "seconds", "seconds", 1 }, { "peak", "MB", 1e6 } } do
    local l = s.lines[of[1]]
    say("  %-8s %9.4g + %.4g x, points at most %.2g %% off", of[2], l.a / of[3], l.b / of[3], 100 * l.off)
  end
end

local function say_ranks(list)
  say("")
  say("processes that share one step, %d pictures of the paper's mix with their pairs, a thread each", PICTURES)
  if #list == 0 then return say("not measured: no mpirun, or none that counts bytes") end
  say("       n   GFLOP in all  busiest's  of even  its seconds   MB sent by each  2(n-1)/n x 4 bytes x %d",
    list[1].trained)
  for _, r in ipairs(list) do
    say("%8d %14.1f %10.1f %8.3f %12.2f %17.4f %12.4f", r.n, r.all / 1e9, r.busiest / 1e9, r.busiest * r.n / r.all,
      r.seconds, r.sent / 1e6, r.expected / 1e6)
  end
end

local function panels(result)
  local rows = {}
  for i, s in ipairs(result.sweeps) do
    local x, row = column(s.points, "x"), {}
    for _, of in ipairs { { "seconds", "processor seconds", 1 }, { "peak", "peak MB", 1e6 } } do
      local y, fit = {}, s.lines[of[1]]
      for k, v in ipairs(column(s.points, of[1])) do y[k] = v / of[3] end
      row[#row + 1] = { title = ("%s, over %s"):format(of[2], s.about), x = x, y = y,
        line = { a = fit.a / of[3], b = fit.b / of[3] } }
    end
    rows[i] = row
  end
  if result.ranks[1] then
    local x, busiest, even, sent, expected = column(result.ranks, "n"), {}, {}, {}, {}
    for i, r in ipairs(result.ranks) do
      busiest[i], even[i], sent[i], expected[i] = r.busiest / 1e9, r.all / r.n / 1e9, r.sent / 1e6, r.expected / 1e6
    end
    rows[#rows + 1] = {
      { title = "GFLOP of the busiest process, over processes; line: even", x = x, y = busiest, line = even },
      { title = "MB that a process sends a step; line: 2(n-1)/n x 4 bytes a number", x = x, y = sent, line = expected },
    }
  end
  return rows
end

local function main()
  lucid.threads(1)
  local dir, watch = scratch.new(), machine.watch()
  local photos, one = step.photos(dir, PICTURES), step.new "small"
  local result = { date = os.date "!%F", machine = machine.describe "cpu", sweeps = json.array {} }
  say("# %s, %s, one thread; LLaVA of %d layers of width %d, %d rows a picture, f32, LoRA of rank %d", result.date,
    result.machine.cpu, one.shape.layers, one.shape.hidden, one.shape.image_rows, step.RANK)
  for i, s in ipairs(M.SWEEPS) do
    result.sweeps[i] = measure_sweep(s, one, photos)
    say_sweep(result.sweeps[i])
  end
  result.ranks = rank_all(dir)
  say_ranks(result.ranks)
  result.others = watch()
  say("# a point is the median of %d rounds; meanwhile others kept %.1f cores busy", ROUNDS, result.others or 0)
  scratch.remove(dir)
  finish(result, plot.svg(panels(result)))
end

if ... == nil then main() end

return M
