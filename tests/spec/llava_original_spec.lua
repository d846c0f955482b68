-- LLaVA's original layout: where its parts may stand, what its configuration says, what is refused. That its
-- numbers are PyTorch's is in golden_bridges_spec.
local lucid = require "lucid"
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"

local ROOT = "tests/golden/llava_original/"
local MODEL, CLIP = ROOT .. "model", ROOT .. "clip"
local OWN_TOWER = "model.vision_tower.vision_tower."
local config = lucid.json.read(MODEL .. "/config.json")
local tensors = lucid.checkpoint(ROOT .. "model.expected.safetensors")

local function copy_of(t, changes)
  local copy = {}
  for key, value in pairs(t) do copy[key] = value end
  for key, value in pairs(changes or {}) do copy[key] = value end
  return copy
end

local function contents(path)
  local from, all = lucid.checkpoint(path), {}
  for _, name in ipairs(from:names()) do
    if from:dtype(name) ~= "I64" then all[name] = from:tensor(name) end
  end
  return all
end

local function logits(m, features)
  return lucid.no_grad(function()
    features = features or tensors:tensor("features"):slice(1, 1, 1):contiguous():view(4, 20)
    local ids = { 1, lucid.IMAGE, 5, 6, 7 }
    return m:logits(lucid.forest { { tokens = ids, image = features } })
  end):tolist()
end

describe("LLaVA's original layout", function()
  local dir
  setup(function() dir = folder.folder() end)
  teardown(function() folder.remove(dir) end)

  -- A folder of these weights, with config.json's keys and some tensors changed.
  local function put(name, keys, weights, change)
    local path, all = dir .. "/" .. name, copy_of(weights)
    if change then change(all) end
    file.mkdir(path)
    lucid.json.write(path .. "/config.json", keys)
    file.write(path .. "/tokenizer.model", file.read(MODEL .. "/tokenizer.model"))
    lucid.checkpoint.save(path .. "/model.safetensors", all)
    return path
  end

  local function refusal(path, opt)
    local worked, reason = pcall(lucid.model, path, opt)
    assert.is_false(worked)
    assert.is_nil(tostring(reason):find("\n"))
    return tostring(reason)
  end

  it("puts a picture on a square of the mean colour, as LLaVA's program does", function()
    local m = golden.model(MODEL, { vision = CLIP })
    local picture = lucid.image.load("tests/golden/llava_tiny/picture.png")
    golden.agree(m.processor(picture), tensors:tensor("picture"), 1e-6, "pixels")
    local square = put("square", copy_of(config, { image_aspect_ratio = "square" }), contents(MODEL))
    assert.is_true(golden.distance(golden.model(square, { vision = CLIP }).processor(picture),
      tensors:tensor("picture")) > 0.1)
    local anyres = put("anyres", copy_of(config, { image_aspect_ratio = "anyres" }), contents(MODEL))
    assert.truthy(refusal(anyres, { vision = CLIP }):find('image_aspect_ratio is "anyres"', 1, true))
  end)

  it("answers, and explains what it reads", function()
    local m = golden.model(MODEL, { vision = CLIP })
    local _, answer = m:generate { image = "tests/golden/llava_tiny/picture.png", prompt = "Is it?", max_new_tokens = 3 }
    assert.equal(3, #answer.ids)
    local e = lucid.explain { model = MODEL, vision = CLIP, prompt = "Is it?" }
    assert.same({ "llava", "llava_v1", 4 }, { e.kind, e.template, e.rows })
    local wide = put("wide", copy_of(config, { mm_vision_select_feature = "cls_patch" }), contents(MODEL))
    assert.equal(5, lucid.explain({ model = wide, vision = CLIP, prompt = "Is it?" }).rows)
    assert.equal(5, golden.model(wide, { vision = CLIP }).image_rows)
  end)

  it("takes the tower's file, the folder of its vision model alone, and a tower inside", function()
    local want = logits(golden.model(MODEL, { vision = CLIP }))
    local section = lucid.json.read(CLIP .. "/config.json").vision_config
    local tower = {}
    for name, t in pairs(contents(CLIP)) do
      if name:find("^vision_model") then tower[name] = t end
    end
    for _, vision in ipairs { CLIP .. "/pytorch_model.bin", put("tower", section, tower) } do
      local m = golden.model(MODEL, { vision = vision })
      assert.same(want, logits(m))
    end
    local inside = put("inside", copy_of(config, { model_type = "llava_llama", vision_config = section }),
      contents(MODEL), function(all)
        for name, t in pairs(tower) do all[OWN_TOWER .. name] = t end
      end)
    local picture = golden.model(inside):features("tests/golden/llava_tiny/picture.png")
    assert.same(want, logits(golden.model(inside, { vision = CLIP })))
    assert.same({ 4, 20 }, picture:shape())
    assert.equal("llava", golden.model(inside).kind)
  end)

  it("counts heads of 64 where no file tells the tower's settings", function()
    local keys = copy_of(config, { mm_hidden_size = 64 })
    local made = contents(MODEL)
    made["model.mm_projector.0.weight"] = lucid.zeros { 40, 64 }
    local tower, width = {}, 64
    for name, t in pairs(contents(CLIP)) do
      if name:find("^vision_model") then
        local shape = t:shape()
        for i, n in ipairs(shape) do shape[i] = n == 20 and width or n end
        tower[name] = lucid.zeros(shape)
      end
    end
    file.mkdir(dir .. "/bare")
    lucid.checkpoint.save(dir .. "/bare/tower.safetensors", tower)
    local m = golden.model(put("headless", keys, made), { vision = dir .. "/bare/tower.safetensors" })
    assert.equal(28, m.size)
    assert.equal(4, m.image_rows)
    assert.truthy(refusal(MODEL, { vision = CLIP .. "/../clip-is-not-here" }):find("clip-is-not-here", 1, true))
  end)

  it("may be a language model, a projector and a tower, and is one folder when it is saved", function()
    local want = logits(golden.model(MODEL, { vision = CLIP }))
    local keys = copy_of(config, { model_type = "llama" })
    for key in pairs(config) do
      if key:find("^mm_") or key == "image_aspect_ratio" then keys[key] = nil end
    end
    local vicuna = put("vicuna", keys, contents(MODEL), function(all)
      for name in pairs(all) do
        if name:find("mm_projector", 1, true) then all[name] = nil end
      end
    end)
    local bridge = MODEL .. "/mm_projector.bin"
    local m = golden.model(vicuna, { vision = CLIP, bridge = bridge })
    assert.equal("llava", m.kind)
    assert.same(want, logits(m))
    assert.equal("llava", lucid.explain({ model = vicuna, bridge = bridge, prompt = "x" }).kind)
    m:save(dir .. "/saved")
    local again = golden.model(dir .. "/saved")
    assert.same(want, logits(again))
    local picture = lucid.image.load("tests/golden/llava_tiny/picture.png")
    assert.same(m:features(picture):tolist(), again:features(picture):tolist())
    assert.truthy(refusal(vicuna, { vision = CLIP }):find("nor model.mm_projector.0.weight (LLaVA)", 1, true))
  end)

  it("takes the adapter that LLaVA's trainer left, projector and all, as Hugging Face's layout does", function()
    local adapter, sums = "tests/golden/torchfile/adapter04", {}
    for i, m in ipairs { golden.model(MODEL, { vision = CLIP, adapter = adapter }),
      golden.model("tests/golden/llava_tiny/classic", { adapter = adapter }) } do
      sums[i] = {}
      for _, p in ipairs(m:all_parameters()) do
        local name = p.name:gsub("^language_model%.", ""):gsub("multi_modal_projector%.linear_1", "model.mm_projector.0")
          :gsub("multi_modal_projector%.linear_2", "model.mm_projector.2")
        if name:find("lora_") or name:find("mm_projector") then sums[i][name] = p.tensor:tolist() end
      end
    end
    local n = 0
    for name, values in pairs(sums[1]) do
      assert.same(sums[2][name], values)
      n = n + 1
    end
    assert.equal(12, n)
  end)

  it("is trained by the recipe, and its adapter is taken by Hugging Face's layout", function()
    local world = dir .. "/world"
    files.write { dir = world, split = "eval", seed = 3, count = 4, seen = 24 }
    file.write(world .. "/desc_data.json", '[{"image_id": "300001", "chosen": ["a red car."], "rejected": ["a cat."]}]')
    file.write(world .. "/pope_data.json", "[]")
    lucid.recipe.run("llava", { model = MODEL, vision = CLIP, data = world, images = world, out = dir .. "/run", steps = 3,
      rank = 2, lr = 1e-3, quiet = true })
    local m = golden.model("tests/golden/llava_tiny/classic", { adapter = dir .. "/run" })
    local moved = 0
    for _, p in ipairs(m:parameters()) do
      if p.name:find("lora_B", 1, true) and p.tensor:abs():sum():item() > 0 then moved = moved + 1 end
    end
    assert.equal(14, moved)
  end)

  it("writes adapters with its own paths, and refuses those of another model", function()
    local m = golden.model(MODEL, { vision = CLIP })
    m:lora { rank = 2, alpha = 4, targets = "q_proj", seed = 1 }
    m:save_adapter(dir .. "/adapter")
    assert.same({ "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
      "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight" },
      { unpack(lucid.checkpoint(dir .. "/adapter"):names(), 1, 2) })
    assert.same({ "q_proj" }, { unpack(lucid.json.read(dir .. "/adapter/adapter_config.json").target_modules) })
    assert.truthy(refusal("tests/golden/llava_tiny/rerooted", { adapter = dir .. "/adapter" }):find(
      "q_proj%.lora_[AB]%.weight: copy: the source is f32 %["))
  end)

  it("says what is missing or does not fit, in one line", function()
    assert.truthy(refusal(MODEL):find("give --vision, the folder of openai/clip-vit-large-patch14-336", 1, true))
    assert.truthy(refusal(MODEL, { vision = "tests/golden/bridges/tower.pth" }):find("tower.pth: it holds no vision_model", 1, true))
    local narrow = put("narrow", config, contents(MODEL), function(all)
      all["model.mm_projector.0.weight"] = lucid.zeros { 40, 24 }
    end)
    assert.truthy(refusal(narrow, { vision = CLIP }):find(
      "model.mm_projector.0.weight (f32 [40, 24], expected [40, 20])", 1, true))
    local clip = lucid.json.read(CLIP .. "/config.json")
    local section = copy_of(clip.vision_config, { hidden_size = 48 })
    local other = put("other", copy_of(clip, { vision_config = section }), contents(CLIP))
    assert.truthy(refusal(MODEL, { vision = other }):find(
      "vision_model.embeddings.class_embedding (f32 [20], expected [48])", 1, true))
    for _, bad in ipairs { { "mm_projector_type", "linear", 'mm_projector_type "linear"' },
      { "mm_use_im_start_end", true, "mm_use_im_start_end is not supported" },
      { "mm_vision_select_feature", "cls", '"cls" is no known choice' },
      { "mm_vision_select_layer", -9, "mm_vision_select_layer -9 of 3 layers" } } do
      local path = put("bad", copy_of(config, { [bad[1]] = bad[2] }), contents(MODEL))
      assert.truthy(refusal(path, { vision = CLIP }):find("bad/config.json: " .. bad[3], 1, true))
    end
  end)
end)
