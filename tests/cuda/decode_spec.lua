-- Decoding on the device: steps that are recorded and replayed have the bits of plain ones, whatever leaves grow, fork
-- and end; and a model whose steps cannot be recorded decodes all the same.
local arrays = require "tests.oracle.arrays"
local ffi = require "ffi"
local golden = require "tests.support.golden"
local lucid = require "lucid"
local models = require "tests.gpu.models"
local native = require "lucid.native"

local C = native.C
local STEPS = 14
native.device "cuda"

local function count(what) return tonumber(C.lc_device_count(what)) end
local function graphs(on) ffi.C.setenv("LUCID_GRAPHS", on and "" or "off", 1) end

local function some_ids(random, n)
  local ids = {}
  for i = 1, n do ids[i] = random(1, 300) end
  return ids
end

-- A trunk with two questions, and a prompt alone: lengths on both sides of a chunk's 128 keys.
local function prompts(random)
  local trunk, list = some_ids(random, 118), {}
  for i, own in ipairs { 5, 30 } do
    list[i] = { unpack(trunk) }
    for _, id in ipairs(some_ids(random, own)) do table.insert(list[i], id) end
  end
  list[3] = some_ids(random, 9)
  return list
end

local function generator(m, list)
  local sequences = {}
  for i, ids in ipairs(list) do sequences[i] = { ids = ids, score_from = #ids + 1 } end
  local batch = m:batch(lucid.forest.of(sequences))
  return ffi.gc(native.check(C.lc_generator_new(m.handle, batch, 64, 1)), C.lc_generator_free)
end

-- What is done with the leaves before some of the steps: forks make a bucket larger, ends make it smaller.
local EVENTS = {
  [4] = function(g) for _ = 1, 3 do native.check(C.lc_generator_fork(g, 0)) end end,
  [8] = function(g) for leaf = 1, 3 do native.check(C.lc_generator_end(g, leaf)) end end,
  [10] = function(g) for leaf = 4, 5 do native.check(C.lc_generator_end(g, leaf)) end end,
  [12] = function(g) native.check(C.lc_generator_fork(g, 0)) end,
}

-- Each step's second-best tokens with their log-probabilities: leaf i takes the i-th best, so that forks differ.
local function answers(m, list)
  local g, told = generator(m, list), {}
  for step = 1, STEPS do
    if EVENTS[step] then EVENTS[step](g) end
    local n = C.lc_generator_leaves(g)
    local ids, logps = ffi.new("int32_t[?]", 8 * n), ffi.new("float[?]", 8 * n)
    native.check(C.lc_generator_best(g, 8, ids, logps))
    for leaf = 0, n - 1 do
      if ids[8 * leaf] >= 0 then
        for k = 0, 7 do told[#told + 1] = ("%d %d: %d %.9g"):format(step, leaf, ids[8 * leaf + k], logps[8 * leaf + k]) end
        native.check(C.lc_generator_choose(g, leaf, ids[8 * leaf + leaf % 8]))
      end
    end
  end
  C.lc_generator_free(ffi.gc(g, nil))
  return told
end

describe("decoding on the device", function()
  teardown(function() graphs(true) end)

  it("replays recorded steps, bit for bit what plain ones give: growing, forking, ending, in a cache that moves", function()
    lucid.scope(lucid.no_grad, function()
      local m = models.new(models.SMALL, { dtype = "bf16", seed = 3 })
      m:lora { rank = 4, alpha = 8, seed = 2 }
      local list = prompts(arrays.random(5))
      graphs(false)
      local before = count "replays"
      local plain = answers(m, list)
      assert.equal(before, count "replays")
      graphs(true)
      local recordings = count "recordings"
      assert.same(plain, answers(m, list))
      assert.is_true(count "replays" - before >= 6, "replays")
      assert.is_true(count "recordings" - recordings >= 2, "recordings")
      local held = tonumber(C.lc_device_memory "held")
      assert.same(plain, answers(m, list))
      assert.equal(held, tonumber(C.lc_device_memory "held"))
    end)
  end)

  it("follows adapters that are written or attached while answers grow, as plain steps do", function()
    local function write(m)
      for _, p in ipairs(m:parameters()) do
        p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = #p.name, device = "cuda" }) * 0.05)
      end
    end
    local function attach(m) m:lora { rank = 4, alpha = 8, seed = 2 } end
    local function grown(change, at)
      local told, m = {}, models.new(models.SMALL, { dtype = "bf16", seed = 3 })
      if change == write then attach(m) end
      local g = generator(m, { some_ids(arrays.random(1), 20) })
      local token, logp = ffi.new "int32_t[1]", ffi.new "float[1]"
      for step = 1, 7 do
        if step == at then change(m) write(m) end
        native.check(C.lc_generator_step(g, token, logp))
        told[step] = ("%d %.9g"):format(token[0], logp[0])
      end
      return told
    end
    lucid.scope(lucid.no_grad, function()
      for at = 3, 5 do
        for _, change in ipairs { write, attach } do
          graphs(false)
          local plain = grown(change, at)
          graphs(true)
          local before = count "replays"
          assert.same(plain, grown(change, at))
          assert.is_true(count "replays" - before >= 3, "replays")
        end
      end
    end)
  end)

  it("waits for the device once a step: to read the logits", function()
    lucid.scope(lucid.no_grad, function()
      local m = models.new(models.SMALL, { dtype = "bf16", seed = 3 })
      local g = generator(m, { some_ids(arrays.random(1), 20) })
      local tokens, before = ffi.new "int32_t[1]", count "waits"
      for _ = 1, 5 do native.check(C.lc_generator_step(g, tokens, nil)) end
      assert.equal(5, count "waits" - before)
    end)
  end)

  it("attends over one forest with groups of one head and of two, as over a forest that is new", function()
    local rows, keys = 12, 40
    local function forest()
      local ones, firsts, counts = ffi.new("int32_t[?]", rows), ffi.new("int32_t[?]", rows), ffi.new("int32_t[?]", rows)
      for i = 0, rows - 1 do ones[i], firsts[i], counts[i] = 1, 0, keys end
      return ffi.gc(native.check(C.lc_forest_cross(rows, ones, firsts, counts)), C.lc_forest_release)
    end
    local function random(n, heads, seed) return lucid.randn({ n, heads, 64 }, { seed = seed, device = "cuda" }):to("bf16") end
    lucid.scope(lucid.no_grad, function()
      local q, seen, found = random(rows, 4, 1), forest(), {}
      local function attend(groups, over)
        local k, v = random(keys, groups, 2), random(keys, groups, 3)
        return native.adopt(C.lc_attention(q, k, v, over, 0.125)):tolist()
      end
      for _, groups in ipairs { 4, 2 } do found[groups] = attend(groups, seen) end
      for groups, o in pairs(found) do assert.same(attend(groups, forest()), o) end
    end)
  end)

  it("in f32, whose steps are not recorded, agrees with 16 bits", function()
    local logps = {}
    for _, dtype in ipairs { "f32", "bf16" } do
      lucid.scope(lucid.no_grad, function()
        local m = models.new(models.SMALL, { dtype = dtype, seed = 3 })
        local before = count "replays"
        local g = generator(m, { some_ids(arrays.random(1), 20) })
        local token, logp = ffi.new "int32_t[1]", ffi.new "float[1]"
        logps[dtype] = {}
        for step = 1, 4 do
          native.check(C.lc_generator_step(g, token, logp))
          logps[dtype][step] = logp[0]
        end
        assert.equal(dtype == "bf16", count "replays" > before)
      end)
    end
    golden.agree(logps.bf16, logps.f32, 3e-2, "log-probabilities")
  end)
end)
