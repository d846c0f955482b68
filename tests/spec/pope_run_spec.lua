-- lucid pope as a run: three sets answered on one trunk a picture, early and whole; what it writes and prints; new questions.
local bridged = require "tests.support.bridged"
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local lucid = require "lucid"
local metric = require "lucid.metric.pope"
local pope = require "lucid.pope"
local program = require "tests.support.program"
local tiny = require "tests.support.tiny"

local dir, world, paths, m

-- A model of random weights that says nothing but words which readings turn on: the head has no rows for others, and
-- such for these that make many different answers.
local function terse(path)
  local model = tiny.model(path, 3)
  for _, p in ipairs(model:all_parameters()) do
    if p.name:find("lm_head.weight", 1, true) then
      local rows = lucid.zeros(p.tensor:shape())
      local ids = { model.tokenizer.eos }
      for _, text in ipairs { "Yes", "No", "no", "there", "is", ",", "." } do
        local of = model.tokenizer:encode(text)
        ids[#ids + 1] = of[#of]
      end
      for _, id in ipairs(ids) do
        local row = rows:slice(1, id + 1, id + 1)
        row:copy(lucid.randn(row:shape(), { seed = 230000 + id }))
      end
      p.tensor:copy(rows)
    end
  end
  model:save(path)
  return lucid.model(path)
end

local function bar() return { step = function() end, done = function() end } end

-- The three sets as a model answers them.
local function asked(model, settings, limit)
  local sets = pope.sets(paths, { limit = limit })
  local s = {}
  for name, value in pairs(settings) do s[name] = value end
  return sets, pope.ask(model, sets, { images = world, generate = s, progress = bar })
end

-- Runs lucid pope; status, what it prints, what it says.
local function run(words, ...)
  local command = ("%s pope %s >%s/out 2>%s/err </dev/null"):format(program, words:format(...), dir, dir)
  local status = os.execute(command)
  if status > 255 then status = math.floor(status / 256) end
  return status, file.read(dir .. "/out"), file.read(dir .. "/err")
end

describe("pope", function()
  setup(function()
    dir = folder.folder()
    world, paths = dir .. "/world", {}
    files.write { dir = world, split = "eval", seed = 3, count = 8, seen = 24 }
    for i, set in ipairs(lucid.data.pope.SETS) do paths[i] = ("%s/pope/coco_pope_%s.json"):format(world, set) end
    m = terse(dir .. "/model")
  end)
  teardown(function() folder.remove(dir) end)

  it("answers three sets as one by one, each picture read once, in batches of any size", function()
    local settings = { max_new_tokens = 10, clean = {} }
    local sets, counts = asked(m, settings)
    local alone, questions, said = {}, 0, {}
    for _, set in ipairs(sets) do
      for _, q in ipairs(set.questions) do
        local key = q.image .. q.text
        alone[key] = alone[key] or m:generate { image = world .. "/" .. q.image, prompt = q.text, max_new_tokens = 10, clean = {} }
        assert.equal(alone[key], q.answer)
        questions, said[metric.official(q.answer)] = questions + 1, true
      end
    end
    assert.same({ yes = true, no = true }, said)
    local distinct = #lucid.keys(alone)
    assert.is_true(distinct < questions)
    assert.same({ questions, distinct }, { counts.questions.value, counts.asked.value })
    assert.is_true(counts.images.value > 1)
    assert.equal(counts.images.value, counts.prefills.value)
    for _, batch in ipairs { 1, 5, 11 } do
      settings.batch = batch
      local again, few = asked(m, settings)
      assert.same(sets, again)
      assert.equal(counts.images.value, few.prefills.value)
    end
  end)

  it("stops early without another verdict, and says less", function()
    for _, settings in ipairs { { clean = {} }, { clean = { ended = true } }, { clean = {}, stop = { "no there there there" } } } do
      settings.max_new_tokens = 14
      local whole = asked(m, settings)
      settings.enough = pope.enough(metric, settings)
      assert.equal(metric.decided, settings.enough)
      local early = asked(m, settings)
      local shorter = 0
      for i, set in ipairs(whole) do
        for k, q in ipairs(set.questions) do
          local answer = early[i].questions[k].answer
          assert.equal(metric.official(q.answer), metric.official(answer), q.answer)
          assert.equal(metric.strict(q.answer), metric.strict(answer), q.answer)
          assert.equal(answer, q.answer:sub(1, #answer))
          shorter = shorter + (#answer < #q.answer and 1 or 0)
        end
      end
      assert.is_true(shorter > 10)
    end
    -- What MiniGPT-4's program takes away may stand anywhere, and a metric of one's own need not know.
    assert.is_nil(pope.enough(metric, { clean = { after = "Assistant:" } }))
    assert.is_nil(pope.enough({}, { clean = {} }))
  end)

  it("searches, too, on one trunk a picture; where the bridge reads the question on one tower's pass", function()
    local settings = { max_new_tokens = 5, beams = 3, length_norm = "full", clean = {} }
    local _, counts = asked(m, settings, 4)
    assert.equal(counts.images.value, counts.prefills.value)
    bridged.instructblip(dir)
    local blip = lucid.model(dir .. "/instructblip", { bert = dir .. "/instructblip/qformer_tokenizer" })
    settings.repetition_penalty = 1.5
    local sets, own = asked(blip, settings, 8)
    -- Its small vocabulary does not tell all questions apart.
    assert.is_true(own.prefills.value > own.images.value and own.prefills.value <= own.asked.value)
    assert.equal(own.images.value, own.tower.value)
    for _, set in ipairs(sets) do
      for _, q in ipairs(set.questions) do
        assert.equal(blip:generate { image = world .. "/" .. q.image, prompt = q.text, max_new_tokens = 5, beams = 3,
          length_norm = "full", repetition_penalty = 1.5, clean = {} }, q.answer)
      end
    end
  end)

  it("writes results, samples and official answer files, which score the same", function()
    local all = table.concat(paths, ",")
    local status, out = run("--model %s/model --images %s --questions %s --max-new-tokens 12 --json --quiet --out %s/a", dir, world,
      all, dir)
    assert.equal(0, status)
    local printed, results = json.decode(out), json.read(dir .. "/a/results.json")
    for _, set in ipairs(lucid.data.pope.SETS) do
      for reading, prefix in pairs { official = "", strict = "strict_" } do
        for name, value in pairs(printed[set][reading]) do
          local metric_of = results[set][prefix .. name]
          assert.equal(metric_of.value, value)
          assert.equal(printed[set].n, metric_of.n)
        end
      end
      assert.is_number(results[set].accuracy.stderr)
      assert.is_true(results[set].accuracy.low <= results[set].accuracy.high)
      assert.equal(file.hash(("%s/pope/coco_pope_%s.json"):format(world, set)), results.hashes.questions[set])
      local _, again = run("--questions %s/pope/coco_pope_%s.json --answers %s/a/pope_%s.jsonl --json", world, set, dir, set)
      again = json.decode(again)
      assert.same(printed[set].official, again.official)
      assert.same(printed[set].strict_spread, again.strict_spread)
    end
    for _, name in ipairs { "weights", "prompt", "processor", "decoding" } do assert.equal(64, #results.hashes[name]) end
    assert.truthy(results.config.prompt:find("{q} ASSISTANT:", 1, true))
    assert.equal("f32", results.config.dtype)
    assert.same({ false, 12 }, { results.config["as-published"], results.config["max-new-tokens"] })
    for name in pairs(results.config) do assert.is_nil(name:find("_", 1, true), name) end      -- one name an option
    assert.equal(results.generation.images.value, results.generation.prefills.value)
    local count = 0
    for sample in json.each(dir .. "/a/samples.jsonl") do
      count = count + 1
      assert.truthy(sample.set and sample.image and sample.label and sample.answer)
    end
    assert.equal(results.generation.questions.value, count)
    -- Another prompt is another hash.
    file.write(dir .. "/other.lua", 'return { text = "<image>\\n{q} Answer:" }')
    run("--model %s/model --images %s --questions %s --limit 2 --max-new-tokens 2 --template %s/other.lua --quiet --out %s/b", dir, world,
      paths[1], dir, dir)
    local other = json.read(dir .. "/b/results.json").hashes
    assert.not_equal(results.hashes.prompt, other.prompt)
    assert.equal(results.hashes.processor, other.processor)
    assert.equal(results.hashes.weights, other.weights)
    assert.not_equal(results.hashes.decoding, other.decoding)
  end)

  it("tells other weights and other adapters apart by their hashes, however they are called", function()
    local other, adapted = lucid.model(dir .. "/model"), lucid.model(dir .. "/model")
    for i, seed in ipairs { 1, 2 } do
      local trained = lucid.model(dir .. "/model")
      trained:lora { rank = 2, alpha = 4, seed = seed }
      trained:save_adapter(("%s/adapter%d"):format(dir, i))
    end
    os.execute(("cp -r %s/model %s/copy && cp -r %s/adapter1 %s/adapter3"):format(dir, dir, dir, dir))
    local function of(model) return pope.hashes(model, {}) end
    local function with(n) return of(lucid.model(dir .. "/copy", { adapter = ("%s/adapter%d"):format(dir, n) })) end
    local plain, one, two, three = of(adapted), with(1), with(2), with(3)
    assert.equal(plain.weights, one.weights)
    assert.is_nil(plain.adapter)
    assert.same(one, three)
    assert.not_equal(one.adapter, two.adapter)
    for _, p in ipairs(other:all_parameters()) do
      if p.name:find("lm_head.weight", 1, true) then p.tensor:copy(lucid.zeros(p.tensor:shape())) end
    end
    file.mkdir(dir .. "/others")
    other:save(dir .. "/others")
    assert.not_equal(plain.weights, of(lucid.model(dir .. "/others")).weights)
  end)

  it("compares with an earlier run's folder or answers, matched by id, picture and text", function()
    local questions, now, before = {}, {}, {}
    for i = 1, 6 do
      questions[i] = { question_id = i, image = ("%d.jpg"):format(math.ceil(i / 2)), text = "q" .. i, label = i % 2 == 0 and "no" or "yes" }
      now[i] = json.encode { question_id = i, answer = i % 2 == 0 and "No." or "Yes." }
      before[i] = json.encode { question_id = i, question = i == 3 and "another" or "q" .. i, answer = i < 3 and "No." or "Yes." }
      questions[i] = json.encode(questions[i])
    end
    before[7] = json.encode { question_id = 9, question = "q9", answer = "no" }
    file.write(dir .. "/q.json", table.concat(questions, "\n"))
    file.write(dir .. "/now.jsonl", table.concat(now, "\n"))
    file.write(dir .. "/before.jsonl", table.concat(before, "\n"))
    local status, out, err = run("--questions %s/q.json --answers %s/now.jsonl --compare %s/before.jsonl --json --out %s/c", dir, dir, dir, dir)
    assert.equal(0, status, err)
    assert.equal(dir .. "/before.jsonl: 2 answers are to questions that are not asked here\n", err)
    local c = json.decode(out).compare
    -- Of questions 1, 2, 4, 5, 6 the earlier answers 1, 4 and 6 are wrong.
    assert.same({ 3, 0, 0.6, 5, 1, 0.25, "exact" }, { c.official.better, c.official.worse, c.official.accuracy, c.official.n, c.unmatched,
      c.official.p, c.official.test })
    assert.equal(0.6, json.read(dir .. "/c/results.json").q.compare_accuracy.value)
    out = select(2, run("--questions %s/q.json --answers %s/now.jsonl --compare %s/c --json", dir, dir, dir))
    c = json.decode(out).compare
    assert.same({ 0, 0, 0, 6, 0, 1 }, { c.official.better, c.official.worse, c.official.accuracy, c.official.n, c.unmatched, c.official.p })
    -- An answer file that counts from 0, as --answers takes it; and numbers that come again, line by line.
    for i = 1, 6 do before[i] = json.encode { question_id = i - 1, answer = i < 3 and "No." or "Yes." } end
    file.write(dir .. "/before.jsonl", table.concat(before, "\n", 1, 6))
    c = json.decode(select(2, run("--questions %s/q.json --answers %s/now.jsonl --compare %s/before.jsonl --json", dir, dir, dir))).compare
    assert.same({ 3, 0, 6, 0 }, { c.official.better, c.official.worse, c.official.n, c.unmatched })
    for name, lines in pairs { q = questions, now = now, before = before } do
      for i = 1, 6 do lines[i] = lines[i]:gsub('"question_id":%d', '"question_id":' .. i % 2) end
      file.write(("%s/%s.%s"):format(dir, name, name == "q" and "json" or "jsonl"), table.concat(lines, "\n", 1, 6))
    end
    c = json.decode(select(2, run("--questions %s/q.json --answers %s/now.jsonl --compare %s/before.jsonl --json", dir, dir, dir))).compare
    assert.same({ 3, 0, 6, 0 }, { c.official.better, c.official.worse, c.official.n, c.unmatched })
  end)

  it("samples new questions from COCO's annotations or a list of objects, and asks them", function()
    local things, lines, coco = { "cat", "dog", "car", "tree", "cup", "bed", "sun", "hat" }, {},
      { images = {}, annotations = json.array {}, categories = {} }
    for k, name in ipairs(things) do coco.categories[k] = { id = k, name = name } end
    for i = 1, 20 do
      local objects = {}
      for k = 1, 8 do
        if (i * 7 + k * 5) % 8 < 4 + i % 2 then
          objects[#objects + 1] = things[k]
          table.insert(coco.annotations, { image_id = i, category_id = k, bbox = { 0, 0, 5, 5 }, iscrowd = 0 })
        end
      end
      if i == 20 then objects = json.array {} end
      lines[i] = json.encode { image = ("%d.jpg"):format(i), objects = objects }
      coco.images[i] = { id = i, file_name = ("%d.jpg"):format(i), width = 9, height = 9 }
    end
    for k = #coco.annotations, 1, -1 do
      if coco.annotations[k].image_id == 20 then table.remove(coco.annotations, k) end
    end
    file.write(dir .. "/objects.jsonl", table.concat(lines, "\n"))
    json.write(dir .. "/instances.json", coco)
    for i, name in ipairs { "objects.jsonl", "instances.json" } do
      local status, _, err = run("--annotations %s/%s --pictures 7 --seed 5 --out %s/new%d", dir, name, dir, i)
      assert.equal(0, status, err)
      assert.truthy(err:find("questions about 7 of 20 pictures", 1, true), err)
    end
    local pictures = {}
    for _, set in ipairs(lucid.data.pope.SETS) do
      local path = ("%s/new%%d/coco_pope_%s.json"):format(dir, set)
      local text = file.read(path:format(1))
      assert.equal(text, file.read(path:format(2)))
      local list = lucid.data.pope.read(path:format(1))
      assert.equal(42, #list)
      pictures[set] = list[1].image .. list[42].image
    end
    assert.equal(pictures.random, pictures.popular)
    run("--annotations %s/objects.jsonl --pictures 7 --seed 6 --out %s/new3 --quiet", dir, dir)
    assert.not_equal(file.read(dir .. "/new1/coco_pope_random.json"), file.read(dir .. "/new3/coco_pope_random.json"))

    local by_image, shown = {}, {}
    for _, q in ipairs(lucid.data.pope.read(paths[1])) do
      by_image[q.image] = by_image[q.image] or json.array {}
      if q.label == "yes" then table.insert(by_image[q.image], q.text:match "an? (%S+) in") end
    end
    for image, objects in pairs(by_image) do shown[#shown + 1] = json.encode { image = image, objects = objects } end
    file.write(dir .. "/shown.jsonl", table.concat(shown, "\n"))
    local status, _, err = run("--annotations %s/shown.jsonl --model %s/model --images %s --max-new-tokens 4 --quiet --out %s/asked",
      dir, dir, world, dir)
    assert.equal(0, status, err)
    local results = json.read(dir .. "/asked/results.json")
    assert.equal(#shown, results.generation.prefills.value)
    for _, set in ipairs(lucid.data.pope.SETS) do assert.equal(6 * #shown, results[set].accuracy.n) end
  end)
end)
