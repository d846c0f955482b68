-- A whole model whose n-th allocation fails, for every n: opening it, a training step, a step with
-- recomputation, generation. Each fails with one reason, crashes never and gives all memory back.
local ffi = require("ffi")
local native = require("lucid.native")
local folders = require("tests.support.folder")
local plain = require("tests.oracle.plain")
local check = require("tests.support.check")
local C = native.C

local CONFIG = [[{
  "model_type": "llava", "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
  "projector_hidden_act": "gelu", "tie_word_embeddings": false,
  "vision_config": { "model_type": "clip_vision_model", "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 4, "patch_size": 2,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5 },
  "text_config": { "model_type": "llama", "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5, "vocab_size": 20, "max_position_embeddings": 64, "rope_theta": 10000.0,
    "hidden_act": "silu" } }]]

local folder

setup(function()
  folder = folders.folder()
  local f = assert(io.open(folder .. "/config.json", "w"))
  f:write(CONFIG)
  f:close()
end)

teardown(function() folders.remove(folder) end)

local function used() return tonumber(C.lc_memory_used()) end

-- Runs action() -> worked in a scope with the n-th allocation failing, n = 1, 2, ... until it works.
local function fail_everywhere(action, least)
  collectgarbage() -- what earlier tests left must not go in between
  collectgarbage()
  local function run(n)
    check.done(C.lc_scope_begin())
    C.lc_memory_fail_at(n)
    local worked = action()
    C.lc_memory_fail_at(0)
    C.lc_tensor_adopt(nil)
    -- The list of pending handles goes when it was long: it is there again, whatever happened.
    C.lc_tensor_release(C.lc_tensor_adopt(C.lc_tensor_new(0, nil, C.LC_F32, C.LC_HOST)))
    check.done(C.lc_scope_end())
    return worked
  end
  for _ = 1, 2 do assert.is_true(run(0), ffi.string(C.lc_error())) end
  local before, n = used(), 0
  repeat
    n = n + 1
    C.lc_error_clear()
    local worked = run(n)
    assert.equal(before, used(), "memory after failure " .. n)
    if not worked then
      local reason = ("failure %d: %s"):format(n, ffi.string(C.lc_error()))
      assert.equal(C.LC_ENOMEM, C.lc_error_code(), reason)
    end
  until worked
  assert.is_true(n > least, n .. " places to fail")
end

local function ids(...) return ffi.new("int32_t[?]", select("#", ...), ...), select("#", ...) end

-- A picture's trunk and two scored leaves.
local function fill(batch, features)
  local picture = C.lc_batch_image(batch, features)
  if picture < 0 then return false end
  local tokens, n = ids(1, C.LC_IMAGE_TOKEN, 3, 4)
  local trunk = C.lc_batch_segment(batch, -1, tokens, n, picture, 0)
  if trunk < 0 then return false end
  for leaf = 1, 2 do
    tokens, n = ids(5, 6, 7 + leaf)
    if C.lc_batch_segment(batch, trunk, tokens, n, -1, 1) < 0 then return false end
  end
  return true
end

-- action(batch) -> worked, with a batch that is freed whatever happens
local function with_batch(features, action)
  local batch = C.lc_batch_new()
  if batch == nil then return false end
  local worked = fill(batch, features) and action(batch)
  C.lc_batch_free(batch)
  return worked
end

local function open()
  return ffi.gc(native.check(C.lc_model_init(folder, C.LC_F32, C.LC_HOST, 1)), C.lc_model_free)
end

local function features_of(model)
  local rows = tonumber(C.lc_model_image_rows(model))
  return check.tensor(plain.array({ rows, 8 }, function(i) return i % 5 / 5 end), "f32")
end

local function train(model)
  local features, parameters = features_of(model), {}
  for i = 1, C.lc_model_parameters(model) do parameters[i] = C.lc_model_parameter(model, i - 1) end
  fail_everywhere(function()
    local worked = with_batch(features, function(batch)
      local loss = C.lc_mean(C.lc_model_token_logps(model, batch, 1))
      return loss ~= nil and C.lc_backward(loss) == 0
    end)
    for _, p in ipairs(parameters) do C.lc_tensor_zero_grad(p) end
    return worked
  end, 150)
end

describe("a model whose n-th allocation fails", function()
  it("opens whole or not at all", function()
    fail_everywhere(function()
      local model = C.lc_model_init(folder, C.LC_F32, C.LC_HOST, 1)
      C.lc_model_free(model)
      return model ~= nil
    end, 50)
  end)

  it("trains all of itself", function()
    local model = open()
    for _, part in ipairs { "projector", "language" } do check.done(C.lc_model_train(model, part, 1)) end
    train(model)
  end)

  it("trains its adapter, with blocks recomputed", function()
    local model = open()
    check.done(C.lc_model_lora(model, 2, 4, "q_proj,v_proj,down_proj", 1))
    check.done(C.lc_model_recompute(model, 1))
    train(model)
  end)

  it("sees", function()
    local model = open()
    local pixels = check.tensor(plain.array({ 1, 3, 4, 4 }, function(i) return i / 48 end), "f32")
    fail_everywhere(function() return C.lc_model_vision(model, pixels) ~= nil end, 20)
  end)

  it("generates", function()
    local model = open()
    local features = features_of(model)
    local tokens, logps = ffi.new("int32_t[2]"), ffi.new("float[2]")
    fail_everywhere(function()
      return with_batch(features, function(batch)
        local generator = C.lc_generator_new(model, batch, 3, 1)
        if generator == nil then return false end
        local worked = true
        for _ = 1, 3 do
          worked = worked and C.lc_generator_step(generator, tokens, logps) >= 0
        end
        C.lc_generator_free(generator)
        return worked
      end)
    end, 60)
  end)

  it("searches over a cache that grows", function()
    local model = open()
    local features = features_of(model)
    local leaves = 12                         -- of one that has room for 64 tokens of theirs at first
    local best, logps = ffi.new("int32_t[24]"), ffi.new("float[24]")
    local function search(batch)
      local g = C.lc_generator_new(model, batch, 8, 1)
      if g == nil then return false end
      local worked = C.lc_generator_penalty(g, 1.3) == 0 and C.lc_generator_ends(g, best, 1) == 0
        and C.lc_generator_least(g, 0, 1) == 0 and C.lc_generator_seen(g, 0, best, 0) == 0
        and C.lc_generator_end(g, 1) == 0 and C.lc_generator_best(g, 2, best, logps) == 1
      for _ = 2, leaves do worked = worked and C.lc_generator_fork(g, 0) > 0 end
      for _ = 1, 6 do
        for leaf = 0, leaves - 1 do worked = worked and C.lc_generator_choose(g, leaf, 1 + leaf) == 0 end
        worked = worked and C.lc_generator_best(g, 2, best, logps) == leaves
      end
      C.lc_generator_free(g)
      return worked
    end
    fail_everywhere(function() return with_batch(features, search) end, 60)
  end)

  it("lets prompts join a trunk while others grow", function()
    local model = open()
    local words, tokens, likely = ffi.new("int32_t[6]", 1, 2, 3, 4, 5, 6), ffi.new("int32_t[4]"), ffi.new("int32_t[2]")
    local logps = ffi.new("float[4]")
    local function grow(g, batch)
      local trunk = C.lc_generator_trunk(g, batch)
      if trunk < 0 then return false end
      local one = C.lc_generator_join(g, trunk, words, 2)
      local worked = one >= 0 and C.lc_generator_step(g, tokens, logps) == 1
        and C.lc_generator_likeliest(g, one, 2, likely, logps) == 0
      local other = worked and C.lc_generator_join(g, trunk, words, 5) or -1
      return other >= 0 and C.lc_generator_leaf_sampling(g, other, 1, 0, 0.9, 3) == 0
        and C.lc_generator_step(g, tokens, logps) == 2 and C.lc_generator_rest(g, one, 1) == 0 and C.lc_generator_step(g, tokens, logps) == 1
        and C.lc_generator_end(g, trunk) == 0 and C.lc_generator_rest(g, one, 0) == 0
        and C.lc_generator_step(g, tokens, logps) == 2
    end
    fail_everywhere(function()
      local batch = C.lc_batch_new()
      if batch == nil then return false end
      local g = C.lc_batch_segment(batch, -1, words, 6, -1, 0) >= 0 and C.lc_generator_new(model, nil, 8, 1) or nil
      local worked = g ~= nil and grow(g, batch)
      C.lc_generator_free(g)
      C.lc_batch_free(batch)
      return worked
    end, 60)
  end)

  it("goes on behind an answer", function()
    local model = open()
    local features = features_of(model)
    local tokens, more = ffi.new("int32_t[2]"), ffi.new("int32_t[40]")
    for i = 0, 39 do more[i] = 1 + i % 9 end
    fail_everywhere(function()
      return with_batch(features, function(batch)
        local g = C.lc_generator_new(model, batch, 3, 1)
        if g == nil then return false end
        local worked = C.lc_generator_end(g, 1) == 0 and C.lc_generator_step(g, tokens, nil) == 1
          and C.lc_generator_continue(g, 0, more, 40) == 0 and C.lc_generator_step(g, tokens, nil) == 1
        C.lc_generator_free(g)
        return worked
      end)
    end, 60)
  end)

  describe("made of parts", function()
    local parts = native.root .. "tests/golden/bridges/"
    local function open_parts(bridge)
      return C.lc_model_open_parts(parts .. "language", parts .. "tower.pth", parts .. bridge,
        C.LC_BF16, C.LC_HOST, C.LC_FP4)
    end

    for _, bridge in ipairs { "joined.pth", "qformer.pth" } do
      it("opens whole or not at all: " .. bridge, function()
        fail_everywhere(function()
          local model = open_parts(bridge)
          C.lc_model_free(model)
          return model ~= nil
        end, 100)
      end)

      it("sees, and trains what is between: " .. bridge, function()
        local model = ffi.gc(native.check(open_parts(bridge)), C.lc_model_free)
        check.done(C.lc_model_train(model, "projector", 1))
        local pixels = check.tensor(plain.array({ 1, 3, 16, 16 }, function(i) return i % 7 / 7 end), "f32")
        local text, n = ids(5, 6)
        fail_everywhere(function()
          local features = C.lc_model_vision(model, pixels)
          local rows = features ~= nil and C.lc_view(features, 2, ffi.new("int64_t[2]", 17, 32)) or nil
          local loss = C.lc_mean(C.lc_model_bridge(model, rows, text, n))
          local worked = loss ~= nil and C.lc_backward(loss) == 0
          for i = 1, C.lc_model_parameters(model) do
            C.lc_tensor_zero_grad(C.lc_model_parameter(model, i - 1))
          end
          return worked
        end, 40)
      end)
    end
  end)
end)
