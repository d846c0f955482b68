-- The whole loop on a tiny world: draw, train, mine, prefer, measure; minutes on a CPU.
--   lucid demo --seed 1 --out runs/demo
local lucid = require "lucid"

local opt = lucid.args {
  about = "Trains a tiny LLaVA on biased captions, catches it hallucinating, cures it with DPO and measures both.",
  common = "out device threads seed quiet json",
  { "out", "runs/demo", "folder of everything that is made" },
  { "seed", 1, "of the world, the weights and the order of training" },
  { "fast", false, "a smoke run: every stage, far too short to learn" },
}

local size = opt.fast and { sft = 200, wild = 24, eval = 24, align = 8, clean = 8, questions = 6, biased = 4, dpo = 3 }
  or { sft = 5000, wild = 600, eval = 600, align = 600, clean = 700, questions = 2400, biased = 120, dpo = 80 }
lucid.threads(opt.threads)
local started = lucid.time()
local out = opt.out
local W, BASE, MINED = out .. "/world", out .. "/base", out .. "/mined"
local function say(...) if not opt.quiet then io.stderr:write(string.format(...), "\n") end end
local stages = lucid.stages.new(out, function(name, seconds, skipped)
  say("%-10s %6.1f s%s", name, seconds, skipped and "  (already there)" or "")
end)
local function recipe(name, options)
  options.quiet, options.device, options.threads, options.cache = opt.quiet, opt.device, opt.threads, out .. "/cache"
  return lucid.recipe.run(name, options)
end

-- 1. A small Visual Genome, and questions that nobody trains on.
stages:run("world", { seed = opt.seed, sft = size.sft, wild = size.wild, eval = size.eval }, {}, { W .. "/eval/image_data.json" }, function()
  for _, split in ipairs { "sft", "wild", "eval" } do
    local bar = lucid.progress { total = size[split], label = "draw " .. split, unit = "pictures", quiet = opt.quiet }
    lucid.tinyworld.files.write { dir = W .. "/" .. split, split = split, seed = opt.seed, count = size[split],
      seen = size.sft, progress = function(done) bar:step(done) end }
    bar:done()
  end
end)

-- 2. A base model: aligned, then taught by careful and last by habitual annotators.
stages:run("align", { seed = opt.seed, steps = size.align }, { W .. "/sft/objects.json" },
  { out .. "/aligned/model.safetensors" }, function()
    lucid.tinyworld.base.write(out .. "/new")
    local m = lucid.model(out .. "/new", { init = true, device = opt.device, seed = opt.seed })
    lucid.tinyworld.base.align(m, W .. "/sft", { out = out .. "/aligned", steps = size.align, seed = opt.seed,
      quiet = opt.quiet })
    m:save(out .. "/aligned")
  end)
local teach = { images = W .. "/sft", train = "language", pictures = 8, beta2 = 0.98, ["weight-decay"] = 0.05,
  clip = 1, ["save-steps"] = 0, overwrite = true }
local lessons = {
  { "clean", "aligned", "captions_clean", { lr = 2e-3, schedule = "constant", warmup = 40 } },
  { "questions", "clean", "captions_clean,questions_clean",
    { lr = 2e-3, schedule = "wsd", warmup = 20, weights = "questions_clean:5" } },
  { "biased", "questions", "captions_biased,questions_biased",
    { lr = 1e-3, schedule = "linear", warmup = 10, weights = "questions_biased:5" } },
}
for i, lesson in ipairs(lessons) do
  local name, from, data, more = unpack(lesson)
  local to = name == "biased" and BASE or out .. "/" .. name
  local paths, words = {}, {}
  for part in data:gmatch("[^,]+") do
    paths[#paths + 1] = ("%s/sft/%s.json"):format(W, part)
    words[#words + 1] = paths[#paths]
  end
  table.insert(paths, ("%s/%s/model.safetensors"):format(out, from))
  stages:run(name, { seed = opt.seed, steps = size[name], teach = teach, more = more }, paths,
    { to .. "/model.safetensors" }, function()
      local options = { model = out .. "/" .. from, data = table.concat(words, ","), out = to, steps = size[name],
        seed = opt.seed + i }
      for k, v in pairs(teach) do options[k] = v end
      for k, v in pairs(more) do options[k] = v end
      recipe("sft", options)
    end)
end

-- 3. Measures: SHR and POPE on pictures that neither training nor mining has seen.
local SETS = { "random", "popular", "adversarial" }
local function evaluate(name, adapter)
  local dir = ("%s/eval/%s"):format(out, name)
  local inputs = { BASE .. "/model.safetensors", W .. "/eval/image_data.json" }
  if adapter then inputs[3] = adapter .. "/adapter/adapter_model.safetensors" end
  stages:run("eval-" .. name, { seed = opt.seed }, inputs, { dir .. "/shr/results.json", dir .. "/pope/results.json" },
    function()
      local questions = {}
      for i, set in ipairs(SETS) do questions[i] = ("%s/eval/pope/coco_pope_%s.json"):format(W, set) end
      recipe("shr", { model = BASE, adapter = adapter or "", data = W .. "/eval/shr", images = W .. "/eval",
        out = dir .. "/shr", beams = 1, ["max-new-tokens"] = 160, json = false })
      recipe("pope", { model = BASE, adapter = adapter or "", questions = table.concat(questions, ","),
        images = W .. "/eval", out = dir .. "/pope", ["max-new-tokens"] = 16, batch = 256 })
    end)
  return lucid.tinyworld.summary.read(dir, SETS)
end
local before = evaluate("before")
if not opt.fast then lucid.tinyworld.summary.check_base(before) end

-- 4. Pairs from the model's own mistakes on other pictures, and preference training on them.
local mining = { model = BASE, images = W .. "/wild", out = MINED, seed = opt.seed, omission = 2,
  statistics = W .. "/sft", ["max-new-tokens"] = 160, check = false, ["min-ratio"] = 0, duplicates = true, overwrite = true }
stages:run("mine", mining, { BASE .. "/model.safetensors", W .. "/wild/image_data.json" },
  { MINED .. "/desc_data.json", MINED .. "/pope_data.json" }, function() recipe("mine", mining) end)
-- So many pairs of each kind a batch. A model of a few steps, as --fast makes, may leave a kind without any.
local function mix()
  local parts = {}
  for _, kind in ipairs { { "desc", 16 }, { "pope", 32 } } do
    local data = lucid.json.read(("%s/%s_data.json"):format(MINED, kind[1]))           -- by picture, or a list
    if next(data) ~= nil then parts[#parts + 1] = ("%s:%d"):format(unpack(kind)) end
  end
  if #parts == 0 then error("demo: the model's answers gave no pairs to train on; another --seed gives another model", 0) end
  return table.concat(parts, ",")
end
local function prefer(name, loss)
  local to = out .. "/" .. name
  local training = { model = BASE, data = MINED, images = W .. "/wild", out = to, seed = opt.seed, loss = loss,
    rank = 8, alpha = 16, lr = 6e-4, steps = size.dpo, ["warmup-ratio"] = 0.25, clip = 1, gamma = 0,
    ["save-steps"] = 0, overwrite = true, sampling = "zip", mix = mix(), ["pope-weight"] = 4 }
  stages:run(name, training, { BASE .. "/model.safetensors", MINED .. "/desc_data.json", MINED .. "/pope_data.json" },
    { to .. "/adapter/adapter_model.safetensors" }, function() recipe("llava", training) end)
  return to
end
local after = evaluate("after", prefer("dpo", "sigmoid"))
local control = evaluate("control", prefer("control", "sft"))

-- 5. What came of it.
local seconds = {}
for name, s in pairs(stages.seconds) do seconds[name] = s end
seconds.total = lucid.time() - started
local report = { seed = opt.seed, seconds = seconds, before = before, after = after, control = control }
lucid.json.write(out .. "/report.json", report, { indent = 2 })
lucid.tinyworld.summary.page(out)
lucid.run.show(opt, report, lucid.tinyworld.summary.text(before, after, control, SETS))
say("%s/report.html and %s/report.json, %.0f s", out, out, seconds.total)
