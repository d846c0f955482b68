-- The three training recipes on tiny models: end to end by the command line, and what each quirk of the published
-- programs does.
local access = require "lucid.access"
local bridged = require "tests.support.bridged"
local captions = require "lucid.captions"
local ccsbu = require "lucid.data.ccsbu"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local hadpo = require "lucid.data.hadpo"
local json = require "lucid.json"
local lucid = require "lucid"
local program = require "tests.support.program"
local quirks = require "lucid.quirks"
local training = require "tests.support.training"

local dir, models
setup(function()
  dir = folder.folder()
  training.world(dir)
  models = { llava = ("--model %s/model"):format(dir), minigpt4 = bridged.minigpt4(dir), instructblip = bridged.instructblip(dir) }
  training.captions(dir)
end)
teardown(function() folder.remove(dir) end)

-- Two steps of a recipe: its exit status and what it said. The optimizer's first step is not a warm-up's.
local function run(recipe, out, more)
  return training.run(("%s %s --images %s/world --data %s/pairs --steps 2 --rank 2 --alpha 4 --lr 1e-2 --warmup-ratio 0"
    .. " --threads 1 --cache none --save-steps 0 --out %s/%s %s"):format(recipe, models[recipe], dir, dir, dir, out, more or ""), dir)
end

local function read(model, more)
  local opt = { model = model, desc = dir .. "/pairs/desc_data.json", pope = dir .. "/pairs/pope_data.json",
    images = dir .. "/world" }
  for k, v in pairs(more or {}) do opt[k] = v end
  return hadpo.read(opt)
end

local function open(recipe)
  if recipe == "llava" then return lucid.model(dir .. "/model") end
  if recipe == "instructblip" then return lucid.model(dir .. "/instructblip") end
  return lucid.model(dir .. "/language", { vision = bridged.TOWER, bridge = dir .. "/bridge.safetensors" })
end

local ADAPTED = { llava = "language_model.model", minigpt4 = "model", instructblip = "language_model.model" }

describe("a recipe", function()
  for recipe, prefix in pairs(ADAPTED) do
    it("trains and leaves an adapter that loads: " .. recipe, function()
      local status, said = run(recipe, recipe .. "-plain", "--captions " .. dir .. "/cap --gamma-on captions --gamma 0.5")
      assert.equal(0, status, said)
      assert.truthy(said:find(("model: %s, "):format(recipe), 1, true), said)
      assert.truthy(said:find("6 desc, 6 pope", 1, true) and said:find("pairs (", 1, true), said)
      assert.truthy(said:find("self_attn.q_proj (adapter)", 1, true), said)
      assert.truthy(said:find("0.5 x the cross-entropy of 3 captions", 1, true), said)
      local log = training.log_of(("%s/%s-plain"):format(dir, recipe))
      assert.equal(2, #log)
      assert.equal(0, log[1]["rewards/margins"])
      assert.is_near(math.log(2) + 0.5 * log[1].caption_nll, log[1].loss, 1e-5)
      local at = ("%s/%s-plain/adapter"):format(dir, recipe)
      local saved = checkpoint(at)
      local layers = recipe == "llava" and 3 * 7 or 3 * 3
      assert.equal(2 * layers, #saved:names())
      assert.is_true(saved:has(("base_model.model.%s.layers.0.self_attn.q_proj.lora_B.weight"):format(prefix)))
      local m, moved = open(recipe), 0
      m:load_adapter(at)
      for _, p in ipairs(m:parameters()) do
        if p.name:find("lora_B", 1, true) and p.tensor:abs():sum():item() > 0 then moved = moved + 1 end
      end
      assert.equal(layers, moved)
    end)
  end

  it("has the published hyper-parameters as defaults, and says so in its help", function()
    local want = {
      llava = { lr = "2e-06", warmup = "0", ["warmup-ratio"] = "0.03", batch = "16", accumulate = "1", rank = "128", alpha = "256",
        targets = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", clip = "0", ["repeat"] = "desc:2",
        epochs = "1", steps = "0", gamma = "0", ["gamma-on"] = "chosen", ["max-length"] = "2048" },
      minigpt4 = { lr = "0.0001", warmup = "100", batch = "1", accumulate = "4", rank = "64", alpha = "16",
        targets = "q_proj,k_proj,v_proj", clip = "1", ["repeat"] = "desc:1", steps = "1000", gamma = "0.5",
        ["gamma-on"] = "captions", quant = "none", ["instruction-pairing"] = "shared" },
      instructblip = { lr = "4e-06", warmup = "0", ["warmup-ratio"] = "0", batch = "1", accumulate = "4", rank = "64",
        alpha = "16", targets = "q_proj,k_proj,v_proj", clip = "1", ["repeat"] = "pope:2", epochs = "1", steps = "0", gamma = "0" },
    }
    for recipe, defaults in pairs(want) do
      local pipe, shown = io.popen(program .. " " .. recipe .. " --help"), {}
      for line in pipe:lines() do
        local option, default = line:match "^  %-%-(%S+).* %[(.-)%]$"
        if option then shown[option] = default end
      end
      pipe:close()
      defaults.beta, defaults.schedule, defaults.sampling, defaults.seed = "0.1", "cosine", "offline", "42"
      for option, default in pairs(defaults) do assert.equal(default, shown[option], recipe .. " --" .. option) end
    end
  end)

  for _, recipe in ipairs { "llava", "minigpt4", "instructblip" } do
    it("goes on from a checkpoint to the same bytes, quirks and captions with it: " .. recipe, function()
      local more = "--steps 4 --save-steps 1 --keep 4 --as-published --gamma 0.5 --gamma-on captions --captions " .. dir .. "/cap"
      assert.equal(0, (run(recipe, recipe .. "-whole", more)))
      local status, said = run(recipe, recipe .. "-resumed", ("%s --resume %s/%s-whole/checkpoint-2"):format(more, dir, recipe))
      assert.equal(0, status, said)
      local function bytes(out) return file.read(("%s/%s/adapter/adapter_model.safetensors"):format(dir, recipe .. out)) end
      assert.equal(bytes "-whole", bytes "-resumed")
    end)
  end

  it("is of one kind of model", function()
    local status, said = training.run(("instructblip %s --images %s/world --data %s/pairs --out %s/no"):format(models.llava, dir,
      dir, dir), dir)
    assert.is_true(status ~= 0)
    assert.truthy(said:find("is a llava; lucid llava trains it", 1, true), said)
  end)

  it("asks for the captions that its gamma weighs", function()
    local status, said = run("minigpt4", "no")
    assert.equal(2, status > 255 and status / 256 or status)
    assert.truthy(said:find("give --captions", 1, true), said)
    status, said = run("llava", "no", "--captions " .. dir .. "/cap")
    assert.equal(2, status > 255 and status / 256 or status)
    assert.truthy(said:find("--gamma-on captions", 1, true), said)
  end)
end)

describe("--as-published", function()
  local ON = {
    llava = "--train-projector on",
    minigpt4 = "--instruction-pairing independent, --random-crops on, --quant fp4, --sync none",
    instructblip = "--random-crops on, --train-ln-vision on, --sync none",
  }
  local OFF = {
    llava = "--train-projector off",
    minigpt4 = "--instruction-pairing shared, --random-crops off, --quant none, --sync all_reduce",
    instructblip = "--random-crops off, --train-ln-vision off, --sync all_reduce",
  }

  for recipe, on in pairs(ON) do
    it("turns all of a model's quirks on and says so: " .. recipe, function()
      local more = recipe == "minigpt4" and "--captions " .. dir .. "/cap" or ""
      local status, said = run(recipe, recipe .. "-published", "--as-published " .. more)
      assert.equal(0, status, said)
      assert.truthy(said:find("quirks: " .. on .. "\n", 1, true), said)
      assert.truthy(said:find("cannot be", 1, true), said)
      status, said = run(recipe, "none", "--dry-run " .. more)
      assert.equal(0, status)
      assert.truthy(said:find("quirks: " .. OFF[recipe] .. "\n", 1, true), said)
      assert.is_nil(said:find("cannot be", 1, true))
    end)
  end

  it("leaves what the user has set", function()
    local opt = lucid.args.parse({ groups = { quirks.options "minigpt4", lucid.dist.OPTIONS }, common = "quant" },
      { "--as-published", "--no-random-crops", "--quant", "nf4" })
    quirks.apply("minigpt4", opt)
    assert.same({ "independent", false, "nf4" }, { opt.instruction_pairing, opt.random_crops, opt.quant })
  end)
end)

describe("--train-projector", function()
  it("saves the projector with the adapter, and a model that loads it has it", function()
    local status, said = run("llava", "projector", "--train-projector --eval-pairs 1 --save-steps 2")
    assert.equal(0, status, said)
    local at = dir .. "/projector/adapter"
    assert.same({ "multi_modal_projector.linear_1", "multi_modal_projector.linear_2" },
      json.read(at .. "/adapter_config.json").modules_to_save)
    local saved, m = checkpoint(at), open "llava"
    local name = "multi_modal_projector.linear_1.weight"
    local function own()
      for _, p in ipairs(m:all_parameters()) do
        if p.name == name then return p.tensor:tolist() end
      end
    end
    local before, trained = own(), saved:tensor("base_model.model.model." .. name):tolist()
    assert.are_not.same(before, trained)
    m:load_adapter(at)
    assert.same(trained, own())
    m:save_adapter(dir .. "/again")                       -- what was loaded is not lost
    assert.same(saved:names(), checkpoint(dir .. "/again"):names())
  end)

  it("goes to LLaVA's own programs as non_lora_trainables.bin", function()
    local out = dir .. "/exported"
    lucid.export.adapter(dir .. "/projector", out)
    local saved, beside = checkpoint(dir .. "/projector/adapter"), checkpoint(out .. "/non_lora_trainables.bin")
    local names = { ["0"] = "linear_1", ["2"] = "linear_2" }
    assert.equal(4, #beside:names())
    for _, name in ipairs(beside:names()) do
      local layer, what = name:match "^base_model%.model%.model%.mm_projector%.([02])%.(%w+)$"
      assert.same(saved:tensor(("base_model.model.model.multi_modal_projector.%s.%s"):format(names[layer], what)):tolist(),
        beside:tensor(name):tolist())
    end
    local found = lucid.inspect(out .. "/non_lora_trainables.bin")
    lucid.inspect.check(found)                            -- the zip's sums are right
    assert.equal("LLaVA projector (non-LoRA trainables)", found.kind)
    local layers = checkpoint(out .. "/adapter_model.safetensors"):names()
    assert.equal(2 * 3 * 7, #layers)
    for _, name in ipairs(layers) do assert.truthy(name:find("^base_model%.model%.model%.layers%.%d")) end
    assert.equal(json.null, json.read(out .. "/adapter_config.json").modules_to_save)
    local m, again = open "llava", open "llava"
    m:load_adapter(dir .. "/projector")
    again:load_adapter(out)
    for i, p in ipairs(m:all_parameters()) do assert.same(p.tensor:tolist(), again:all_parameters()[i].tensor:tolist()) end
    assert.error_matches(function() lucid.export.adapter(dir .. "/projector", out) end, "there already")
  end)

  it("moves the reference, too; gradients reach the projector alone of the base", function()
    local m = open "llava"
    m:lora { rank = 2, alpha = 4 }
    m:train_beside("_projector%.", true)
    local batch, base = lucid.dpo.encode(m, read "llava"), m:base()
    local settings = { loss = "sigmoid", options = { beta = 0.1 } }
    local forest = lucid.forest.pairs(batch)
    local before = lucid.no_grad(base.pairs, base, forest).chosen:tolist()
    lucid.scope(function() (lucid.dpo.step(m, base, batch, settings)):backward() end)
    local reached = 0
    for _, p in ipairs(m:all_parameters()) do
      local grad = p.tensor.grad
      if p.name:find("_projector%.") then
        assert.is_true(grad:abs():sum():item() > 0, p.name)
        reached = reached + 1
        lucid.no_grad(function() p.tensor:copy(p.tensor - grad * 1) end)
      else
        assert.equal(p.name:find("lora_", 1, true) ~= nil, grad ~= nil, p.name)
      end
    end
    assert.equal(4, reached)
    assert.are_not.same(before, lucid.no_grad(base.pairs, base, forest).chosen:tolist())
  end)
end)

describe("--train-ln-vision", function()
  it("trains the norm behind the tower and does not save it", function()
    local status, said = run("instructblip", "norm", "--train-ln-vision --save-steps 1")
    assert.equal(0, status, said)
    assert.truthy(said:find("vision_model.post_layernorm +2 +48\n"), said)
    for _, name in ipairs(checkpoint(dir .. "/norm/adapter"):names()) do assert.truthy(name:find("lora_", 1, true), name) end
    assert.equal(json.null, json.read(dir .. "/norm/adapter/adapter_config.json").modules_to_save)
    local trained = checkpoint(dir .. "/norm/checkpoint-2/trained.safetensors")       -- a resumed run needs it
    assert.same({ "vision_model.post_layernorm.bias", "vision_model.post_layernorm.weight" }, trained:names())
    local drift = trained:tensor("vision_model.post_layernorm.bias"):abs():sum():item()
    assert.is_true(drift > 0)
  end)

  it("is there in the other layout", function()
    local m = lucid.model(lucid.native.root .. "tests/golden/bridges/language", { vision = bridged.TOWER,
      bridge = lucid.native.root .. "tests/golden/bridges/qformer.pth" })
    m:lora { rank = 2, alpha = 4 }
    m:train_beside "ln_vision%."
    local names = {}
    for _, p in ipairs(m:parameters()) do
      if not p.name:find("lora_", 1, true) then names[#names + 1] = p.name:match "[^.]+%.[^.]+$" end
    end
    assert.same({ "ln_vision.weight", "ln_vision.bias" }, names)
    assert.error_matches(function() m:train_beside "nothing" end, "there are no tensors 'nothing'")
  end)
end)

describe("--instruction-pairing", function()
  local function scored(pairing)
    local m = open "minigpt4"
    m:lora { rank = 2, alpha = 4 }
    local pairs_list = lucid.dpo.encode(m, read("minigpt4", { pairing = pairing }))
    local present = access(m, { seed = 1, redraw = true, pairing = pairing })
    local batch = present(pairs_list)
    local _, stats = lucid.dpo.step(m, m:base(), batch, { loss = "sigmoid", options = { beta = 0.1 } })
    return batch, stats, m
  end

  it("independent scores policy and reference under different questions", function()
    local batch, stats, m = scored "independent"
    local other, by_hand = 0, {}
    for i, p in ipairs(batch) do
      assert.equal(p.kind == "desc", p.reference_prompt ~= nil)
      if p.reference_prompt and table.concat(p.prompt, " ") ~= table.concat(p.reference_prompt, " ") then other = other + 1 end
      by_hand[i] = { image = p.image, prompt = p.reference_prompt or p.prompt, chosen = p.chosen, rejected = p.rejected }
    end
    assert.is_true(other > 0)
    local want = lucid.no_grad(m.pairs, m, lucid.forest.pairs(by_hand)).chosen:mean():item()
    local function number(v) return type(v) == "number" and v or v:item() end
    assert.is_near(want, number(stats["ref_logps/chosen"]), 1e-4)
    assert.is_true(math.abs(number(stats["logps/chosen"]) - want) > 1e-3)
  end)

  it("shared does not", function()
    local batch, stats = scored "shared"
    for _, p in ipairs(batch) do assert.is_nil(p.reference_prompt) end
    local function number(v) return type(v) == "number" and v or v:item() end
    assert.equal(number(stats["logps/chosen"]), number(stats["ref_logps/chosen"]))
  end)
end)

describe("the reference", function()
  local function why(m, more)
    local opt = { reference_cache = "on", cache = dir .. "/cache", reference_free = false }
    for k, v in pairs(more or {}) do opt[k] = v end
    return (select(2, lucid.references.of(m, opt)))
  end

  it("is not kept where it would be another one next time", function()
    local m = open "llava"
    m:lora { rank = 2, alpha = 4 }
    assert.is_nil(why(m))
    assert.equal("random crops are not seen again", why(m, { random_crops = true }))
    m:train_beside "_projector%."
    assert.equal("the projector is trained, which the reference sees", why(m))
    local loaded = open "llava"
    loaded:load_adapter(dir .. "/projector")
    assert.equal("parts of the base come with the adapter", why(loaded))
  end)
end)

describe("an access", function()
  local function prompts(m, list, opt, rounds)
    local present, seen = access(m, opt), {}
    for n = 1, rounds do
      seen[n] = {}
      for i, p in ipairs(present(list)) do seen[n][i] = table.concat(p.prompt, " ") end
    end
    return seen
  end

  it("draws a description's instruction anew, by the seed, and leaves questions as they are", function()
    local m = open "minigpt4"
    local list = lucid.dpo.encode(m, read "minigpt4")
    local seen = prompts(m, list, { seed = 1, redraw = true }, 4)
    assert.same(seen, prompts(m, list, { seed = 1, redraw = true }, 4))
    assert.are_not.same(seen, prompts(m, list, { seed = 2, redraw = true }, 4))
    local changed = 0
    for i, p in ipairs(list) do
      for n = 2, 4 do
        if p.kind == "pope" then assert.equal(seen[1][i], seen[n][i])
        elseif seen[n][i] ~= seen[1][i] then changed = changed + 1 end
      end
    end
    assert.is_true(changed > 0)
    for _, row in ipairs(prompts(m, list, { seed = 1 }, 2)) do
      for i, p in ipairs(list) do assert.equal(table.concat(p.prompt, " "), row[i]) end
    end
  end)

  it("crops descriptions' pictures anew every time, questions' once or never", function()
    local function crops(recipe)
      local m = open(recipe)
      local list = lucid.dpo.encode(m, read(recipe))
      local present, names = access(m, { seed = 1, crops = access.CROPS[recipe] }), { desc = {}, pope = {} }
      for n = 1, 2 do
        for _, p in ipairs(present(list)) do
          local crop = type(p.image) == "table" and p.image.crop
          names[p.kind][n] = names[p.kind][n] or (crop and crop.name .. (crop.mirror and " mirrored" or "")) or "whole"
        end
      end
      return names
    end
    assert.same({ desc = { "desc/1/1:0", "desc/1/1:1" }, pope = { "whole", "whole" } }, crops "minigpt4")
    assert.same({ desc = { "desc/1/1:0 mirrored", "desc/1/1:1 mirrored" }, pope = { "pope/1 mirrored", "pope/1 mirrored" } },
      crops "instructblip")
  end)

  it("makes features of a crop that depend on its name and the seed alone", function()
    local m = open "instructblip"
    local path = dir .. "/world/VG_100K/300001.jpg"
    local function features(name, seed)
      local seen = m:picture(path, "Is there a car in the image?", { seed = seed, name = name, mirror = true })
      assert.is_true(#seen.text > 2)
      local values = m:features(seen):tolist()
      m:forget_features()
      return values
    end
    assert.same(features("a", 1), features("a", 1))
    assert.are_not.same(features("a", 1), features("b", 1))
    assert.are_not.same(features("a", 1), features("a", 2))
    assert.are_not.same(features("a", 1), m:features(path):tolist())
  end)

  it("brings a caption with every pair, each kind in its own turn", function()
    local m = open "minigpt4"
    local draw = captions.draw(m, ccsbu.read(dir .. "/cap"), { seed = 1, crop = true })
    local present = access(m, { seed = 1, captions = draw })
    local batch = present(lucid.dpo.encode(m, read "minigpt4"))
    local answers = {}
    for i, p in ipairs(batch) do
      local c = p.caption
      answers[i] = m.tokenizer:decode { unpack(c.ids, c.score_from, #c.ids - 1) }
      assert.equal(m.tokenizer.eos, c.ids[#c.ids])
      assert.equal(dir .. "/cap/image/" .. (answers[i] == "A red car." and 1 or 2) .. ".jpg", c.image.picture)
      assert.equal("caption/" .. c.image.picture:match "(%d)%.jpg", c.image.crop.name)
    end
    local first, second = "A red car.", "There is a blue cat in the image."       -- the last one is left out, as published
    assert.same({ first, second, first, second, first, second }, { unpack(answers, 1, 6) })
    assert.same({ first, second, first, second, first, second }, { unpack(answers, 7, 12) })
  end)
end)

describe("the caption loss", function()
  it("is the mean over captions of their tokens' mean cross-entropy", function()
    local m = open "minigpt4"
    m:lora { rank = 2, alpha = 4 }
    local draw = captions.draw(m, ccsbu.read(dir .. "/cap"), { seed = 1 })
    local list, want = { draw "desc", draw "desc", draw "pope" }, 0
    lucid.no_grad(function()
      for _, c in ipairs(list) do
        local logps = m:token_logps(lucid.forest.of { c }):tolist()
        local sum = 0
        for _, v in ipairs(logps) do sum = sum - v end
        want = want + sum / #logps / #list
      end
    end)
    local loss = captions.loss(m, list)
    assert.is_near(want, loss:item(), 1e-5)
    loss:backward()
    for _, p in ipairs(m:parameters()) do
      if p.name:find("lora_B", 1, true) then assert.is_true(p.tensor.grad:abs():sum():item() > 0) end
    end
  end)

  it("is the same however a step is split", function()
    local m = open "minigpt4"
    m:lora { rank = 2, alpha = 4 }
    local list = lucid.dpo.encode(m, read("minigpt4", { pairing = "independent" }))
    local draw = captions.draw(m, ccsbu.read(dir .. "/cap"), { seed = 1 })
    local batch = access(m, { seed = 1, redraw = true, pairing = "independent", captions = draw })(list)
    batch[#batch + 1] = batch[1]
    local function step(batches, more)
      local settings = { loss = "sigmoid", options = { beta = 0.1 }, group = "image", caption_gamma = 0.5 }
      for k, v in pairs(more or {}) do settings[k] = v end
      local steps, sum = lucid.dpo.steps(m, m:base(), settings), { loss = 0, caption_nll = 0 }
      local parts = steps.split(batches)
      for _, part in ipairs(parts) do
        local loss, stats, share = steps.loss(part)
        sum.loss, sum.caption_nll = sum.loss + loss:item(), sum.caption_nll + share * stats.caption_nll:item()
        loss:backward()
      end
      local gradient = {}
      for _, p in ipairs(m:parameters()) do
        gradient[#gradient + 1] = p.tensor.grad:sum():item()
        p.tensor:zero_grad()
      end
      return sum, gradient, #parts
    end
    local whole, gradient = step { batch }
    local singles = {}
    for i, p in ipairs(batch) do singles[i] = { p } end
    for _, other in ipairs { { step({ batch }, { tokens_per_step = 130 }) }, { step(singles) },
      { step({ batch }, { group = "none" }) } } do
      assert.is_near(whole.loss, other[1].loss, 1e-5)
      assert.is_near(whole.caption_nll, other[1].caption_nll, 1e-5)
      for i, g in ipairs(gradient) do assert.is_near(g, other[2][i], 1e-5) end
    end
    local _, _, parts = step({ batch }, { tokens_per_step = 130 })
    assert.is_true(parts > 1)
  end)

  it("asks the policy alone and is weighed by gamma", function()
    local m = open "minigpt4"
    m:lora { rank = 2, alpha = 4 }
    local present = access(m, { seed = 1, captions = captions.draw(m, ccsbu.read(dir .. "/cap"), { seed = 1 }) })
    local batch, asked = present(lucid.dpo.encode(m, read "minigpt4")), 0
    local base = m:base()
    local reference = { pairs = function(_, f) asked = asked + 1 return base:pairs(f) end }
    local loss, stats = lucid.dpo.step(m, reference, batch, { loss = "sigmoid", options = { beta = 0.1 }, caption_gamma = 0.25 })
    assert.equal(1, asked)
    assert.is_near(math.log(2) + 0.25 * stats.caption_nll:item(), loss:item(), 1e-5)
    local list = {}
    for i, p in ipairs(batch) do list[i] = p.caption end
    assert.is_near(captions.loss(m, list):item(), stats.caption_nll:item(), 1e-6)
    assert.is_near(math.log(2), lucid.dpo.step(m, reference, batch, { loss = "sigmoid", options = { beta = 0.1 } }):item(), 1e-5)
  end)
end)

