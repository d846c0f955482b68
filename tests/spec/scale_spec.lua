-- What a step costs grows as make bench-scale says: by lines that are counted, and in a time that follows them; and the
-- deal over the paper's length lists is as even as tests/bench/scale.md says. With processes: slow/scale_spec.lua.
local cluster = require "tests.bench.cluster"
local folder = require "tests.support.folder"
local line = require "tests.bench.scale.line"
local lucid = require "lucid"
local mix = require "tests.bench.mix"
local native = require "lucid.native"
local scale = require "tests.bench.scale"
local step = require "tests.bench.scale.step"

describe("a step's cost", function()
  local dir, photos, one
  setup(function()
    dir = folder.folder()
    photos, one = step.photos(dir, 6), step.new "tiny"
  end)
  teardown(function() folder.remove(dir) end)

  it("is counted as a line: with tokens but for attention, with pairs and pictures whole", function()
    for _, sweep in ipairs(scale.SWEEPS) do
      local points = scale.points(sweep, one, photos)
      for _, p in ipairs(points) do
        p.linear = sweep.name == "tokens" and p.flops - p.attention or p.flops
      end
      local lines = scale.lines(points, { "linear", "flops", "tokens" })
      assert.is_true(lines.linear.off < 1e-12 and lines.tokens.off < 1e-12, sweep.name)
      assert.is_true(lines.linear.a > 0 and lines.linear.b > 0, sweep.name)
      assert.equal(sweep.name == "tokens", lines.flops.off > 1e-3)
    end
  end)

  it("is less where pairs share a picture", function()
    local shared, own = step.list({ photos[1] }, 6, 8), step.list(photos, 6, 8)
    local function flops(list, group) return step.count(list, one.shape, group).flops end
    assert.is_true(flops(shared, "image") < flops(own, "image"))
    assert.is_true(flops(own, "image") < flops(own, "pair"))       -- what stands before the picture is shared, too
  end)

  -- Loosely: others may keep the machine busy.
  it("takes a time that follows the count", function()
    local threads = native.C.lc_threads_used()
    lucid.threads(1)
    finally(function() lucid.threads(threads) end)
    local few, many = step.list({ photos[1] }, 4, 8), step.list({ photos[1] }, 4, 256)
    one.run(few)
    local short, long = math.huge, math.huge
    for _ = 1, 3 do short, long = math.min(short, one.run(few)), math.min(long, one.run(many)) end
    local counted = step.count(many, one.shape, step.GROUP).flops / step.count(few, one.shape, step.GROUP).flops
    local ratio = long / short / counted
    assert.is_true(ratio > 1 / 4 and ratio < 4, ratio)
  end)
end)

describe("a line through points", function()
  it("is the one of least squares", function()
    local l = line.fit({ 1, 2, 3, 4 }, { 3, 5, 7, 9 })
    assert.same({ 1, 2, 0 }, { l.a, l.b, l.off })
    l = line.fit({ 0, 1, 2 }, { 1, 4, 1 })
    assert.same({ 2, 0 }, { l.a, l.b })
    assert.is_near(1, l.off, 1e-12)
  end)
end)

describe("the deal of the paper's mix", function()
  local list = mix.read "paper"
  local function balance(ranks, size, group, steps)
    local w = cluster.work(list, nil, ranks, size, group, steps)
    return w.all / ranks / w.busiest
  end

  it("is even by pair, and by picture where a GPU has several", function()
    assert.is_true(balance(8, 128, "pair", 2) > 0.98)
    assert.is_true(balance(8, 512, "image", 2) > 0.9)
    local paper = balance(8, 128, "image", 2)
    assert.is_true(paper > 0.7 and paper < 0.9, paper)           -- 18 pictures: three are the most, 2.3 the mean
  end)
end)
