-- A whole model: opening and refusing folders, the forest's exactness through all layers, bits that do
-- not depend on company or threads, adapters, recomputation, generation.
local lucid = require "lucid"
local C = require("lucid.native").C
local file = require "lucid.file"
local json = require "lucid.json"
local folder = require "tests.support.folder"
local tiny = require "tests.support.tiny"

local dir, m, pictures

local function distance(a, b)
  local up, down = 0, 0
  for i = 1, #a do
    up, down = up + (a[i] - b[i]) ^ 2, down + b[i] ^ 2
  end
  return math.sqrt(up / math.max(down, 1e-30))
end

local function prompt(question) return m.template:tokens(m.tokenizer, question) end

local function sequence(picture, question, answer)
  local ids = prompt(question)
  local from = #ids + 1
  for _, id in ipairs(m.tokenizer:encode(answer)) do ids[#ids + 1] = id end
  ids[#ids + 1] = m.tokenizer.eos
  return { image = picture, ids = ids, score_from = from }
end

describe("a model", function()
  setup(function()
    dir = folder.folder()
    m = tiny.model(dir, 3)
    pictures = tiny.pictures(dir, 4)
  end)
  teardown(function() folder.remove(dir) end)

  local function some()
    return {
      sequence(pictures[1], "Is there a car in the image?", "Yes, there is a car."),
      sequence(pictures[1], "Is there a car in the image?", "No, there is no car."),
      sequence(pictures[1], "Describe this image in detail.", "The sun at the top left is red."),
      sequence(pictures[2], "Is there a dog in the image?", "No, there is no dog."),
      sequence(pictures[2], "Is there a dog in the image?", "No, there is no dog."),
      sequence(pictures[3], "Describe this image in detail.", "There is a tree at the top left in green."),
    }
  end

  it("gives a forest the log-probabilities of separate sequences", function()
    local list = some()
    local together, first = lucid.no_grad(m.token_logps, m, lucid.forest.of(list))
    local all = together:tolist()
    for i, s in ipairs(list) do
      local alone = lucid.no_grad(m.token_logps, m, lucid.forest.of { s }):tolist()
      local own = {}
      for k = first[i], first[i + 1] - 1 do own[#own + 1] = all[k] end
      assert.equal(#alone, #own)
      assert.is_true(distance(own, alone) < 1e-5)
    end
  end)

  it("gives a sequence the same bits in any company and with any number of threads", function()
    local one = some()[1]
    local function logps(list, threads)
      lucid.threads(threads)
      local values, first = lucid.no_grad(m.token_logps, m, lucid.forest.of(list))
      lucid.threads(0)
      local out, all = {}, values:tolist()
      for k = first[1], first[2] - 1 do out[#out + 1] = ("%.9g"):format(all[k]) end
      return table.concat(out, " ")
    end
    local alone = logps({ one }, 1)
    for _, company in ipairs { 1, 7, 63 } do
      local list = { one }
      for i = 1, company do
        local other = some()[1 + i % 6]
        list[#list + 1] = other
      end
      assert.equal(alone, logps(list, 1))
      assert.equal(alone, logps(list, 2))
    end
  end)

  it("sums per sequence what token_logps lists", function()
    local f = lucid.forest.of(some())
    local tokens, first = lucid.no_grad(m.token_logps, m, f)
    local sums, all = lucid.no_grad(m.logps, m, f):tolist(), tokens:tolist()
    for i = 1, #sums do
      local sum = 0
      for k = first[i], first[i + 1] - 1 do sum = sum + all[k] end
      assert.is_true(math.abs(sum - sums[i]) < 1e-3)
    end
  end)

  it("answers the same alone and among others, and stops where it is told", function()
    local requests = {}
    for i, picture in ipairs(pictures) do
      requests[2 * i - 1] = { image = picture, prompt = "Describe this image in detail." }
      requests[2 * i] = { image = picture, prompt = "Is there a car in the image?" }
    end
    local all = m:generate_all(requests, { max_new_tokens = 12 })
    for i, r in ipairs(requests) do
      local text, answer = m:generate { image = r.image, prompt = r.prompt, max_new_tokens = 12 }
      assert.equal(all[i].text, text)
      assert.is_true(#answer.ids <= 12)
      assert.is_true(answer.reason == "eos" or (answer.reason == "length" and #answer.ids == 12))
    end
    local short = m:generate_all(requests, { max_new_tokens = 12, batch = 3 })
    for i = 1, #all do assert.same(all[i].ids, short[i].ids) end
  end)

  it("samples by seed, and the same numbers whatever the batch", function()
    local requests = {}
    for i = 1, 6 do requests[i] = { image = pictures[1 + i % 4], prompt = "Describe this image in detail." } end
    local function texts(seed, batch)
      local out = {}
      local opt = { max_new_tokens = 10, temperature = 1, top_p = 0.9, seed = seed, batch = batch }
      for i, a in ipairs(m:generate_all(requests, opt)) do out[i] = a.text end
      return table.concat(out, "|")
    end
    assert.equal(texts(1, 6), texts(1, 2))
    assert.not_equal(texts(1, 6), texts(2, 6))
  end)

  it("begins an adapter as the base, trains it alone, and switches it off", function()
    local own = require("lucid.model").open(dir)
    local f = lucid.forest.of(some())
    local before = lucid.no_grad(own.logps, own, f):tolist()
    own:lora { rank = 4, alpha = 8, seed = 1 }
    assert.same(before, lucid.no_grad(own.logps, own, f):tolist())
    assert.equal(2 * 7 * 3, #own:parameters())
    for _, p in ipairs(own:parameters()) do
      assert.truthy(p.name:find("lora_[AB]"))
      p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = 5 }) * 0.05)
    end
    local changed = lucid.no_grad(own.logps, own, f):tolist()
    assert.is_true(distance(changed, before) > 1e-4)
    assert.same(before, lucid.no_grad(own.logps, own:base(), f):tolist())
  end)

  it("recomputes blocks to the same gradients", function()
    local function gradients(on)
      local own = require("lucid.model").open(dir)
      own:lora { rank = 4, alpha = 8, seed = 1 }
      for i, p in ipairs(own:parameters()) do p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = i }) * 0.05) end
      own:recompute(on)
      own:logps(lucid.forest.of(some())):sum():backward()
      local list = {}
      for i, p in ipairs(own:parameters()) do list[i] = p.tensor.grad:view(-1):tolist() end
      return list
    end
    local plain, again = gradients(false), gradients(true)
    for i = 1, #plain do assert.same(plain[i], again[i]) end
  end)

  it("saves a folder that opens to the same model", function()
    local copy = dir .. "/copy"
    m:save(copy)
    local other = require("lucid.model").open(copy)
    local f = lucid.forest.of(some())
    assert.same(lucid.no_grad(m.logps, m, f):tolist(), lucid.no_grad(other.logps, other, f):tolist())
  end)

  it("runs in bf16 and f16 near f32", function()
    local f = lucid.forest.of(some())
    local exact = lucid.no_grad(m.logps, m, f):tolist()
    for dtype, limit in pairs { bf16 = 0.03, f16 = 0.005 } do
      local half = require("lucid.model").open(dir, { dtype = dtype })
      assert.is_true(distance(lucid.no_grad(half.logps, half, f):tolist(), exact) < limit)
    end
  end)

  it("names what does not fit", function()
    local open = require("lucid.model").open
    local function refused(pattern, change)
      local broken = dir .. "/broken"
      m:save(broken)
      local config = json.read(broken .. "/config.json")
      change(config, broken)
      json.write(broken .. "/config.json", config)
      local ok, reason = pcall(open, broken)
      assert.is_false(ok)
      assert.truthy(reason:find(pattern, 1, true), reason)
      assert.is_nil(reason:find("\n", 1, true))
    end
    refused("expected [600, 128]", function(c) c.text_config.vocab_size = 600 end)
    refused("(missing)", function(c) c.text_config.num_hidden_layers = 4 end)
    refused("not part of this model", function(c) c.text_config.num_hidden_layers = 2 end)
    refused("rope_scaling", function(c) c.text_config.rope_scaling = { type = "linear", factor = 2 } end)
    refused("model_type", function(c) c.model_type = "bert" end)
    refused("\"hidden_size\" should be", function(c) c.text_config.hidden_size = "many" end)
    refused("no object", function(c) c.vision_config = 7 end)
    refused("no object", function(c) c.text_config.rope_parameters = "none" end)
    refused("vision_feature_layer", function(c) c.vision_feature_layer = -9 end)
    local ok, reason = pcall(open, dir .. "/nothing")
    assert.is_false(ok)
    assert.truthy(reason:find("no such folder", 1, true))
    file.mkdir(dir .. "/empty")
    ok, reason = pcall(open, dir .. "/empty")
    assert.is_false(ok)
    assert.truthy(reason:find("config.json", 1, true))
  end)

  it("keeps pictures apart that are tensors with the same corners", function()
    local one, two = lucid.zeros({ 64, 64, 3 }, { dtype = "u8" }), lucid.zeros({ 64, 64, 3 }, { dtype = "u8" })
    two:slice(1, 20, 40):slice(2, 20, 40):copy(lucid.full({ 21, 21, 3 }, 200, { dtype = "u8" }))
    local function of(...)
      local list = {}
      for i, image in ipairs { ... } do list[i] = sequence(image, "Is there a car in the image?", "Yes.") end
      return m:logps(lucid.forest.of(list)):tolist()
    end
    local together = of(one, two)
    assert.equal(of(one)[1], together[1])
    assert.equal(of(two)[1], together[2])
    assert.not_equal(together[1], together[2])
  end)

  it("refuses what is no forest, no prompt and no rank", function()
    for pattern, f in pairs {
      ["a forest is expected"] = function() m:logps {} end,
      ["a request needs a prompt"] = function() m:generate { image = pictures[1] } end,
      ["lora: rank and alpha are numbers"] = function() m:lora { rank = 4 } end,
    } do
      local ok, message = pcall(f)
      assert.is_false(ok)
      assert.truthy(message:find(pattern, 1, true), message)
    end
  end)

  it("refuses paths that are longer than its positions, and ids that are none", function()
    local ids = prompt("Is there a car in the image?")
    local long = { image = pictures[1], ids = ids, score_from = #ids + 1 }
    for _ = 1, 600 do ids[#ids + 1] = 5 end
    long.score_from = #ids
    assert.has_error(function() m:logps(lucid.forest.of { long }) end)
    assert.has_error(function()
      m:logps(lucid.forest { { tokens = { 1, 5 } }, { tokens = { 99999 }, parent = 1, score = true } })
    end)
  end)
end)

describe("a model's dtype", function()
  it("is f32 for files of f32, and for those of 16 bits what the device is fast with", function()
    local fast = C.lc_fast_dtype(C.LC_HOST) == C.LC_BF16 and "bf16" or "f32"
    local function dtype(path, asked)
      return lucid.model(path, { dtype = asked }):word_embeddings():dtype()
    end
    local short, long = "tests/golden/llava_original/model", "tests/golden/llava_tiny/classic"
    local clip = { vision = "tests/golden/llava_original/clip" }
    assert.equal("f32", dtype(long))
    assert.equal("f32", dtype(long, "auto"))
    assert.equal("bf16", dtype(long, "bf16"))
    assert.equal(fast, lucid.model(short, clip):word_embeddings():dtype())
    assert.equal("f32", lucid.model(short, { vision = clip.vision, dtype = "f32" }):word_embeddings():dtype())
  end)
end)
