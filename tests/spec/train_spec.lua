-- The training loop: numbers that are not finite, what is reported at its start, samples that are too long, pairs that
-- are held out, and whether policy and reference begin as one.
local checkpoints = require "lucid.checkpoints"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local heldout = require "lucid.heldout"
local json = require "lucid.json"
local lucid = require "lucid"
local native = require "lucid.native"
local overlong = require "lucid.overlong"
local train = require "lucid.train"
local trainable = require "lucid.trainable"
local training = require "tests.support.training"

local dir
setup(function()
  dir = folder.folder()
  training.world(dir)
end)
teardown(function() folder.remove(dir) end)

-- A "model" of one number that is trained.
local function number_model()
  local x = lucid.tensor({ 1 })
  native.C.lc_tensor_requires_grad(x, 1)
  return { parameters = function() return { { name = "x", tensor = x } } end }, x
end

-- Three steps of which the second is broken by `how`.
local function run_broken(how, more)
  local m, x = number_model()
  local opt = { model = m, out = dir .. "/numbers", steps = 3, lr = 0.1, schedule = "constant", quiet = true,
    draw = function(step) return { { id = "a" .. step }, { id = "b" .. step } } end,
    loss = function(batch)
      local loss = (x * x):sum()
      if batch[1].id == "a2" then loss = how(x, loss) end
      return loss, { loss = loss }
    end }
  for k, v in pairs(more or {}) do opt[k] = v end
  local ok, result = pcall(train.run, opt)
  return ok, result, x:item()
end

local FAULTS = {
  ["the loss is nan"] = function(_, loss) return loss * (0 / 0) end,
  ["the loss is inf"] = function(_, loss) return loss * math.huge end,
  ["a gradient is not finite"] = function(x) return (x - x:detach()):sqrt():sum() end,      -- 0, of infinite slope
}

describe("a step that is not finite", function()
  for what, how in pairs(FAULTS) do
    it("stops the run with its samples: " .. what, function()
      local ok, reason, x = run_broken(how)
      assert.is_false(ok)
      assert.truthy(reason:find("step 2: " .. what:gsub(" nan", " %%-?nan") .. " on a2, b2; nothing was saved"), reason)
      assert.is_near(0.9, x, 1e-5)                 -- the first step alone
    end)

    it("is left out and counted where that is asked for: " .. what, function()
      local ok, history, x = run_broken(how, { non_finite = "skip" })
      assert.is_true(ok, history)
      assert.equal(3, #history)
      assert.is_nil(history[2].grad_norm)
      local m, plain = number_model()
      train.run { model = m, out = dir .. "/plain", steps = 2, lr = 0.1, schedule = "constant", quiet = true,
        draw = function() return {} end, loss = function()
          local loss = (plain * plain):sum()
          return loss, { loss = loss }
        end }
      assert.equal(plain:item(), x)                -- as if it had not been there
    end)
  end

  it("leaves earlier checkpoints and saves nothing over them", function()
    local bad = dir .. "/bad.lua"
    file.write(bad, [[
      local calls = 0
      return function(policy, reference)
        calls = calls + 1
        local loss = (reference.chosen - policy.chosen):mean()
        return calls == 3 and loss * (0 / 0) or loss, {}
      end]])
    local out = dir .. "/stopped"
    local status, stderr = training.run(training.llava(dir, out, "--quiet --loss " .. bad), dir)
    assert.equal(256, status)
    assert.truthy(stderr:find("step 3: the loss is %-?nan on %a+/%d[%d/]*, %a+/%d[%d/]*, %a+/%d[%d/]*; nothing was saved"), stderr)
    assert.same({ 2, 1 }, checkpoints.steps(out))
    assert.is_nil(checkpoints.fault(out .. "/checkpoint-2"))
    assert.is_false(file.exists(out .. "/adapter"))
    out = dir .. "/skipped"
    assert.equal(0, (training.run(training.llava(dir, out, "--quiet --non-finite skip --loss " .. bad), dir)))
    local lines = training.log_of(out)
    assert.equal(json.null, lines[3].loss)
    assert.is_nil(lines[2].skipped)
    assert.equal(1, lines[6].skipped)
    assert.equal(1, json.read(out .. "/checkpoint-6/trainer_state.json").skipped)
  end)
end)

describe("the table of what is trained", function()
  it("has a line for each module, whatever its layer, and the sum", function()
    local function t(...) return lucid.zeros { ... } end
    local list = {
      { name = "model.layers.0.attn.q_proj.lora_A.weight", tensor = t(2, 8) },
      { name = "model.layers.0.attn.q_proj.lora_B.weight", tensor = t(8, 2) },
      { name = "model.layers.11.attn.q_proj.lora_A.weight", tensor = t(2, 8) },
      { name = "projector.linear_1.weight", tensor = t(8, 4) },
      { name = "projector.linear_1.bias", tensor = t(8) },
    }
    assert.same({ { module = "model.layers.*.attn.q_proj (adapter)", tensors = 3, numbers = 48 },
      { module = "projector.linear_1", tensors = 2, numbers = 40 } }, trainable.modules(list))
    assert.truthy(trainable.table(list):find("\nall +5 +88\n$"))
  end)

  it("is shown when a run begins", function()
    local _, stderr = training.run(training.llava(dir, dir .. "/shown", "--steps 1"), dir)
    assert.truthy(stderr:find("\nlanguage_model.model.layers.*.self_attn.q_proj (adapter) ", 1, true), stderr)
    assert.truthy(stderr:find("\nall +42 +14784\n"), stderr)
  end)
end)

describe("samples that are too long", function()
  local model = { positions = 20, image_rows = 16 }
  local function pair(id, prompt, chosen, rejected, image)
    local function ids(n) local list = {} for i = 1, n do list[i] = i end return list end
    return { id = id, prompt = ids(prompt), chosen = ids(chosen), rejected = ids(rejected), image = image }
  end
  local fits, long = pair("fits", 2, 1, 3, "a.png"), pair("long", 2, 4, 1, "a.png")       -- 20 and 21 positions

  it("stop the run by name", function()
    local ok, reason = pcall(overlong.fit, model, { fits, long }, { max_length = 0, over_long = "error" })
    assert.is_false(ok)
    assert.equal("1 of 2 samples are longer than 20 positions: long (21). --over-long skip leaves them out", reason)
    assert.same({ fits }, (overlong.fit(model, { fits }, { max_length = 0, over_long = "error" })))
  end)

  it("are left out and counted, but not all of them", function()
    local kept, count = overlong.fit(model, { long, fits, long }, { max_length = 0, over_long = "skip" })
    assert.same({ fits }, kept)
    assert.equal(2, count)
    assert.has_error(function() overlong.fit(model, { fits }, { max_length = 19, over_long = "skip" }) end,
      "1 of 1 samples are longer than 19 positions: fits (20)")
    assert.equal(1, #overlong.fit(model, { pair("no picture", 10, 9, 10) }, { max_length = 0, over_long = "error" }))
  end)

  it("are counted in a run's plan", function()
    local words = training.llava(dir, dir .. "/short", "--dry-run --max-length 40")
    local status, stderr = training.run(words, dir)
    assert.equal(256, status)
    assert.truthy(stderr:find("of 12 samples are longer than 40 positions: desc/1/1 (", 1, true), stderr)
    status, stderr = training.run(words .. " --over-long skip", dir)
    assert.equal(0, status, stderr)
    assert.truthy(stderr:find("\npairs: 2 desc, 10 too long left out; 6 steps"), stderr)
  end)
end)

describe("pairs that are held out", function()
  local function pair(id, image, answer) return { id = id, image = image, prompt = { 1 }, chosen = { answer }, rejected = { 2 } } end
  local list = {}
  for i = 1, 20 do list[i] = pair("p" .. i, "a", i % 10) end           -- every one stands there twice

  it("are different ones and no longer among the trained ones", function()
    local trained, held = heldout.split(list, 4, 1)
    assert.equal(4, #held)
    assert.equal(12, #trained)
    local answers = {}
    for _, p in ipairs(held) do answers[p.chosen[1]] = true end
    for _, p in ipairs(trained) do assert.is_nil(answers[p.chosen[1]]) end
    local _, other = heldout.split(list, 4, 2)
    assert.not_same(held, other)
    assert.same({ trained, held }, { heldout.split(list, 4, 1) })
  end)

  it("leave something to train on", function()
    assert.equal(2, #heldout.split(list, 9, 1))
    assert.has_error(function() heldout.split(list, 10, 1) end,
      "--eval-pairs 10: there are 10 different pairs, and one at least is to be trained on")
    assert.equal(list, (heldout.split(list, 0, 1)))
  end)
end)

describe("the first batch", function()
  local m = lucid.model(native.root .. "tests/golden/llava_tiny/classic", { dtype = "f32" })
  m:lora { rank = 2, alpha = 4, seed = 5 }
  local batch = {
    { id = "one", kind = "desc", prompt = { 1, 5, 9 }, chosen = { 30, 31, 2 }, rejected = { 40, 2 } },
    { id = "two", kind = "pope", prompt = { 1, 6 }, chosen = { 33, 2 }, rejected = { 33, 44, 2 } },
  }

  it("has the same policy and reference, to the bit, with a new adapter", function()
    local settings = { loss = "sigmoid", options = {}, compare = true }
    lucid.scope(lucid.dpo.step, m, m:base(), batch, settings)
    assert.is_nil(settings.compare)
  end)

  it("stops a run where they differ, with the place", function()
    local base = m:base()
    local reference = { pairs = function(_, f)
      local r = base:pairs(f)
      local tokens = r.tokens:tolist()
      tokens[9] = tokens[9] + 1e-6                -- of 3 + 2 + 2 + 3
      r.tokens = lucid.tensor(tokens)
      return r
    end }
    local ok, reason = pcall(lucid.scope, lucid.dpo.step, m, reference, batch, { loss = "sigmoid", options = {}, compare = true })
    assert.is_false(ok)
    assert.truthy(reason:find("step 0: policy and reference differ before anything is trained: pair two, token 2 of its rejected answer",
      1, true), reason)
  end)

  it("stops a run whose model gives no number, and does not call that a difference", function()
    local function damaged(policy)
      return { image_rows = policy.image_rows, pairs = function(_, f)
        local r = policy:pairs(f)
        local tokens = r.tokens:tolist()
        tokens[1] = 0 / 0
        r.tokens = lucid.tensor(tokens)
        return r
      end }
    end
    local ok, reason = pcall(lucid.scope, lucid.dpo.step, damaged(m), damaged(m:base()), batch,
      { loss = "sigmoid", options = {}, compare = true })
    assert.is_false(ok)
    assert.truthy(reason:find("gives no number before anything is trained: pair one, token 1 of its chosen answer; lucid inspect",
      1, true), reason)
  end)

  it("is not compared where the adapter is not new, and that is said", function()
    local out = dir .. "/again"
    assert.equal(0, (training.run(training.llava(dir, out), dir)))
    local status, wrong = training.run(training.llava(dir, out .. "1", "--adapter " .. out .. " --rank 3"), dir)
    assert.equal("lucid: --rank 3: " .. out .. " has 2, with which it goes on\n", wrong)
    assert.not_equal(0, status)
    local _, stderr = training.run(training.llava(dir, out .. "2", "--adapter " .. out), dir)
    assert.truthy(stderr:find("step 0: policy and reference are not compared: --adapter is not new\n", 1, true), stderr)
  end)
end)
