-- Adapters against PEFT's own numbers (tests/golden/peft), and merged into the weights of their base.
local lucid = require "lucid"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"

local BASE, ADAPTER = "tests/golden/llava_tiny/classic", "tests/golden/peft/adapter"
local PROJECTOR = "tests/golden/peft/projector"
local PICTURE = "tests/golden/llava_tiny/picture.png"
local expected = lucid.checkpoint "tests/golden/peft/expected.safetensors"

local function logits(m)
  local facts, ids = lucid.json.read(BASE .. "/expected.json"), {}
  for _, list in ipairs { facts.before, { lucid.IMAGE }, facts.after, facts.answer } do
    for _, id in ipairs(list) do ids[#ids + 1] = id end
  end
  return lucid.no_grad(m.logits, m, lucid.forest { { tokens = ids, image = PICTURE } })
end

describe("an adapter that lucid saved", function()
  it("gives PEFT's logits", function()
    golden.agree(logits(golden.model(BASE, { adapter = ADAPTER })), expected:tensor("logits"), 1e-5, "logits")
  end)

  it("gives PEFT's logits with a projector of its own, merged, too", function()
    local want, dir = expected:tensor("logits.projector"), folder.folder()
    golden.agree(logits(golden.model(BASE, { adapter = PROJECTOR })), want, 1e-5, "logits")
    lucid.merge { model = BASE, adapter = PROJECTOR, out = dir .. "/merged" }
    golden.agree(logits(golden.model(dir .. "/merged")), want, 1e-5, "merged")
    lucid.export.adapter(PROJECTOR, dir .. "/exported")
    golden.agree(logits(golden.model(BASE, { adapter = dir .. "/exported" })), want, 1e-5, "exported")
    folder.remove(dir)
  end)

  it("is saved again to the same bytes", function()
    local dir = folder.folder()
    for _, adapter in ipairs { ADAPTER, PROJECTOR } do
      golden.model(BASE, { adapter = adapter }):save_adapter(dir)
      for _, name in ipairs { "adapter_config.json", "adapter_model.safetensors" } do
        assert.equal(file.read(adapter .. "/" .. name), file.read(dir .. "/" .. name))
      end
    end
    folder.remove(dir)
  end)
end)

describe("merging", function()
  local dir
  before_each(function() dir = folder.folder() end)
  after_each(function() folder.remove(dir) end)

  local function merge(opt)
    return lucid.merge { model = opt.model or BASE, adapter = opt.adapter or ADAPTER, out = opt.out or dir .. "/out",
      dtype = opt.dtype, published = opt.published }
  end

  local function refused(opt, ...)
    local ok, reason = pcall(merge, opt)
    assert.is_false(ok)
    reason = tostring(reason)
    assert.is_nil(reason:find("\n"))
    for _, text in ipairs { ... } do assert.truthy(reason:find(text, 1, true), reason) end
    assert.is_false(file.exists(dir .. "/out.partial"))
  end

  it("gives PEFT's merged weights and logits, and leaves the rest as it is", function()
    local done = merge {}
    assert.same({ 14, 0 }, { done.merged, done.replaced })
    local base, out = lucid.checkpoint(BASE), lucid.checkpoint(dir .. "/out")
    assert.same(base:names(), out:names())
    for _, layer in ipairs { "layers.0.self_attn.q_proj", "layers.1.mlp.down_proj" } do
      golden.agree(out:tensor("language_model.model." .. layer .. ".weight"), expected:tensor("merged." .. layer), 1e-6, layer)
    end
    for _, name in ipairs(base:names()) do
      if not name:find("language_model.*_proj") then
        assert.same(base:tensor(name):tolist(), out:tensor(name):tolist(), name)
      end
    end
    golden.agree(logits(golden.model(dir .. "/out")), expected:tensor("logits"), 1e-5, "logits")
    for _, name in ipairs { "config.json", "tokenizer.model", "preprocessor_config.json" } do
      assert.equal(file.read(BASE .. "/" .. name), file.read(dir .. "/out/" .. name))
    end
  end)

  it("keeps the shards of a base in PyTorch's files, its dtype, and takes the trained projector", function()
    local model, adapter = "tests/golden/llava_original/model", "tests/golden/torchfile/adapter04"
    local clip = "tests/golden/llava_original/clip"
    local done = merge { model = model, adapter = adapter }
    assert.same({ 4, 4, true }, { done.merged, done.replaced, done.converted })
    assert.same({ "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
      "model.safetensors.index.json", "tokenizer.model" }, file.list(dir .. "/out"))
    local base, out = lucid.checkpoint(model), lucid.checkpoint(dir .. "/out")
    local loaded = lucid.checkpoint(adapter .. "/adapter_model.bin")
    assert.same(base:names(), out:names())
    for _, name in ipairs(base:names()) do
      assert.equal(base:dtype(name), out:dtype(name))
      assert.equal(base:file(name):match("(%d+%-of%-%d+)"), out:file(name):match("(%d+%-of%-%d+)"))
    end
    -- One rounding, from f32 to f16: the sum itself is at most half a step away.
    local name = "model.layers.1.self_attn.v_proj"
    local half = loaded:tensor("base_model.model." .. name .. ".lora_B.weight"):to("f32")
      :matmul(loaded:tensor("base_model.model." .. name .. ".lora_A.weight"):to("f32"))
    local sum = base:tensor(name .. ".weight"):to("f32") + half * 2
    assert.same(sum:to("f16"):tolist(), out:tensor(name .. ".weight"):tolist())
    local ids = { 1, lucid.IMAGE, 5, 6 }
    local function row(m)
      return lucid.no_grad(m.logits, m, lucid.forest { { tokens = ids, image = PICTURE } })
    end
    golden.agree(row(golden.model(dir .. "/out", { vision = clip })),
      row(golden.model(model, { vision = clip, adapter = adapter })), 2e-3, "logits")
  end)

  it("does so in every layout of a language model", function()
    local parts = { vision = "tests/golden/bridges/tower.pth", bridge = "tests/golden/bridges/joined.pth" }
    for name, opt in pairs { instructblip = {}, language = parts } do
      local model = "tests/golden/bridges/" .. name
      local function numbers(from, adapter)
        local m = golden.model(from, { vision = opt.vision, bridge = opt.bridge, adapter = adapter })
        return lucid.no_grad(m.logits, m, lucid.forest { { tokens = { 1, lucid.IMAGE, 5, 6 }, image = PICTURE } })
      end
      local done = merge { model = model, out = dir .. "/" .. name }
      assert.equal(14, done.merged)
      golden.agree(numbers(dir .. "/" .. name), numbers(model, ADAPTER), 1e-5, name)
      assert.is_true(golden.distance(numbers(model), numbers(model, ADAPTER)) > 0.1)
    end
  end)

  it("writes another dtype, says so in config.json, and rounds as the published tool where it is asked to", function()
    merge { dtype = "bf16" }
    merge { published = true, out = dir .. "/published" }
    local exact, twice = lucid.checkpoint(dir .. "/out"), lucid.checkpoint(dir .. "/published")
    local name = "language_model.model.layers.0.self_attn.q_proj.weight"
    assert.equal("BF16", exact:dtype(name))
    assert.equal("bfloat16", lucid.json.read(dir .. "/published/config.json").torch_dtype)
    assert.not_same(exact:tensor(name):tolist(), twice:tensor(name):tolist())
    local rest = "language_model.lm_head.weight"
    assert.same(exact:tensor(rest):tolist(), twice:tensor(rest):tolist())
    golden.agree(twice:tensor(name), exact:tensor(name), 1e-2, "merged twice rounded")
  end)

  it("refuses an adapter of another model, naming what does not fit", function()
    refused({ model = "tests/golden/llava_tiny/rerooted" }, "does not fit tests/golden/llava_tiny/rerooted",
      "self_attn.q_proj.weight ([32, 32], in the adapter [40, 40])")
    refused({ model = "tests/golden/bridges/language", adapter = "tests/golden/torchfile/adapter04" },
      "base_model.model.model.mm_projector.0.weight (not in the model)")
    refused({ model = ADAPTER }, "self_attn.q_proj.lora_A.weight (the base is an adapter itself)")
    local less = {}
    local all = lucid.checkpoint(ADAPTER)
    for _, name in ipairs(all:names()) do
      if not name:find("layers.1.", 1, true) then less[name] = all:tensor(name) end
    end
    file.mkdir(dir .. "/less")
    file.write(dir .. "/less/adapter_config.json", file.read(ADAPTER .. "/adapter_config.json"))
    lucid.checkpoint.save(dir .. "/less/adapter_model.safetensors", less)
    refused({ adapter = dir .. "/less" }, "layers.1.self_attn.q_proj.weight (the adapter has nothing for it)")
  end)

  it("writes into no folder that holds something, and leaves nothing behind when it fails", function()
    refused({ out = BASE }, BASE .. ": it is there already")
    file.mkdir(dir .. "/cut.partial")
    local ok, reason = pcall(merge, { out = dir .. "/cut" })
    assert.is_false(ok)
    assert.truthy(tostring(reason):find("cut.partial: it was left by an attempt", 1, true))
    local free = file.free
    file.free = function() return 1000 end
    local refused_disk = pcall(refused, {}, "GB are needed but the disk has 0.0 GB left")
    file.free = free
    assert.is_true(refused_disk)
  end)
end)

describe("a file that is written tensor by tensor", function()
  it("is absent when one of them does not come as declared", function()
    local dir = folder.folder()
    local path = dir .. "/x.safetensors"
    local function planned(name, shape, make) return { name = name, shape = shape, dtype = "f32", make = make } end
    local good = planned("a", { 2 }, function() return lucid.ones { 2 } end)
    for _, make in ipairs { function() return lucid.ones { 3 } end, function() error("it cannot be had", 0) end } do
      local ok, reason = pcall(lucid.checkpoint.stream, path, { good, planned("b", { 2 }, make) })
      assert.is_false(ok)
      assert.truthy(tostring(reason):find("not what was declared") or tostring(reason):find("it cannot be had"))
      assert.same({}, file.list(dir))
    end
    lucid.checkpoint.stream(path, { planned("b", { 1, 2 }, function() return lucid.zeros { 1, 2 } end), good })
    local c = lucid.checkpoint(path)
    assert.same({ "a", "b" }, c:names())
    assert.same({ 1, 1 }, c:tensor("a"):tolist())
    assert.same({ { 0, 0 } }, c:tensor("b"):tolist())
    folder.remove(dir)
  end)
end)
