-- lucid bench: what it says of timings, when it says nothing, and that every row can be measured.
local BIN = require "tests.support.program"
local bench = require "lucid.bench"
local decoder = require "lucid.bench.decoder"
local ffi = require "ffi"
local file = require "lucid.file"
local json = require "lucid.json"
local lucid = require "lucid"
local machine = require "lucid.bench.machine"
local models = require "lucid.bench.models"
local native = require "lucid.native"
local regions = require "lucid.bench.regions"
local result = require "lucid.bench.result"
local scratch = require "lucid.bench.scratch"
local timing = require "lucid.bench.timing"
local work = require "lucid.bench.work"

local C = native.C

-- The command's exit status, and what it wrote to its output and to its errors.
local function run(words)
  local dir = scratch.new()
  local status = os.execute(("%s bench %s >%s/out 2>%s/err"):format(BIN, words, dir, dir))
  local out, err = file.read(dir .. "/out"), file.read(dir .. "/err")
  scratch.remove(dir)
  return status >= 256 and status / 256 or status, out, err
end

-- A limit of 100 bytes a second at its best, and work of 50 bytes that takes so long.
local function made(seconds, others, small)
  return result.make({
    { limit_of = "read", about = "reading", seconds = { 1, 2, 1 }, work = { bytes = 100 } },
    { group = "decode", about = "decoding", limit = "read", seconds = seconds, work = { bytes = 50 } },
  }, others, small)
end

describe("decoding", function()
  it("times no decoding whose answers are as long as they may be", function()
    local m = models.new(models.TINY, { device = "cpu", dtype = "f32", seed = 1 })
    local w = decoder.decode(m, { leaves = 2, prompt = 5, calls = 2, rounds = 3 })
    for _ = 1, 3 * w.calls do w.run() end
    assert.error_matches(function() for _ = 1, 100 do w.run() end end, "no round is left")
  end)
end)

describe("a share", function()
  it("is of the best that the limit reached", function()
    local r = made({ 1, 1, 1 }, 0)
    assert.equal(100, r.limits.read.best)
    assert.equal(0.5, r.rows[1].share)
    assert.truthy(bench.complete(r))
  end)
  it("is of the limit beside it, round by round, where there is one", function()
    local function beside(seconds)
      local read = { limit_of = "read", about = "reading", seconds = { 1, 1, 1 }, work = { bytes = 100 } }
      return result.make({ read, { group = "decode", about = "decoding", limit = "read", seconds = { 1, 2, 4 },
        work = { bytes = 50 }, beside = { { row = read, seconds = seconds } } } }, 0).rows[1]
    end
    assert.equal(0.5, beside({ 1, 2, 4 }).share)
    assert.equal("spread", beside({ 4, 2, 1 }).withheld)
  end)
  it("of oneDNN is of its fastest form, in the median, and there only if that of the best is no noise either", function()
    local function form(seconds) return { limit_of = "f32", about = "form", seconds = seconds, work = { flops = 100 }, shape = "s" } end
    local function linear(seconds, one, other)
      local plain, packed = form { 1, 1, 1 }, form { 2, 2, 2 }
      return result.make({ plain, packed, { group = "linear", about = "linear", limit = "f32", seconds = seconds,
        work = { flops = 100 }, shape = "s", beside = { { row = plain, seconds = one }, { row = packed, seconds = other } } } },
        0).rows[1]
    end
    local row = linear({ 1.9, 2, 2.1 }, { 2, 1.9, 5 }, { 1.71, 1.8, 1.89 })
    assert.near(0.9, row.of_onednn, 1e-12)
    assert.equal(0.5, row.share)
    for _, noise in ipairs { linear({ 1, 2, 4 }, { 2, 1.9, 5 }, { 0.9, 1.8, 3.6 }), linear({ 2, 2, 2 }, { 1, 2, 4 }, { 8, 8, 8 }) } do
      assert.equal("spread", noise.withheld)
      assert.is_nil(noise.of_onednn or noise.share)
    end
  end)
  it("is withheld on a busy machine", function()
    local r = made({ 1, 1, 1 }, 0.31)
    assert.equal("busy", r.rows[1].withheld)
    assert.is_nil(r.rows[1].share)
    assert.falsy(bench.complete(r))
  end)
  it("is withheld where rounds differ, and where sizes are small", function()
    assert.equal("spread", made({ 1, 1.3, 0.7 }, 0).rows[1].withheld)
    assert.equal("busy", made({ 1, 1, 1 }, 0, true).rows[1].withheld)
  end)
end)

it("medians lie between the two in the middle, spreads are of the middle half", function()
  local median, spread = timing.median { 4, 1, 3, 2 }
  assert.equal(2.5, median)
  assert.equal((3.25 - 1.75) / 2.5, spread)
end)

it("what others do is not what this process does", function()
  local watch, started, own = machine.watch(), lucid.time(), os.clock()
  while os.clock() - own < 0.3 do end
  local others, mine = watch(), (os.clock() - own) / (lucid.time() - started)
  assert.truthy(others == nil or others <= C.lc_cores() - mine + 0.3, tostring(others))
end)

it("all bytes of a tensor are read and copied", function()
  local from, to, sum = lucid.rand({ 1000, 32 }, { seed = 1 }), lucid.zeros { 1000, 32 }, ffi.new "uint64_t[1]"
  assert.equal(0, C.lc_bandwidth_copy(to, from))
  assert.same(from:tolist(), to:tolist())
  local ones = lucid.tensor({ 1, 1, 1, 1 }, { dtype = "i32" }):view(1, 4)
  local many = {}
  for i = 1, 256 do many[i] = ones end
  assert.equal(0, C.lc_bandwidth_read(lucid.cat(many, 1):contiguous(), sum))
  assert.equal(512ULL * (2ULL ^ 32 + 1), sum[0])
  assert.equal(-1, C.lc_bandwidth_copy(lucid.zeros { 3 }, from))
  assert.equal("bandwidth_copy: f32 [3] has not the bytes of f32 [1000, 32]", ffi.string(C.lc_error()))
end)

it("a forest's attention is counted by the keys that its queries see", function()
  local w = work.attention { device = "cpu", dtype = "f32", heads = 2, d = 8,
    segments = { { length = 3 }, { parent = 1, length = 2 } } }
  assert.equal(4 * (6 + 2 * 3 + 3) * 2 * 8, w.flops)
end)

it("region files have the published form and number of regions", function()
  local dir = scratch.new()
  local count = regions.write(dir .. "/r.json", 40)
  local seen, ids = 0, {}
  for record in json.each(dir .. "/r.json") do
    for _, r in ipairs(record.regions) do
      seen = seen + 1
      assert.equal(record.id, r.image_id)
    end
    ids[#ids + 1] = record.id
  end
  scratch.remove(dir)
  assert.equal(count, seen)
  assert.equal(40, #ids)
  assert.truthy(math.abs(count / 40 - 50) < 15)
end)

describe("the command", function()
  it("measures every row, and says in its status that shares are missing", function()
    local status, out, err = run "--suite cpu --small --rounds 1 --quiet --threads 1 --json"
    assert.equal(1, status, err)
    assert.truthy(err:find("not every share is there", 1, true), err)
    local groups, r = {}, json.decode(out).cpu
    for _, row in ipairs(r.rows) do
      assert.truthy(row.median > 0 and #row.seconds == 1)
      groups[row.group] = true
    end
    for _, name in ipairs(bench.GROUPS) do assert.truthy(groups[name], name) end
  end)
  it("measures what is asked for, as a table", function()
    local status, out = run "--suite cpu --small --rounds 2 --quiet --threads 1 --only decode,json"
    assert.equal(0, status)
    assert.truthy(out:find("decoding, 8 rows", 1, true) and out:find("packed as nf4", 1, true) and out:find("Visual Genome", 1, true) and not out:find "swiglu", out)
  end)
  it("has a limit for every dtype", function()
    for _, dtype in ipairs { "f32", "bf16", "f16" } do
      local status, out = run("--suite cpu --small --rounds 1 --quiet --threads 1 --only attention --json --dtype " .. dtype)
      assert.equal(1, status)
      assert.truthy(json.decode(out).cpu.limits[dtype], dtype)
    end
  end)
  it("refuses rows that there are not", function()
    local status, _, err = run "--only speed"
    assert.equal(2, status)
    assert.truthy(err:find("'speed' is none of linear", 1, true), err)
  end)
end)
