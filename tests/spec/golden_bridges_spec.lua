-- MiniGPT-4, InstructBLIP and LLaVA's original layout against PyTorch's numbers: tests/golden/bridges and
-- tests/golden/llava_original, whose scripts say how they were made. Forward to 1e-4 in f32 and 2e-2 in bf16, the gradients of a preference loss to 1e-3.
local lucid = require "lucid"
local native = require "lucid.native"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"

local C = native.C
local ROOT = native.root .. "tests/golden/bridges/"
local LLAVA = native.root .. "tests/golden/llava_original/"

local function part(name) return ROOT .. name .. ".pth" end

-- How each model is opened, what it is, and what its expectations are called.
local CASES = {
  { name = "minigpt4", kind = "minigpt4", dir = ROOT .. "language",
    parts = { vision = part "tower", bridge = part "joined" } },
  { name = "qformer", kind = "instructblip", dir = ROOT .. "language",
    parts = { vision = part "tower", bridge = part "qformer" } },
  { name = "instructblip", kind = "instructblip", dir = ROOT .. "instructblip", parts = {} },
  { name = "LLaVA's own layout", kind = "llava", dir = LLAVA .. "model", parts = { vision = LLAVA .. "clip" },
    expected = LLAVA .. "model" },
}
local ZERO = 1e-4     -- softmax cancels a key's bias: what is left of its gradient is rounding

local function open(case, dtype)
  return lucid.model(case.dir, { dtype = dtype, vision = case.parts.vision, bridge = case.parts.bridge })
end

-- The tower's rows of all pictures: [N, rows, W].
local function tower(m, tensors)
  return native.adopt(C.lc_model_vision(m.handle, tensors:tensor("pixels")))
end

local function row(t, i)
  local size = t:shape()
  return t:slice(1, i, i):contiguous():view(size[2], size[3])
end

-- The pairs about each picture as lucid.forest.pairs takes them.
local function pairs_of(want, features)
  local list = {}
  for i, p in ipairs(want.pairs) do
    local prompt = {}
    for _, id in ipairs(p.before) do prompt[#prompt + 1] = id end
    prompt[#prompt + 1] = lucid.IMAGE
    for _, id in ipairs(p.after) do prompt[#prompt + 1] = id end
    list[i] = { image = { picture = row(features, i), text = p.text }, prompt = prompt,
      chosen = p.chosen, rejected = p.rejected }
  end
  return list
end

local function logits(m, pair)
  local ids = {}
  for _, list in ipairs { pair.prompt, pair.chosen } do
    for _, id in ipairs(list) do ids[#ids + 1] = id end
  end
  return m:logits(lucid.forest { { tokens = ids, image = pair.image } })
end

for _, case in ipairs(CASES) do
  describe("golden " .. case.name, function()
    local expected = (case.expected or ROOT .. case.name) .. ".expected."
    local want, tensors = lucid.json.read(expected .. "json"), lucid.checkpoint(expected .. "safetensors")

    local function check_forward(dtype, tolerance)
      lucid.no_grad(function()
        local m = open(case, dtype)
        assert.equal(case.kind, m.kind)
        local features = tower(m, tensors)
        golden.agree(features, tensors:tensor("features"), tolerance, "features")
        assert.equal(tensors:shape("rows")[2], m.image_rows)
        for i, pair in ipairs(pairs_of(want, features)) do
          local rows = m:project(row(features, i), want.pairs[i].text)
          golden.agree(rows, row(tensors:tensor("rows"), i), tolerance, "rows of picture " .. i)
          golden.agree(logits(m, pair), tensors:tensor("logits." .. i), tolerance, "logits " .. i)
        end
      end)
    end

    it("sees, joins and reads as PyTorch does, in f32", function() check_forward("f32", 1e-4) end)
    it("and in bf16", function() check_forward("bf16", 2e-2) end)

    it("has PyTorch's preference loss and its gradient by every adapter", function()
      local m = open(case, "f32")
      m:lora { rank = want.rank, alpha = want.alpha, targets = want.targets }
      local trained = m:parameters()
      for _, p in ipairs(trained) do p.tensor:copy(tensors:tensor("lora." .. p.name)) end
      assert.equal(2 * 2 * #want.targets, #trained)
      local features = lucid.no_grad(tower, m, tensors)
      local f = lucid.forest.pairs(pairs_of(want, features))
      local reference = lucid.no_grad(m.pairs, m:base(), f)
      local policy = m:pairs(f)
      for i = 1, 2 do
        golden.agree({ reference.chosen:tolist()[i], reference.rejected:tolist()[i] },
          want.reference[i], 1e-4, "reference " .. i)
        golden.agree({ policy.chosen:tolist()[i], policy.rejected:tolist()[i] },
          want.policy[i], 1e-4, "policy " .. i)
      end
      local loss = native.adopt(C.lc_dpo_loss(policy.chosen, policy.rejected, reference.chosen,
        reference.rejected, want.beta))
      golden.agree({ loss:item() }, { want.loss }, 1e-4, "loss")
      loss:backward()
      for _, p in ipairs(trained) do
        golden.agree(p.tensor.grad, tensors:tensor("grad." .. p.name), 1e-3, p.name)
      end
    end)
  end)
end

describe("golden instructblip", function()
  local name = ROOT .. "instructblip"
  local want = lucid.json.read(name .. ".expected.json")
  local tensors = lucid.checkpoint(name .. ".expected.safetensors")

  it("sees a picture as transformers' processor hands it on, with or without a file that says so", function()
    local picture = lucid.image.load(native.root .. "tests/golden/llava_tiny/picture.png")
    local m = lucid.model(name)
    golden.agree(m.processor(picture), tensors:tensor("picture"), 1e-6, "pixels")
    local parts = lucid.model(ROOT .. "language", { vision = part "tower", bridge = part "qformer" })
    assert.same({ 3, 16, 16 }, parts.processor(picture):shape())
    assert.same({ 17, 32 }, parts:features(picture):shape())
  end)

  it("takes the adapter of a model that was made of parts", function()
    local dir = folder.folder()
    local parts = lucid.model(ROOT .. "language", { vision = part "tower", bridge = part "joined" })
    parts:lora { rank = 2, alpha = 4, targets = "q_proj,v_proj", seed = 1 }
    for i, p in ipairs(parts:parameters()) do p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = i })) end
    parts:save_adapter(dir)
    local published = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert.is_true(lucid.checkpoint(dir):has(published))
    local m = lucid.model(name, { adapter = dir })
    for i, p in ipairs(m:parameters()) do
      assert.same(parts:parameters()[i].tensor:tolist(), p.tensor:tolist())
    end
    folder.remove(dir)
  end)

  it("continues a prompt greedily as transformers does", function()
    local m = lucid.model(name)
    m.tokenizer = lucid.tokenizer(native.root .. "tests/golden/llava_tiny/classic")
    local pair = pairs_of(want, lucid.no_grad(tower, m, tensors))[1]
    local _, answer = m:generate { image = pair.image, ids = pair.prompt, max_new_tokens = #want.greedy }
    assert.same(want.greedy, answer.ids)
  end)

  it("never answers with what stands behind the tokenizer's pieces", function()
    local m, tokenizer = golden.model(name), lucid.tokenizer(native.root .. "tests/golden/llava_tiny/classic")
    local pair = pairs_of(want, lucid.no_grad(tower, m, tensors))[1]
    local pieces = math.max(unpack(want.greedy))          -- so the free answer's greatest id is no piece
    m.tokenizer = setmetatable({ pieces = pieces }, { __index = tokenizer })
    for _, opt in ipairs { {}, { temperature = 5, answers = 8 }, { beams = 4, answers = 4 },
      { beams = 4, answers = 4, length_norm = "full" } } do
      opt.image, opt.ids, opt.max_new_tokens = pair.image, pair.prompt, 12
      local _, first = m:generate(opt)
      for _, answer in ipairs(first.answers or { first }) do
        for _, id in ipairs(answer.ids) do assert.is_true(id < pieces) end
      end
    end
  end)

  it("has transformers' gradient by every parameter of tower, bridge and language model", function()
    local m, seen, all = lucid.model(name), 0, 0
    for _, which in ipairs { "vision", "projector", "language" } do m:train(which, true) end
    local first = pairs_of(want, tower(m, tensors))[1]
    lucid.scope(function()
      first.rejected = first.chosen
      m:logps(lucid.forest.pairs { first }):slice(1, 1, 1):sum():backward()
    end)
    for _, p in ipairs(m:all_parameters()) do
      local norm, square, grad = want.grad_norms[p.name], 0, p.tensor.grad
      for _, g in ipairs(grad and grad:view(-1):tolist() or {}) do square = square + g * g end
      if norm and norm >= ZERO then
        golden.agree({ math.sqrt(square) }, { norm }, 1e-3, "norm of " .. p.name)
        seen = seen + 1
      else
        assert(math.sqrt(square) < ZERO, p.name .. " has a gradient, but should have none")
      end
    end
    for _, norm in pairs(want.grad_norms) do all = all + (norm >= ZERO and 1 or 0) end
    assert.equal(all, seen)
  end)
end)

describe("the Q-Former", function()
  local m = lucid.model(ROOT .. "language", { vision = part "tower", bridge = part "qformer" })
  local tensors = lucid.checkpoint(ROOT .. "qformer.expected.safetensors")
  local pairs_list = pairs_of(lucid.json.read(ROOT .. "qformer.expected.json"),
    lucid.no_grad(tower, m, tensors))
  local picture = pairs_list[1].image.picture

  it("works without a text", function()
    lucid.no_grad(function()
      golden.agree(m:project(picture), tensors:tensor("rows_without_text"), 1e-4, "rows")
    end)
  end)

  it("gives a picture the same bits in any company", function()
    local function prompts(list)
      local sequences = {}
      for i, image in ipairs(list) do
        sequences[i] = { image = image, ids = { 1, lucid.IMAGE, 5, 6, 7 }, score_from = 5 }
      end
      return lucid.no_grad(m.token_logps, m, lucid.forest.of(sequences)):tolist()
    end
    local silent = { picture = picture, text = {} }
    local list = { pairs_list[1].image, silent, pairs_list[2].image, { picture = picture, text = { 4 } } }
    local together = prompts(list)
    for i, image in ipairs(list) do assert.equal(together[i], prompts({ image })[1]) end
    assert.not_equal(together[1], together[2])
  end)

  it("reads the question with BERT's vocabulary, and says so when there is none", function()
    local dir, words = folder.folder(), { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "there", "a", "dog", "?" }
    local f = assert(io.open(dir .. "/vocab.txt", "w"))
    f:write(table.concat(words, "\n"), "\n")
    f:close()
    local reading = lucid.model(ROOT .. "language", { vision = part "tower", bridge = part "qformer", bert = dir })
    reading.tokenizer = lucid.tokenizer(native.root .. "tests/golden/llava_tiny/classic")
    local seen = reading:picture(picture, "Is there a dog?")
    assert.same({ 2, 5, 6, 7, 8, 9, 3 }, seen.text)
    local question = { image = picture, prompt = "Is there a dog?", max_new_tokens = 3 }
    local _, asked = reading:generate(question)
    local ids = reading.template:tokens(reading.tokenizer, question.prompt)
    local _, given = reading:generate { image = seen, ids = ids, max_new_tokens = 3 }
    assert.same(given.logps, asked.logps)
    folder.remove(dir)
    m.tokenizer = reading.tokenizer
    local worked, reason = pcall(m.generate, m, question)
    assert.is_false(worked)
    assert.truthy(tostring(reason):find("give %-%-bert"))
  end)

  it("refuses texts that it has no place for", function()
    local function refusal(text)
      local worked, reason = pcall(m.project, m, picture, text)
      assert.is_false(worked)
      return tostring(reason)
    end
    assert.truthy(refusal({ 3, 50 }):find("is 50 but the Q-Former's vocabulary is 50", 1, true))
    local long = {}
    for i = 1, 17 do long[i] = 3 end
    assert.truthy(refusal(long):find("has 17 tokens but the Q-Former has 16 positions", 1, true))
  end)

  it("refuses features of another tower", function()
    local worked, reason = pcall(m.project, m, lucid.zeros { 16, 32 })
    assert.is_false(worked)
    assert.truthy(tostring(reason):find("16 rows of features but the tower makes 17", 1, true))
  end)
end)

describe("weights of parts", function()
  local dir
  setup(function() dir = folder.folder() end)
  teardown(function() folder.remove(dir) end)

  -- A copy of a file with some tensors changed; nil for one that is left out.
  local function changed(name, change)
    local from, tensors, path = lucid.checkpoint(part(name)), {}, dir .. "/" .. name .. ".safetensors"
    for _, n in ipairs(from:names()) do tensors[n] = from:tensor(n) end
    change(tensors)
    lucid.checkpoint.save(path, tensors)
    return path
  end

  local function refusal(vision, bridge)
    local worked, reason = pcall(lucid.model, ROOT .. "language", { vision = vision, bridge = bridge })
    assert.is_false(worked)
    return tostring(reason)
  end

  it("that are missing, misshapen or too many are listed by name", function()
    local vision = changed("tower", function(t)
      t["blocks.1.attn.q_bias"] = nil
      t["blocks.1.norm2.weight"] = lucid.zeros { 33 }
      t["blocks.0.attn.k_bias"] = lucid.zeros { 32 }
    end)
    local bridge = changed("joined", function(t) t["model.llama_proj.bias"] = lucid.zeros { 41 } end)
    local reason = refusal(vision, bridge)
    for _, what in ipairs { "tower.safetensors: the weights do not fit the model: ",
      "blocks.1.attn.q_bias (missing)", "blocks.1.norm2.weight (f32 [33], expected [32])",
      "blocks.0.attn.k_bias (not part of this model)", "; ", "joined.safetensors: ",
      "model.llama_proj.bias (f32 [41], expected [40])" } do
      assert.truthy(reason:find(what, 1, true), what .. "\n" .. reason)
    end
    assert.is_nil(reason:find("norm2.weight (not part", 1, true))
  end)

  it("are asked for when a language model stands alone", function()
    assert.truthy(refusal(nil, nil):find("neither llama_proj.weight", 1, true))
    assert.truthy(refusal(part "tower", part "tower"):find("tower.pth: it holds neither", 1, true))
    assert.truthy(refusal(nil, part "joined"):find("language: it holds no cls_token; EVA's tower has a file of its own", 1, true))
    assert.truthy(refusal(part "tower", dir .. "/none"):find("/none", 1, true))
  end)

  it("may have the root of a run on several devices before their names", function()
    local function rooted(name, before, root)
      return changed(name, function(t)
        local own = {}
        for n, value in pairs(t) do own[n] = value end
        for n, value in pairs(own) do
          t[n] = nil
          if n:find("^" .. before) then t[root .. n:sub(#before + 1)] = value end
        end
      end)
    end
    local tensors = lucid.checkpoint(ROOT .. "qformer.expected.safetensors")
    for _, root in ipairs { "module.", "model.module." } do
      local m = golden.model(ROOT .. "language",
        { vision = rooted("tower", "", root), bridge = rooted("qformer", "model.", root) })
      golden.agree(tower(m, tensors), tensors:tensor "features", 1e-5, root .. " features")
    end
  end)

  it("make one folder when the model is saved, BERT's vocabulary in it", function()
    local words = dir .. "/words.txt"
    lucid.file.write(words, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nis\n")
    lucid.model(ROOT .. "language", { vision = part "tower", bridge = part "qformer", bert = words }):save(dir .. "/reading")
    local reading = lucid.model(dir .. "/reading")
    assert.same({ 2, 5, 3 }, reading:picture("p", "is").text)
    reading:save(dir .. "/reading/again")
    assert.same({ 2, 5, 3 }, lucid.model(dir .. "/reading/again"):picture("p", "is").text)
    reading:save(dir .. "/reading")
    assert.is_true(lucid.file.exists(dir .. "/reading/qformer_tokenizer/vocab.txt"))
    local whole = lucid.model(ROOT .. "language", { vision = part "tower", bridge = part "joined" })
    whole:save(dir .. "/whole")
    local again = lucid.model(dir .. "/whole")
    assert.equal("minigpt4", again.kind)
    local tensors = lucid.checkpoint(ROOT .. "minigpt4.expected.safetensors")
    assert.same(tower(whole, tensors):tolist(), tower(again, tensors):tolist())
  end)
end)
