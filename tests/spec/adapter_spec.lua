-- Adapters in PEFT's format: what is written, what is read back, what is refused.
local adapter = require "lucid.adapter"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local folders = require "tests.support.folder"
local json = require "lucid.json"
local lucid = require "lucid"

local LAYER = "model.layers.0.self_attn.q_proj"
local A, B = LAYER .. ".lora_A.weight", LAYER .. ".lora_B.weight"

describe("an adapter folder", function()
  local dir

  before_each(function() dir = folders.folder() end)
  after_each(function() folders.remove(dir) end)

  -- A rank-2 adapter of a layer 3 -> 4, with keys of its configuration, names of its tensors and a number changed.
  local function write(config, names, number)
    names = names or {}
    checkpoint.save(dir .. "/adapter_model.safetensors", {
      [names.a or "base_model.model." .. A] = lucid.tensor { { 1, 2, 3 }, { 4, 5, 6 } },
      [names.b or "base_model.model." .. B] = lucid.tensor { { 1, 0 }, { 0, 1 }, { 2, 0 }, { 0, number or 2 } },
    })
    local all = { peft_type = "LORA", r = 2, lora_alpha = 4, target_modules = { "q_proj" } }
    for key, value in pairs(config or {}) do all[key] = value end
    json.write(dir .. "/adapter_config.json", all)
  end

  local function own(prefix)
    return {
      [(prefix or "") .. A] = lucid.zeros { 2, 3 },
      [(prefix or "") .. B] = lucid.zeros { 4, 2 },
    }
  end

  local function refused(text)
    local ok, reason = pcall(adapter.load, dir)
    assert.is_false(ok)
    assert.truthy(tostring(reason):find(text, 1, true), tostring(reason))
    assert.is_nil(tostring(reason):find("\n"))
  end

  it("comes back as it was written", function()
    local tensors = {
      [A] = lucid.randn { 2, 3 }, [B] = lucid.randn { 4, 2 },
      ["multi_modal_projector.linear_1.weight"] = lucid.randn { 3, 3 },
      ["multi_modal_projector.linear_1.bias"] = lucid.randn { 3 },
    }
    adapter.save(dir, { r = 2, lora_alpha = 8, base_model_name_or_path = "some/base",
      lora_dropout = 0.05 }, tensors)
    local loaded = adapter.load(dir)
    assert.equal(2, loaded.rank)
    assert.equal(4, loaded.scale)
    assert.same({ "q_proj" }, loaded.targets)
    local target = {}
    for name, t in pairs(tensors) do target[name] = lucid.zeros(t:shape()) end
    adapter.assign(loaded, target)
    for name, t in pairs(tensors) do assert.same(t:tolist(), target[name]:tolist()) end
  end)

  it("has PEFT's keys and names", function()
    adapter.save(dir, { r = 2, lora_alpha = 8, base_model_name_or_path = "some/base" },
      { [A] = lucid.zeros { 2, 3 }, [B] = lucid.zeros { 4, 2 }, ["lm_head.weight"] = lucid.zeros { 2 } })
    local config = json.read(dir .. "/adapter_config.json")
    for key, value in pairs { peft_type = "LORA", task_type = "CAUSAL_LM", r = 2, lora_alpha = 8,
      bias = "none", fan_in_fan_out = false, inference_mode = true, init_lora_weights = true,
      base_model_name_or_path = "some/base", lora_dropout = 0 } do
      assert.equal(value, config[key], key)
    end
    for _, key in ipairs { "auto_mapping", "layers_pattern", "layers_to_transform", "revision" } do
      assert.equal(json.null, config[key], key)
    end
    assert.same({ "q_proj" }, { unpack(config.target_modules) })
    assert.same({ "lm_head" }, { unpack(config.modules_to_save) })
    assert.same({ "base_model.model.lm_head.weight", "base_model.model." .. A, "base_model.model." .. B },
      checkpoint(dir):names())
  end)

  it("names the layers of a nested language model by a pattern", function()
    adapter.save(dir, { r = 2, lora_alpha = 8 },
      { ["language_model." .. A] = lucid.zeros { 2, 3 }, ["language_model." .. B] = lucid.zeros { 4, 2 } })
    assert.equal(".*language_model.*\\.(q_proj)", json.read(dir .. "/adapter_config.json").target_modules)
    assert.same({ "q_proj" }, adapter.load(dir).targets)
  end)

  it("has the same bytes each time", function()
    local tensors = { [A] = lucid.full({ 2, 3 }, 1), [B] = lucid.full({ 4, 2 }, 2) }
    adapter.save(dir .. "/x", { r = 2, lora_alpha = 8 }, tensors)
    adapter.save(dir .. "/y", { r = 2, lora_alpha = 8 }, tensors)
    for _, name in ipairs { "adapter_config.json", "adapter_model.safetensors" } do
      assert.equal(file.read(dir .. "/x/" .. name), file.read(dir .. "/y/" .. name))
    end
  end)

  it("fits a base model of any layout", function()
    write()
    for _, prefix in ipairs { "", "language_model.", "model.language_model." } do
      local target, expected = {}, { { 1, 2, 3 }, { 4, 5, 6 } }
      for name, t in pairs(own()) do
        target[prefix:find("^model") and prefix .. name:gsub("^model%.", "") or prefix .. name] = t
      end
      adapter.assign(adapter.load(dir), target)
      for name, t in pairs(target) do
        if name:find("lora_A", 1, true) then assert.same(expected, t:tolist()) end
      end
    end
  end)

  it("takes the names that PEFT uses in memory", function()
    write(nil, { a = "base_model.model." .. LAYER .. ".lora_A.default.weight",
      b = "base_model.model." .. LAYER .. ".lora_B.default.weight" })
    local target = own()
    adapter.assign(adapter.load(dir), target)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, target[A]:tolist())
  end)

  it("scales by the root of the rank with use_rslora", function()
    write { use_rslora = true }
    assert.near(4 / math.sqrt(2), adapter.load(dir).scale, 1e-15)
    write { use_rslora = false }
    assert.equal(2, adapter.load(dir).scale)
  end)

  it("reads what PEFT 0.21 wrote", function()
    local loaded = adapter.load("tests/golden/dpo/adapter-after")
    assert.equal(4, loaded.rank)
    assert.equal(2, loaded.scale)
    assert.same({ "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj" },
      loaded.targets)
  end)

  it("reads what PEFT 0.4 and LLaVA's trainer wrote", function()
    local golden = "tests/golden/torchfile/adapter04"
    local loaded = adapter.load(golden)
    assert.equal(2, loaded.rank)
    assert.equal(2, loaded.scale)
    assert.same({ "q_proj", "v_proj" }, loaded.targets)
    local m = lucid.model("tests/golden/llava_tiny/classic", { adapter = golden })
    local tensors, compared = {}, 0
    for _, p in ipairs(m:all_parameters()) do tensors[p.name] = p.tensor end
    for name, expected in pairs(json.read(golden .. "/expected.json").tensors) do
      name = name:gsub("^base_model%.model%.", "")
      name = name:gsub("^model%.mm_projector%.0", "multi_modal_projector.linear_1")
        :gsub("^model%.mm_projector%.2", "multi_modal_projector.linear_2")
      local t = tensors[name] or tensors["language_model." .. name]
      assert.truthy(t, name)
      local list, sum = t:view(expected.n):tolist(), 0
      for _, v in ipairs(list) do sum = sum + v end
      assert.same({ expected.n, expected.first, expected.last }, { #list, list[1], list[#list] })
      assert.near(expected.sum, sum, 1e-9)
      compared = compared + 1
    end
    assert.equal(12, compared)
  end)

  it("fits the language models inside of MiniGPT-4 and InstructBLIP, but no picture tower", function()
    for _, root in ipairs { "llama_model.", "llm_model.", "module.llama_model." } do
      write()
      local target = own(root)
      adapter.assign(adapter.load(dir), target)
      assert.same({ { 1, 2, 3 }, { 4, 5, 6 } }, target[root .. A]:tolist())
    end
    local layer = "base_model.model.model.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj"
    write(nil, { a = layer .. ".lora_A.weight", b = layer .. ".lora_B.weight" })
    local ok, reason = pcall(adapter.assign, adapter.load(dir), own())
    assert.is_false(ok)
    assert.matches("not in the model: " .. layer, reason, 1, true)
  end)

  it("takes safetensors before a pickle, and refuses one tensor in two files", function()
    write()
    file.write(dir .. "/adapter_model.bin", "<html>")
    assert.equal(2, adapter.load(dir).rank)
    file.write(dir .. "/non_lora_trainables.bin", "<html>")
    refused("non_lora_trainables.bin: it is an HTML page")
    local build = require "tests.support.torchfile"
    file.write(dir .. "/non_lora_trainables.bin",
      build.file(build.dict(build.text("base_model.model." .. A), build.tensor {})))
    refused("are the same tensor")
  end)

  it("is refused for what it cannot compute, by name", function()
    write { use_dora = true }
    refused("not supported: use_dora = true")
    write { rank_pattern = { q_proj = 4 }, bias = "all" }
    refused("not supported: bias = \"all\", rank_pattern = {\"q_proj\":4}")
    write { a_feature_of_tomorrow = 3 }
    refused("a_feature_of_tomorrow = 3")
    write { init_lora_weights = "pissa_niter_4" }
    refused("init_lora_weights = \"pissa_niter_4\"")
    write { peft_type = "IA3" }
    refused("peft_type is IA3")
    write { r = 0 }
    refused("r is 0")
    write { lora_alpha = "x" }
    refused("lora_alpha is x")
  end)

  it("is refused when its tensors are not whole", function()
    write(nil, { b = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight" })
    refused("without its other half")
    write { r = 3 }
    refused("[2, 3] at rank 3")
    write(nil, { a = "base_model.model." .. LAYER .. ".lora_magnitude_vector" })
    refused("lora_magnitude_vector (no plain LoRA)")
    write(nil, { a = "x.weight", b = "y.weight" })
    refused("there is no lora_A.weight in it")
    write(nil, { b = "base_model.model." .. LAYER .. ".lora_A.default.weight" })
    refused("are the same tensor")
  end)

  it("is refused when numbers of it are none, by its tensor", function()
    for _, bad in ipairs { 0 / 0, 1 / 0, -1 / 0 } do
      write(nil, nil, bad)
      refused("adapter_model.safetensors: base_model.model." .. B .. ": 1 of its numbers are NaN or infinite; the training")
    end
    json.write(dir .. "/adapter_config.json", { peft_type = "LORA", r = 2, lora_alpha = 4 })
    checkpoint.save(dir .. "/adapter_model.safetensors", { ["base_model.model." .. A] = lucid.full({ 2, 3 }, 0 / 0),
      ["base_model.model." .. B] = lucid.full({ 4, 2 }, 1 / 0) })
    refused(A .. ": 6 of its numbers are NaN or infinite, and 1 tensors more hold such")
  end)

  it("is refused by a model that it does not fit, with every name", function()
    write()
    local target = own()
    target["model.layers.1.self_attn.q_proj.lora_A.weight"] = lucid.zeros { 2, 3 }
    target[B] = nil
    local ok, reason = pcall(adapter.assign, adapter.load(dir), target, "here")
    assert.is_false(ok)
    assert.truthy(reason:find("here: the adapter does not fit the model; "
      .. "missing: model.layers.1.self_attn.q_proj.lora_A.weight; "
      .. "not in the model: base_model.model." .. B, 1, true), reason)
  end)

  it("is refused when a shape differs", function()
    write()
    local target = own()
    target[B] = lucid.zeros { 5, 2 }
    local ok, reason = pcall(adapter.assign, adapter.load(dir), target)
    assert.is_false(ok)
    assert.truthy(reason:find("lora_B.weight: copy: the source is f32 [4, 2]", 1, true), reason)
  end)

  it("says what is missing", function()
    refused("there is no adapter_config.json")
    write { }
    os.remove(dir .. "/adapter_model.safetensors")
    refused(dir)
  end)
end)
