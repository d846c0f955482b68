-- The plan of a run: its operations are those of the forests that the run computes, its bytes those that are seen, and
-- what it says when memory does not do.
local lucid = require "lucid"
local dist = require "lucid.dist"
local draw = require "lucid.draw"
local flops = require "lucid.flops"
local native = require "lucid.native"
local plan = require "lucid.plan"
local program = require "tests.support.program"
local references = require "lucid.references"
local support = require "tests.support.folder"
local tiny = require "tests.support.tiny"

describe("a plan", function()
  local folder, m, list
  setup(function()
    folder = support.folder()
    m = tiny.model(folder .. "/model", 3):lora { rank = 8, alpha = 16 }
    local pictures = tiny.pictures(folder, 8)
    list = {}
    for i = 1, 48 do
      local chosen, rejected = {}, {}
      for k = 1, 20 do chosen[k], rejected[k] = 100 + k + i, 200 + k + i end
      list[i] = { id = i, kind = i % 3 == 0 and "pope" or "desc", image = pictures[1 + i % 8],
        prompt = { 1, 300, lucid.IMAGE, 301 + i }, chosen = chosen, rejected = rejected }
    end
  end)
  teardown(function() support.remove(folder) end)

  local function options(more)
    local o = { model = m, pairs = list, steps = 6, settings = { group = "image" }, recompute = "auto",
      memory = 2 ^ 34 }
    for key, value in pairs(more or {}) do o[key] = value end
    o.draw = draw.pairs(list, { seed = 1, batch = 8, group = o.settings.group })
    return o
  end

  it("has the model's shape", function()
    local s = flops.shape(m)
    assert.same({ 3, 128, 128, 128, 352, 512, 16, 17 * 128 },
      { s.layers, s.hidden, s.heads, s.keys, s.mlp, s.vocabulary, s.image_rows, s.features })
    -- rank 8 on q k v o (128 and 128) and gate up down (128 and 352), three blocks
    assert.equal(3 * 8 * (4 * 256 + 3 * 480), s.adapter)
    -- two linears of 128 x 128 over 16 rows; two blocks of four 128 x 128 and two 128 x 512, patches of 3 x 16 x 16
    assert.equal(2 * 2 * 128 * 128 * 16, s.bridge)
    assert.equal(2 * 17 * (2 * (4 * 128 * 128 + 2 * 128 * 512) + 128 * 768) + 4 * 17 * 17 * 128 * 2, s.tower)
  end)

  it("counts the products of a pass one by one", function()
    local s = flops.shape(m)
    local count = { tokens = 10, seen = 55, scored = 4 }
    local block = 4 * 128 * 128 + 3 * 128 * 352
    local forward = 2 * 10 * 3 * block + 4 * 55 * 128 * 3 + 2 * 4 * 128 * 512
    assert.equal(forward, flops.forward(s, count, false))
    assert.equal(forward + 2 * 10 * s.adapter, flops.forward(s, count, true))
    local backward = 2 * 10 * (3 * block - 3 * 128 * 128) + 4 * 10 * s.adapter + 10 * 55 * 128 * 3 + 4 * 4 * 128 * 512
    assert.equal(backward, flops.backward(s, count))
    s.trained = true
    assert.equal(backward + 2 * 10 * (3 * 128 * 128 + 3 * block), flops.backward(s, count))
  end)

  it("lays out what the run will compute", function()
    for _, group in ipairs { "image", "pair", "none" } do
      local o = options { settings = { group = group } }
      local p = plan.make(o)
      local next_batch, tokens = draw.pairs(list, { seed = 1, batch = 8, group = group }), 0
      for _ = 1, 6 do tokens = tokens + lucid.forest.pairs(next_batch(), group):count(16).tokens end
      assert.equal(tokens, p.work.policy.tokens)
      assert.equal(tokens, p.work.reference.tokens)
      assert.equal(48, p.work.pairs)
      assert.equal(48 * (2 * 19 + 40), p.work.apart.tokens)
      local f = p.work.flops
      assert.equal(f.policy + f.reference + f.bridge + f.tower, p.total)
      assert.equal(8 * flops.shape(m).tower, f.tower)
    end
  end)

  it("is of the processes that share a step: parts and memory of one, the time of the busiest", function()
    local one = plan.make(options { processes = 1 })
    assert.same({ 1, 1 }, { one.work.busiest, one.work.processes })
    assert.is_nil(plan.text(one):find("processes", 1, true))
    for _, group in ipairs { "image", "pair" } do
      local next_batch, by, most, sum, largest = draw.pairs(list, { seed = 1, batch = 8, group = group }),
        require("lucid.microbatch").sharing(group, 16), 0, 0, 0
      for _ = 1, 6 do
        local busiest = 0
        for _, share in ipairs(dist.shares(next_batch(), 3, by)) do
          local tokens = lucid.forest.pairs(share, group):count(16).tokens
          busiest, sum, largest = math.max(busiest, tokens), sum + tokens, math.max(largest, tokens)
        end
        most = most + busiest
      end
      local p = plan.make(options { processes = 3, settings = { group = group } })
      assert.same({ sum, largest, most / sum }, { p.work.policy.tokens, p.work.largest, p.work.busiest })
      assert.is_true(p.bytes.kept < one.bytes.kept)
      local text = plan.text(p)
      assert.is_truthy(text:find(("8 pairs, at once; %d trained"):format(p.trained), 1, true), text)
      assert.is_truthy(text:find(("processes: 3 share each step, the busiest has %.0f %% of it"):format(100 * most / sum), 1, true), text)
    end
    local joint = plan.make(options { processes = 12, settings = { loss = "aot", group = "pair", joint = true } })
    assert.equal(48, joint.work.computed)                 -- who has no pairs of a batch adds none
  end)

  it("goes on as it began where a run is long", function()
    local short, long = plan.make(options { steps = 1020 }), plan.make(options { steps = 10200 })
    local ratio = (long.total - long.work.flops.tower) / (short.total - short.work.flops.tower)
    assert.is_true(math.abs(ratio - 10) < 0.02, ratio)
  end)

  it("counts a kept reference once, and what is there not at all", function()
    local kept = references.open(m:base(), folder .. "/cache")
    local cold = plan.make(options { references = kept, steps = 60 })
    assert.same({ 0, 96, 96 * 20 * 4 }, { cold.kept, cold.answers, cold.disk })
    local once = plan.make(options())
    assert.is_near(once.work.flops.reference, cold.work.flops.reference, 1e-3 * once.work.flops.reference)
    lucid.no_grad(kept.pairs, kept, lucid.forest.pairs(list))
    local warm = plan.make(options { references = kept, steps = 60 })
    assert.same({ 96, 0 }, { warm.kept, warm.work.flops.reference })
    assert.equal(0, plan.make(options { settings = { group = "image", reference_free = true } }).work.flops.reference)
  end)

  it("says the bytes that a step is seen to take", function()
    local shape, settings = flops.shape(m), { loss = "sigmoid", group = "image" }
    for _, on in ipairs { false, true } do
      m:recompute(on)
      local steps = lucid.dpo.steps(m, m:base(), settings)
      local part = steps.split({ list })[1]
      local count = lucid.forest.pairs(part):count(m.image_rows)
      local function step()
        lucid.scope(function() (steps.loss(part)):backward() end)
        collectgarbage()
        collectgarbage()
      end
      step()                                              -- gradients and pictures are there
      local before = lucid.memory().used
      native.C.lc_memory_peak_reset()
      step()
      local seen, b = lucid.memory().peak - before, plan.bytes(m, shape, count.tokens, 8, count.scored)
      local said = on and b.recomputed or b.kept
      assert.is_true(said > 0.75 * seen and said < 1.25 * seen, ("%g said, %g seen"):format(said, seen))
    end
    m:recompute(false)
    for _, p in ipairs(m:parameters()) do p.tensor:zero_grad() end
    local weights = 0
    for _, p in ipairs(m:all_parameters()) do weights = weights + 4 * p.tensor:count() end
    local b = plan.bytes(m, shape, 100, 8, 10)
    assert.same({ weights, 12 * shape.adapter, 8 * 17 * 128 * 4 }, { b.weights, b.optimizer, b.pictures })
  end)

  it("recomputes where memory is small, and says what makes a run fit", function()
    local p = plan.make(options())
    assert.is_false(p.recompute)
    assert.is_nil(p.advice)
    local fixed = p.bytes.weights + p.bytes.optimizer + p.bytes.pictures
    local middle = (fixed + (p.bytes.kept + p.bytes.recomputed) / 2) / 0.9
    local own = plan.make(options { memory = middle })
    assert.is_true(own.recompute)
    assert.is_nil(own.advice)
    assert.is_true(own.work.flops.recompute > 0 and own.total > p.total)
    local off = plan.make(options { memory = middle, recompute = "off" })
    assert.is_false(off.recompute)
    assert.equal("--recompute on makes it fit", off.advice)
    local little = (fixed + p.bytes.recomputed / 2) / 0.9
    local advice = plan.make(options { memory = little }).advice
    local tokens = tonumber(advice:match("^%-%-recompute on %-%-tokens%-per%-step (%d+) makes it fit"))
    local small = { group = "image", tokens_per_step = tokens }
    assert.is_nil(plan.make(options { memory = little, settings = small }).advice)
    assert.equal("a smaller --batch makes it fit",
      plan.make(options { memory = little, settings = { group = "image", joint = true } }).advice)
    assert.equal("the model is too large in f32; --dtype bf16 halves it", plan.make(options { memory = 1000 }).advice)
  end)

  it("is said in lines", function()
    local text = plan.text(plan.make(options { beside = { { 2, "without their picture left out" }, { 0, "held out" } } }))
    for _, words in ipairs { "pairs: 32 desc, 16 pope, 2 without their picture left out; 6 steps of 8 pairs, at once",
      "a pair (78 as separate sequences)", "FLOP a step", "kept: 8 of 8 pictures",
      "the reference is computed every step", "time: ", "memory: " } do
      assert.is_truthy(text:find(words, 1, true), words .. "\n" .. text)
    end
    local other = plan.make(options())
    other.kind = "instructblip"
    assert.is_truthy(plan.text(other):find("its Q-Former reads the question", 1, true))
    local joint = plan.make(options { accumulate = 2, settings = { loss = "aot", group = "image", joint = true } })
    assert.is_truthy(plan.text(joint):find("loss: aot depends on what is together in a batch", 1, true))
    assert.is_truthy(plan.text(plan.make(options { memory = 1000 })):find("memory does not do", 1, true))
  end)
end)

describe("lucid llava", function()
  local folder, words
  setup(function()
    folder = support.folder()
    tiny.model(folder .. "/model", 3)
    lucid.tinyworld.files.write { dir = folder .. "/world", split = "wild", seed = 1, count = 6, seen = 6 }
    local descriptions, questions = {}, {}
    for _, image in ipairs(lucid.json.read(folder .. "/world/image_data.json")) do
      descriptions[#descriptions + 1] = { image_id = image.image_id, chosen = { "There is a car." },
        rejected = { "A dog." } }
      for _, word in ipairs { "car", "dog" } do
        questions[#questions + 1] = { image_id = image.image_id, question = "Is there a " .. word .. " in the image?",
          answer = "no", chosen = "No.", rejected = "Yes.", correct = false }
      end
    end
    lucid.data.pairfile.write(folder, "list", descriptions, questions)
    words = ("%s llava --model %s/model --data %s --images %s/world --rank 2 --alpha 4 --lr 1e-3 --batch 8"):format(
      program, folder, folder, folder)
  end)
  teardown(function() support.remove(folder) end)

  local function run(more)
    local pipe = assert(io.popen(("%s %s 2>&1; echo \"status $?\""):format(words, more)))
    local text = pipe:read("*a")
    pipe:close()
    return text, tonumber(text:match("status (%d+)\n$"))
  end

  local function adapter(name)
    return lucid.file.read(("%s/%s/adapter/adapter_model.safetensors"):format(folder, name))
  end

  it("stops after the plan when it is asked to", function()
    local text, status = run(("--dry-run --out %s/dry --cache %s/dry-cache"):format(folder, folder))
    assert.equal(0, status)
    assert.is_truthy(text:find("pairs: 6 desc, 12 pope; 3 steps", 1, true), text)
    for _, name in ipairs { "dry", "dry-cache" } do assert.is_false(lucid.file.exists(folder .. "/" .. name), name) end
  end)

  it("trains the same adapter with a cold, a warm and no cache", function()
    local cache = folder .. "/cache"
    for name, more in pairs { live = "--cache none", cold = "--cache " .. cache,
      off = "--reference-cache off --cache " .. cache } do
      local text, status = run(("%s --out %s/%s"):format(more, folder, name))
      assert.equal(0, status, text)
    end
    local text = run(("--cache %s --out %s/warm"):format(cache, folder))
    assert.is_truthy(text:find("kept: 6 of 6 pictures, 36 of 36 answers of the reference", 1, true), text)
    for _, name in ipairs { "cold", "warm", "off" } do assert.equal(adapter("live"), adapter(name)) end
  end)

  it("says why a reference is not kept", function()
    local dry = "--dry-run --cache none --out x"
    assert.is_truthy(run(dry):find("the reference is computed every step: there is no cache folder", 1, true))
    assert.is_nil(run(dry .. " --reference-cache off"):find("every step: ", 1, true))
  end)

  it("refuses parts of a loss that has none", function()
    local text, status = run("--loss aot --tokens-per-step 100 --out x")
    assert.equal(2, status)
    assert.is_truthy(text:find("--tokens-per-step: what aot makes of a pair depends on the others", 1, true))
  end)
end)
