-- Generation over the cache: what a leaf says does not depend on the cache, on its company, or on
-- who has ended, and its logps are those of one forward pass over its whole path.
local ffi = require("ffi")
local C = require("lucid.native").C
local arrays = require("tests.oracle.arrays")
local folder = require("tests.support.folder")

local STEPS = 40
-- A token's keys are 96 bytes, which the cache keeps three lines of 64 apart.
local CONFIG = [[{
  "model_type": "llava", "image_token_index": 63, "vision_feature_layer": -1,
  "vision_feature_select_strategy": "default", "projector_hidden_act": "gelu",
  "vision_config": {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32,
    "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
  "text_config": {"model_type": "llama", "hidden_size": 48, "intermediate_size": 80,
    "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 12,
    "vocab_size": 64, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000,
    "hidden_act": "silu"}
}]]

local function check(result)
  if result == nil or type(result) == "number" and result < 0 then
    error(ffi.string(C.lc_error()), 2)
  end
  return result
end

local function batch_of(segments)
  local b = ffi.gc(check(C.lc_batch_new()), C.lc_batch_free)
  for _, s in ipairs(segments) do
    local ids = ffi.new("int32_t[?]", #s.ids + 1, s.ids)
    check(C.lc_batch_segment(b, (s.parent or 0) - 1, ids, #s.ids, -1, s.score and 1 or 0))
  end
  return b
end

local function some_ids(random, n)
  local ids = {}
  for i = 1, n do ids[i] = random(3, 60) end
  return ids
end

-- Prompts: a trunk of two questions, one of them asked twice, the trunk itself, and another tree.
local function prompts()
  local random = arrays.random(8)
  local question = some_ids(random, 9)
  return {
    { ids = some_ids(random, 70), score = true },
    { ids = question, parent = 1, score = true },
    { ids = some_ids(random, 30), parent = 1, score = true },
    { ids = question, parent = 1, score = true },
    { ids = some_ids(random, 5), score = true },
  }
end

-- Greedy answers: {tokens=, logps=} a leaf. ends: {[leaf] = step after which it is ended}.
local function generate(model, segments, steps, ends)
  local g = ffi.gc(check(C.lc_generator_new(model, batch_of(segments), steps, 1)),
    C.lc_generator_free)
  local n = C.lc_generator_leaves(g)
  local tokens, logps = ffi.new("int32_t[?]", n), ffi.new("float[?]", n)
  local answers = {}
  for i = 1, n do answers[i] = { tokens = {}, logps = {} } end
  for step = 1, steps do
    check(C.lc_generator_step(g, tokens, logps))
    for i, answer in ipairs(answers) do
      if tokens[i - 1] >= 0 then
        table.insert(answer.tokens, tokens[i - 1])
        table.insert(answer.logps, tonumber(logps[i - 1]))
      end
      if ends and ends[i] == step then check(C.lc_generator_end(g, i - 1)) end
    end
  end
  return answers
end

local function same(a, b, what)
  assert.equal(#a.tokens, #b.tokens, what)
  for i = 1, #a.tokens do
    assert.equal(a.tokens[i], b.tokens[i], what .. ", token " .. i)
    assert.is_true(a.logps[i] == b.logps[i], what .. ", logp " .. i)
  end
end

describe("generation over the cache", function()
  local path, model
  setup(function()
    path = folder.folder()
    local f = assert(io.open(path .. "/config.json", "w"))
    f:write(CONFIG)
    f:close()
    model = ffi.gc(check(C.lc_model_init(path, C.LC_F32, C.LC_HOST, 5)), C.lc_model_free)
  end)
  teardown(function()
    model = nil
    folder.remove(path)
  end)

  it("gives the logps of one forward pass over each whole path", function()
    local segments = prompts()
    local answers = generate(model, segments, STEPS)
    local whole, expected = {}, {}
    for i, s in ipairs(segments) do whole[i] = { ids = s.ids, parent = s.parent } end
    for i, answer in ipairs(answers) do
      assert.equal(STEPS, #answer.tokens)
      whole[#whole + 1] = { ids = answer.tokens, parent = i, score = true }
      for _, logp in ipairs(answer.logps) do expected[#expected + 1] = logp end
    end
    local grad = C.lc_grad_mode(0)
    local got = arrays.read(arrays.adopt(C.lc_model_token_logps(model, batch_of(whole), 1)))
    C.lc_grad_mode(grad)
    assert.equal(#expected, #got)
    for i = 1, #got do
      assert.is_true(math.abs(got[i] - expected[i]) <= 1e-6 * math.max(1, math.abs(expected[i])),
        ("value %d: %.9g cached, %.9g in one pass"):format(i, expected[i], got[i]))
    end
  end)

  it("gives equal prompts equal answers, and each the answer that it gets alone", function()
    local segments = prompts()
    local answers = generate(model, segments, STEPS)
    same(answers[2], answers[4], "asked twice")
    for i, s in ipairs(segments) do
      local ids = {}
      for _, part in ipairs({ s.parent and segments[s.parent].ids or {}, s.ids }) do
        for _, id in ipairs(part) do ids[#ids + 1] = id end
      end
      same(answers[i], generate(model, { { ids = ids, score = true } }, STEPS)[1], "leaf " .. i)
    end
  end)

  it("goes on unchanged when other leaves end and give their slots back", function()
    local segments = prompts()
    local answers = generate(model, segments, STEPS)
    local some = generate(model, segments, STEPS, { [1] = 3, [2] = 20, [5] = 1 })
    same(answers[3], some[3], "leaf 3")
    same(answers[4], some[4], "leaf 4")
    assert.equal(3, #some[1].tokens)
    assert.equal(20, #some[2].tokens)
    assert.equal(1, #some[5].tokens)
  end)

  it("stops a leaf where the model's positions end", function()
    local answers = generate(model, { { ids = some_ids(arrays.random(1), 240), score = true } }, 60)
    assert.equal(16, #answers[1].tokens)
  end)
end)
