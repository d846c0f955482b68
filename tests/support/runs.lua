-- Run folders as the recipes write them, made up: what a page of runs is tested with. No model is asked.
--   runs/{before,after}/{pope,shr}   a model alone and with the adapter of runs/dpo      runs/{chair,amber,mined}
--   runs/cut                         an evaluation that was cut off before its results
local file = require "lucid.file"
local image = require "lucid.image"
local json = require "lucid.json"
local pope = require "lucid.metric.pope"
local rng = require "lucid.rng"
local shr = require "lucid.metric.shr"
local tensor = require "lucid.tensor"

local M = { PICTURES = 10 }

-- What a model may say to a page that believes it.
M.HOSTILE = '</li></ul><script>document.title = "taken"</script><img src="http://127.0.0.1/x.png" onerror="alert(1)">'
  .. "\226\128\174 backwards \1 & <b>bold</b> " .. ("long"):rep(200)

local function write(dir, name, text)
  file.mkdir(dir)
  file.write(dir .. "/" .. name, text)
end

local function lines(records)
  local list = {}
  for i, r in ipairs(records) do list[i] = json.encode(r) .. "\n" end
  return table.concat(list)
end

--- Writes config.json.
function M.config(dir, command, options)
  write(dir, "config.json", json.encode { command = command, options = options, hashes = { questions = { random = ("0a"):rep(32) } },
    versions = { lucid = "0.1.0", features = "a\nb" } })
end

-- A picture with a gradient: [height, width, 3]; the even ones are larger than a page shows them.
local function picture(path, i)
  local height, width = i % 2 == 0 and 300 or 48, i % 2 == 0 and 900 or 64
  local row = tensor.tensor({ { { 40 * i % 256, 90, 200 }, { 250, 20 * i, 60 } }, { { 10, 200, 90 }, { 90, 30, 30 } } },
    { dtype = "u8" })
  image.save(image.resize(row, height, width, "bilinear"), path)
end

local function metrics_of(results, dir, samples)
  write(dir, "results.json", json.encode(results))
  write(dir, "samples.jsonl", lines(samples))
end

-- Answers to three sets; a model that is `often` right of ten times.
local function write_pope(dir, options, often)
  M.config(dir, "pope", options)
  local results, samples, random = {}, {}, rng(often, "pope")
  for _, set in ipairs { "random", "popular", "adversarial" } do
    local records = {}
    for i = 1, M.PICTURES * 6 do
      local label = i % 2 == 0 and "no" or "yes"
      local right = random:uniform() * 10 < often
      records[i] = { image = ("%d.jpg"):format(i % M.PICTURES + 1), label = label, question_id = i, set = set,
        text = "Is there a cat?", answer = (label == "yes") == right and "Yes." or "No, there is none." }
    end
    results[set] = pope.score(records)
    for _, r in ipairs(records) do samples[#samples + 1] = r end
  end
  results.generation = { prefills = { value = M.PICTURES } }
  metrics_of(results, dir, samples)
end

-- Descriptions of every picture: the i-th has i % wrong made-up sentences of four.
local function write_shr(dir, options, wrong)
  M.config(dir, "shr", options)
  local records = {}
  for i = 1, M.PICTURES do
    local sentences = {}
    for k = 1, 4 do
      local bad = k <= i % wrong
      sentences[k] = { text = ("Sentence %d of picture %d."):format(k, i), label = bad and "hallucination" or "correct",
        reason = bad and "there is no such thing" or "it is annotated" }
    end
    if i == 1 then sentences[1].text, sentences[2].reason = M.HOSTILE, M.HOSTILE end
    if i == 2 then sentences[4].label, sentences[4].reason = "cannot judge", "an opinion" end
    if i == 3 then for _, s in ipairs(sentences) do s.label, s.reason = json.null, nil end end
    records[i] = { image_id = i, image = ("%s/%d.jpg"):format(options.images, i), sentences = json.array(sentences),
      response = "Sentence 1. Sentence 2. Sentence 3. Sentence 4.", unparsed = i == 3 or nil, judgement = "Judgement:\n1. correct: <i>so</i>" }
  end
  local metrics = shr.score(records)
  metrics_of({ shr = metrics }, dir, records)
end

-- One thing of two in every caption is made up.
local function write_chair(dir, options)
  M.config(dir, "chair", options)
  local samples = {}
  for i = 1, M.PICTURES do
    samples[i] = { image_id = i, image = ("%s/%d.jpg"):format(options.images, i), response = "A cat and <b>a dog</b>.",
      mentions = json.array { { name = "cat", word = "cat", there = true }, { name = "dog", word = "dog", there = false } } }
  end
  metrics_of({ chair = { chair_i = { value = 0.125, stderr = 0.01, n = 10 }, silent = { value = 0, n = 10 } } }, dir, samples)
end

-- Descriptions and questions about them.
local function write_amber(dir, options)
  M.config(dir, "amber", options)
  metrics_of({ amber = { accuracy = { value = 0.5, stderr = 0.1, n = 2 } }, amber_published = { accuracy = { value = 50, n = 2 } } }, dir, {
    { id = 1, image = "1.jpg", kind = "description", response = "A cat." },
    { id = 1005, image = "1.jpg", kind = "existence", truth = "no", response = "Yes." } })
end

local function write_training(dir, options, steps)
  M.config(dir, "llava", options)
  local log = {}
  for i = 1, steps do
    log[i] = { step = i, loss = 0.7 / i, ["rewards/margins"] = i / 10, ["rewards/accuracies"] = 1 - 1 / i,
      grad_norm = i % 7, learning_rate = i == 3 and json.null or 1e-6 * i }
  end
  write(dir, "log.jsonl", lines(log))
end

local function write_mined(dir)
  M.config(dir, "mine", { model = "models/llava-1.5-7b-hf", seed = 1 })
  write(dir, "report.json", json.encode { pictures = 2, corrected = 2, passed_over = { records = 1 } })
  write(dir, "desc_data.json", json.encode(json.array {
    { image_id = 1, chosen = json.array { "A red car." }, rejected = json.array { M.HOSTILE } },
    { image_id = 2, chosen = json.array { "A cat." }, rejected = json.array { "A dog and a cat." } } }))
  write(dir, "pope_data.json", json.encode(json.array {
    { image_id = 1, question = "Is there a car?", answer = "yes", chosen = "Yes.", reject = "No.", correct = true },
    { image_id = 2, question = "Is there a dog?", answer = "no", chosen = "No.", reject = "Yes.", correct = false } }))
end

--- Writes them below a folder; the folder of the runs.
---@param root string
---@param model string|nil      the model that they name
function M.write(root, model)
  local runs, pictures = root .. "/runs", root .. "/pictures"
  file.mkdir(pictures)
  for i = 1, M.PICTURES do picture(("%s/%d.jpg"):format(pictures, i), i) end
  model = model or "models/llava-1.5-7b-hf"
  for name, adapter in pairs { before = "", after = runs .. "/dpo" } do
    local options = { model = model, adapter = adapter, images = pictures, ["max-new-tokens"] = 16,
      max_new_tokens = 16 }
    write_pope(("%s/%s/pope"):format(runs, name), options, adapter == "" and 6 or 9)
    write_shr(("%s/%s/shr"):format(runs, name), options, adapter == "" and 4 or 2)
  end
  write_training(runs .. "/dpo", { model = model, loss = "sigmoid", lr = 2e-6 }, 1000)
  write_chair(runs .. "/chair", { model = model, images = pictures })
  write_amber(runs .. "/amber", { model = model, images = pictures })
  M.config(runs .. "/cut", "shr", { model = model, adapter = runs .. "/dpo" })
  write_mined(runs .. "/mined")
  return runs
end

return M
