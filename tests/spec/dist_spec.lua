-- Several processes: how work is dealt out, and what every call does where there is one process. Under mpirun:
-- tests/slow/mpi_spec.lua.
local dist = require "lucid.dist"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local lucid = require "lucid"
local rng = require "lucid.rng"

local BIN = require "tests.support.program"

local function loads(costs, owner, n)
  local load = {}
  for k = 1, n do load[k] = 0 end
  for i, k in ipairs(owner) do load[k] = load[k] + costs[i] end
  return load
end

describe("work", function()
  it("is dealt out by its cost, not by its count", function()
    local costs = { 10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 }
    assert.same({ 10, 10 }, loads(costs, dist.deal(costs, 2), 2))
    assert.same({ 1, 2, 2, 1 }, dist.deal({ 4, 3, 2, 1 }, 2))
    assert.same({ 1, 2, 3, 1 }, dist.deal({ 5, 5, 5, 5 }, 3))          -- equals in their order
    assert.same({}, dist.deal({}, 3))
  end)

  it("is at most the even part and one piece for whoever has most", function()
    local r = rng(3, "deal")
    for _ = 1, 200 do
      local n, costs, total, most = r:integer(6), {}, 0, 0
      for i = 1, r:integer(30) do
        costs[i] = r:integer(900)
        total, most = total + costs[i], math.max(most, costs[i])
      end
      local heaviest = math.max(unpack(loads(costs, dist.deal(costs, n), n)))
      assert.is_true(heaviest <= total / n + most * (1 - 1 / n) + 1e-9, table.concat(costs, " "))
    end
  end)
end)

describe("work that is handed out", function()
  it("is done in its order, once, by one process", function()
    for n = 0, 3 do
      local seen = {}
      local results = dist.hand_out(n, function(i) return { i * i } end, function(i) seen[#seen + 1] = i end)
      for i = 1, n do assert.same({ i * i }, results[i]) end
      assert.equal(n, #results)
      assert.equal(n, #seen)
    end
  end)
end)

describe("shares of a batch", function()
  local BATCH = {}
  for i, image in ipairs { "a", "b", "a", "c", "b", "d", "a" } do BATCH[i] = { id = i, image = image, tokens = 10 * i } end
  local function tokens(sample, first) return sample.tokens + (first and 600 or 0) end

  it("are all of it, in its order, each sample once", function()
    for n = 1, 9 do
      local seen = {}
      for _, list in ipairs(dist.shares(BATCH, n, { tokens = tokens })) do
        for i, s in ipairs(list) do
          assert.is_nil(seen[s.id])
          assert.is_true(i == 1 or list[i - 1].id < s.id)
          seen[s.id] = true
        end
      end
      assert.equal(#BATCH, #seen)
    end
  end)

  it("keep together what has one key, whose trunk counts once", function()
    local lists = dist.shares(BATCH, 2, { tokens = tokens, key = function(s) return s.image end })
    local owner, load = {}, { 0, 0 }
    for k, list in ipairs(lists) do
      local new = {}
      for _, s in ipairs(list) do
        assert.is_true(owner[s.image] == nil or owner[s.image] == k)
        load[k] = load[k] + tokens(s, not new[s.image])
        owner[s.image], new[s.image] = k, true
      end
    end
    assert.same({ 1350, 1330 }, load)        -- a 710 and c 640, b 670 and d 660
  end)

  it("are empty for some where samples are few", function()
    assert.same({ 1, 1, 0 }, (function()
      local sizes = {}
      for k, list in ipairs(dist.shares({ BATCH[1], BATCH[2] }, 3, { tokens = tokens })) do sizes[k] = #list end
      return sizes
    end)())
  end)
end)

describe("one process", function()
  it("is the first of one, and has every batch whole", function()
    assert.equal(0, dist.rank())
    assert.equal(1, dist.size())
    assert.is_true(dist.first())
    local batch = { { 1 }, { 2 } }
    local own, whole = dist.share(batch, { tokens = function() return 1 end })
    assert.same(batch, own)
    assert.equal(batch, whole)
    dist.wait()
  end)

  it("has its own numbers as sums, to the last bit", function()
    local numbers = { loss = 1 / 3, ["loss/sigmoid"] = -1e-300, count = 12, none = 0, huge = 2 ^ 80 }
    assert.same(numbers, dist.sum(numbers))
    local odd = dist.sum { a = 0 / 0, b = math.huge, c = -math.huge }
    assert.is_true(odd.a ~= odd.a)
    assert.same({ math.huge, -math.huge }, { odd.b, odd.c })
  end)

  it("has its own gradients as sums, and makes none", function()
    local with, without = lucid.tensor({ 1, 2, 3 }), lucid.tensor({ 4, 5 })
    with.grad = lucid.tensor({ 0.1, 0.2, 0.3 })
    local before = with.grad:tolist()
    dist.reduce { { name = "with", tensor = with }, { name = "without", tensor = without } }
    dist.broadcast { { name = "with", tensor = with } }
    assert.same(before, with.grad:tolist())
    assert.same({ 1, 2, 3 }, with:tolist())
    assert.is_nil(without.grad)
  end)

  it("is refused sums of what is not f32", function()
    local native = require "lucid.native"
    local ok, reason = pcall(function()
      local list = require("ffi").new("lc_tensor *[1]", lucid.zeros({ 2 }, { dtype = "bf16" }))
      native.check(native.C.lc_comm_sum(list, 1))
    end)
    assert.is_false(ok)
    assert.truthy(reason:find("sum: bf16 [2]; a dense tensor of f32 is expected", 1, true), reason)
  end)
end)

describe("a command", function()
  local function run(words, environment)
    local dir = folder.folder()
    finally(function() folder.remove(dir) end)
    local status = os.execute(("%s %s %s >%s/out 2>%s/err </dev/null"):format(environment, BIN, words, dir, dir))
    return status > 255 and math.floor(status / 256) or status, file.read(dir .. "/err")
  end

  it("that works in one process says so under mpirun", function()
    local status, err = run("score --model x --images y --out z", "OMPI_COMM_WORLD_SIZE=2")
    assert.equal(2, status)
    assert.equal("lucid: score works in one process, and 2 were started; start it without mpirun or srun\n", err)
    status, err = run("inspect nowhere", "OMPI_COMM_WORLD_SIZE=1")
    assert.equal(1, status)
    assert.equal("lucid: inspect: nowhere: there is no such file or folder\n", err)
  end)
end)
