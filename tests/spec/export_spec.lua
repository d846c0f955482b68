-- A model in its other layout, and back: the same bytes of every tensor, the same logits.
local lucid = require "lucid"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"

local LLAVA = "tests/golden/llava_original/"
local BRIDGES = "tests/golden/bridges/"
local PICTURE = "tests/golden/llava_tiny/picture.png"

describe("exporting", function()
  local dir
  before_each(function() dir = folder.folder() end)
  after_each(function() folder.remove(dir) end)

  local function export(model, layout, name, parts)
    parts = parts or {}
    local out = dir .. "/" .. name
    lucid.export { model = model, layout = layout, out = out, vision = parts.vision, bridge = parts.bridge, bert = parts.bert }
    return out
  end

  -- Every tensor of a file or folder with a name that fits, as text of its own dtype.
  local function contents(path, pattern)
    local from, all = lucid.checkpoint(path), {}
    for _, name in ipairs(from:names()) do
      if name:find(pattern or "") and from:dtype(name) ~= "I64" and not name:find("inv_freq", 1, true) then
        all[name] = { from:dtype(name), from:tensor(name):tolist() }
      end
    end
    return all
  end

  local function logits(m, columns, text)
    return lucid.no_grad(function()
      local seen = { picture = m:features(PICTURE), text = text }
      local all = m:logits(lucid.forest { { tokens = { 1, lucid.IMAGE, 5, 6, 7 }, image = seen } })
      return all:slice(2, 1, columns):contiguous()
    end):tolist()
  end

  local function refused(text, opt)
    opt.out = opt.out or dir .. "/refused"
    local ok, reason = pcall(lucid.export, opt)
    assert.is_false(ok)
    assert.truthy(tostring(reason):find(text, 1, true), reason)
    assert.is_nil(tostring(reason):find("\n"))
    assert.is_false(file.exists(dir .. "/refused") or file.exists(dir .. "/refused.partial"))
  end

  it("turns LLaVA's own folder into Hugging Face's and back", function()
    local clip = { vision = LLAVA .. "clip" }
    local hf = export(LLAVA .. "model", "hf", "hf", clip)
    local back = export(hf, "original", "back")
    local original, there = golden.model(LLAVA .. "model", clip), golden.model(hf)
    assert.same(logits(original, 72), logits(there, 72))
    assert.same(logits(original, 72), logits(golden.model(back), 72))
    assert.same(contents(LLAVA .. "model"), contents(back))
    assert.same(contents(LLAVA .. "clip", "^vision_model"), contents(back .. "/vision_tower"))
    local picture = lucid.image.load(PICTURE)
    for _, m in ipairs { there, golden.model(back) } do
      assert.same(original.processor(picture):tolist(), m.processor(picture):tolist())
    end
    assert.equal("pad", lucid.json.read(back .. "/config.json").image_aspect_ratio)
  end)

  it("adds the words that Hugging Face's LLaVA has, the mean of all rows, and leaves them out again", function()
    local hf = export(LLAVA .. "model", "hf", "hf", { vision = LLAVA .. "clip" })
    local config = lucid.json.read(hf .. "/config.json")
    assert.same({ 128, 72, 73 }, { config.text_config.vocab_size, config.image_token_index, config.pad_token_id })
    local head = lucid.checkpoint(hf):tensor("language_model.lm_head.weight")
    assert.same({ 128, 40 }, head:shape())
    local rows = head:to("f32"):tolist()
    assert.same(rows[73], rows[128])
    local sum = 0
    for i = 1, 72 do sum = sum + rows[i][1] end
    assert.near(sum / 72, rows[73][1], 1e-3)
    local tk = lucid.tokenizer(hf)
    assert.same({ 72, 73 }, { tk:id "<image>", tk:id "<pad>" })
    local back = export("tests/golden/llava_tiny/classic", "original", "back")
    assert.same({ 72, 40 }, lucid.checkpoint(back):shape("lm_head.weight"))
    assert.equal(72, lucid.tokenizer(back):size())
  end)

  -- The classic model under the names that transformers 5 gives to one that it made itself.
  local function newly_named()
    local from, all, to = lucid.checkpoint "tests/golden/llava_tiny/classic", {}, dir .. "/newly"
    for _, name in ipairs(from:names()) do
      all[name:gsub("^vision_tower%.vision_model%.", "vision_tower.")] = from:tensor(name)
    end
    file.mkdir(to)
    for _, name in ipairs { "config.json", "preprocessor_config.json", "tokenizer.model" } do
      file.write(to .. "/" .. name, file.read("tests/golden/llava_tiny/classic/" .. name))
    end
    lucid.checkpoint.save(to .. "/model.safetensors", all)
    return to
  end

  it("knows every name that transformers has given to LLaVA's tensors", function()
    local newly = newly_named()
    assert.same(logits(golden.model "tests/golden/llava_tiny/classic", 72), logits(golden.model(newly), 72))
    assert.truthy(lucid.inspect.text(lucid.inspect(newly)):find("vision tower: 3 blocks", 1, true))
    for name, from in pairs { classic = "tests/golden/llava_tiny/classic", newly = newly,
      rerooted = "tests/golden/llava_tiny/rerooted" } do
      local m = golden.model(export(from, "original", name .. "-original"))
      assert.same(logits(golden.model(from), 72), logits(m, 72))
    end
  end)

  it("leaves numbers with a point as transformers wants them", function()
    local clip = dir .. "/clip"
    os.execute(("cp -r %sclip %s"):format(LLAVA, clip))
    local config = lucid.json.read(clip .. "/config.json")
    config.vision_config.initializer_factor = 1
    lucid.json.write(clip .. "/config.json", config)
    local hf = export(LLAVA .. "model", "hf", "hf", { vision = clip })
    assert.truthy(file.read(hf .. "/config.json"):find('"initializer_factor": 1.0,', 1, true))
  end)

  it("writes a folder that an adapter can be merged into, its tower with it", function()
    local back = export("tests/golden/llava_tiny/classic", "original", "back")
    lucid.merge { model = back, adapter = "tests/golden/peft/adapter", out = dir .. "/merged" }
    lucid.merge { model = "tests/golden/llava_tiny/classic", adapter = "tests/golden/peft/adapter", out = dir .. "/classic" }
    assert.same(logits(golden.model(dir .. "/classic"), 72), logits(golden.model(dir .. "/merged"), 72))
    assert.equal(file.read(back .. "/vision_tower/model.safetensors"),
      file.read(dir .. "/merged/vision_tower/model.safetensors"))
  end)

  it("turns InstructBLIP's parts into Hugging Face's folder and back", function()
    local parts = { vision = BRIDGES .. "tower.pth", bridge = BRIDGES .. "qformer.pth" }
    local hf = export(BRIDGES .. "language", "hf", "hf", parts)
    local back = export(hf, "original", "back")
    local again = { vision = back .. "/eva_vit_g.safetensors", bridge = back .. "/instructblip.safetensors" }
    local text = { 4, 8, 9 }
    local want = logits(golden.model(BRIDGES .. "language", parts), 72, text)
    -- Hugging Face's norm of the tower's rows has another epsilon.
    golden.agree(logits(golden.model(hf), 72, text), want, 1e-4, "logits")
    local m = golden.model(back .. "/language", again)
    assert.same(want, logits(m, 72, text))
    assert.same(contents(BRIDGES .. "tower.pth", "^[cp]%a*_"), contents(again.vision, "^[cp]%a*_"))
    assert.same(contents(BRIDGES .. "tower.pth", "^blocks%.[01]%."), contents(again.vision, "^blocks"))
    local bridge = {}
    for name, value in pairs(contents(BRIDGES .. "qformer.pth", "^model%.")) do bridge[name:sub(7)] = value end
    assert.same(bridge, contents(again.bridge))
  end)

  it("takes InstructBLIP's bridge out of a run on several devices", function()
    local want = contents(export(BRIDGES .. "language", "hf", "plain", { vision = BRIDGES .. "tower.pth",
      bridge = BRIDGES .. "qformer.pth" }))
    for i, root in ipairs { "", "module.", "model.module." } do
      local all = { ["optimizer.step"] = root ~= "" and lucid.zeros { 2 } or nil }
      for name, value in pairs(contents(BRIDGES .. "qformer.pth", "^model%.")) do
        all[root .. name:sub(7)] = lucid.tensor(value[2]):to(value[1]:lower())
      end
      local path = ("%s/wrapped%d.safetensors"):format(dir, i)
      lucid.checkpoint.save(path, all)
      assert.same(want, contents(export(BRIDGES .. "language", "hf", "wrapped" .. i, { vision = BRIDGES .. "tower.pth", bridge = path })))
    end
  end)

  it("keeps BERT's vocabulary beside them", function()
    file.mkdir(dir .. "/bert")
    file.write(dir .. "/bert/vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nis\n")
    local hf = export(BRIDGES .. "language", "hf", "hf", { vision = BRIDGES .. "tower.pth", bridge = BRIDGES .. "qformer.pth",
      bert = dir .. "/bert" })
    assert.equal("wordpiece", golden.model(hf).reader.kind)
    local back = export(hf, "original", "back")
    assert.equal(file.read(dir .. "/bert/vocab.txt"), file.read(back .. "/bert/vocab.txt"))
  end)

  it("says in one line what cannot be", function()
    local language, tower = BRIDGES .. "language", BRIDGES .. "tower.pth"
    refused("MiniGPT-4 has one layout alone", { model = language, vision = tower, bridge = BRIDGES .. "joined.pth", layout = "hf" })
    refused("a language model alone has no other layout", { model = language, layout = "hf" })
    refused("it has that layout already", { model = "tests/golden/llava_tiny/classic", layout = "hf" })
    refused("it has that layout already", { model = LLAVA .. "model", vision = LLAVA .. "clip", layout = "original" })
    refused("give --vision, CLIP's folder", { model = LLAVA .. "model", layout = "hf" })
    refused("self_attn.qkv.bias: its keys' third is not zero", { model = BRIDGES .. "instructblip", layout = "original" })
    refused("classic: it is there already", { model = "tests/golden/llava_tiny/rerooted", layout = "original",
      out = "tests/golden/llava_tiny/classic" })
    file.mkdir(dir .. "/strange")
    local all = { ["model.more.weight"] = lucid.zeros { 2 } }
    for name, value in pairs(contents("tests/golden/llava_tiny/classic")) do all[name] = lucid.tensor(value[2]) end
    all["something.else"] = lucid.zeros { 2 }
    lucid.checkpoint.save(dir .. "/strange/model.safetensors", all)
    file.write(dir .. "/strange/config.json", file.read "tests/golden/llava_tiny/classic/config.json")
    refused("strange: the other layout has no place for model.more.weight, something.else",
      { model = dir .. "/strange", layout = "original" })
  end)
end)
