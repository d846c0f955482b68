-- The recipes shr, chair and amber by the command line, on a tiny model and on texts made elsewhere.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local lua = require "lucid"
local program = require "tests.support.program"
local training = require "tests.support.training"

local dir
setup(function()
  dir = folder.folder()
  training.world(dir)
end)
teardown(function() folder.remove(dir) end)

-- What a command prints, and what it says on stderr; it has to end well.
local function lucid(words, ...)
  words = words:format(...)
  local pipe = io.popen(("%s %s 2>%s/stderr"):format(program, words, dir))
  local text = pipe:read("*a")
  pipe:close()
  local said = file.read(dir .. "/stderr")
  assert.is_nil(said:find("lucid: ", 1, true), said)
  return text, said
end

-- How a command fails: one line.
local function fails(words, expected)
  local ending, said = training.run(words, dir)
  assert.not_equal(0, ending)
  assert.truthy(said:find(expected, 1, true), said)
  assert.equal(1, select(2, said:gsub("\n", "\n")), said)
end

local function samples_of(out)
  local list = {}
  for s in json.each(out .. "/samples.jsonl") do list[#list + 1] = s end
  return list
end

describe("lucid shr", function()
  local function shr(more)
    return lucid("shr --data %s/world/shr --images %s/world --quiet --json %s", dir, dir, more)
  end

  it("describes, judges and writes both forms of its numbers", function()
    local out = dir .. "/shr"
    local printed = json.decode(shr(("--model %s/model --beams 2 --max-new-tokens 12 --as-published --out %s"):format(dir, out)))
    local results = json.read(out .. "/results.json")
    local metrics = json.read(out .. "/metrics.json")
    for _, name in ipairs { "shr", "sentences_per_image", "words_per_image", "gram_4", "unparsed", "too_long" } do
      assert.is_number(results.shr[name].value)
    end
    assert.equal(results.shr.shr.value, printed.shr.shr.value)
    assert.equal(6, results.shr_published.num_images.value)
    assert.equal(results.shr_published.hal_words_ratio.value, metrics.run1.hal_words_ratio)
    assert.equal(dir .. "/model", metrics.model_path)
    local judged, said = json.read(out .. "/judgement.json").run1, json.read(out .. "/responses.json")
    for _, s in ipairs(samples_of(out)) do
      assert.equal(s.response, judged[tostring(s.image_id)].model_response)
      assert.equal(s.response, said[tostring(s.image_id)])
    end
  end)

  it("scores texts and judgements that were made elsewhere", function()
    local texts = {}
    for i = 1, 6 do texts[i] = json.encode { question_id = 300000 + i, text = "A red car. A red car. There is a zebra." } end
    texts[7] = json.encode { question_id = 1, text = "Unused." }
    file.write(dir .. "/texts.jsonl", table.concat(texts, "\n"))
    local out = dir .. "/elsewhere"
    local printed = json.decode(shr(("--responses %s/texts.jsonl --as-published --out %s"):format(dir, out)))
    assert.equal(2, printed.shr.sentences_per_image.value)
    local judged = json.read(out .. "/judgement.json").run1["300001"]
    assert.equal("A red car. A red car. There is a zebra.", judged.mode_response)
    assert.is_nil(judged.model_response)
    assert.is_nil(json.read(out .. "/metrics.json").model_path)
    local again = json.decode((lucid("shr --judgements %s/judgement.json --json", out)))
    assert.same(printed.shr_published, again.shr_published)
    for _, name in ipairs { "shr", "words_per_image" } do assert.same(printed.shr[name], again.shr[name]) end
    printed = json.decode(shr(("--responses %s/texts.jsonl --max-prompt 10"):format(dir)))
    assert.equal(6, printed.shr.too_long.value)
    assert.is_true(printed.shr.shr.undefined)
    printed = json.decode(shr(("--responses %s/texts.jsonl --judge none --metric repetition"):format(dir)))
    assert.is_nil(printed.shr.shr)
    assert.is_true(printed.shr.gram_1.value < 1)
  end)

  it("is judged by a recording", function()
    file.write(dir .. "/texts.json", '{"300001": "A red car. A cat."}')
    local nouns = lua.nouns.read(dir .. "/world/categories.json")
    local path = dir .. "/recording.jsonl"
    local records = lua.data.shr.read(dir .. "/world/shr", dir .. "/world", { limit = 1 })
    lua.data.shr.answers(dir .. "/texts.json", records)
    lua.metric.shr.judge(records, lua.judge.replay { path = path, judge = lua.judge.annotation { nouns = nouns } },
      { prompt = lua.recipe.load "prompts/judge" })
    local words = ("--limit 1 --responses %s/texts.json"):format(dir)
    local printed = shr(words .. " --judge replay --journal " .. path)
    assert.equal(shr(words), printed)
    assert.equal(0, json.decode(printed).shr.unjudged.value)
    fails(("shr --data %s/world/shr --images %s/world %s --judge replay --journal %s/none"):format(dir, dir, words, dir), "there is no")
  end)

  it("says what it lacks", function()
    fails("shr --model x", "--data is required")
    fails(("shr --judgements %s/nowhere.json"):format(dir), "nowhere.json")
    fails("shr --judgements a --responses b", "--judgements hold their responses")
  end)
end)

describe("lucid chair", function()
  setup(function()
    local root = { images = json.array {}, annotations = json.array {},
      categories = json.array { { id = 1, name = "car" }, { id = 2, name = "cat" } } }
    for i = 1, 6 do
      root.images[i] = { id = 300000 + i, file_name = ("VG_100K/%d.jpg"):format(300000 + i), width = 64, height = 64 }
      root.annotations[i] = { image_id = 300000 + i, category_id = i % 2 + 1, bbox = json.array { 0, 0, 9, 9 } }
    end
    json.write(dir .. "/instances.json", root)
  end)

  it("describes a sample of the pictures", function()
    local words = ("chair --model %s/model --annotations %s/instances.json --images %s/world --sample 3 --max-new-tokens 8"
      .. " --seed 2 --quiet --json --out %s/chair"):format(dir, dir, dir, dir)
    local printed = json.decode((lucid("%s", words)))
    assert.equal(3, printed.chair.chair_s.n)
    local first = samples_of(dir .. "/chair")
    assert.equal(3, #first)
    lucid("%s", words)
    assert.same(first, samples_of(dir .. "/chair"))
    fails(words .. " --images " .. dir, "there is no picture " .. dir .. "/VG_100K/")
  end)

  it("scores captions that were made elsewhere, and marks what is made up", function()
    file.write(dir .. "/captions.json", '{"300001": "A cat near two cars.", "300002": "Nothing."}')
    local printed = json.decode((lucid("chair --responses %s/captions.json --annotations %s/instances.json --json --out %s/c2",
      dir, dir, dir)))
    assert.equal(1 / 2, printed.chair.chair_i.value)
    assert.equal(1 / 2, printed.chair.chair_s.value)
    assert.equal(1 / 2, printed.chair.recall.value)
    local s = samples_of(dir .. "/c2")[1]
    assert.same({ "cars" }, { unpack(s.hallucinated) })
    assert.same({ "cat" }, { unpack(s.truth) })
    fails(("chair --annotations %s/instances.json"):format(dir), "--images is required")
  end)
end)

describe("lucid amber", function()
  setup(function()
    file.mkdir(dir .. "/amber/query")
    local annotations, describe_queries, questions = json.array {}, json.array {}, json.array {}
    for i = 1, 6 do
      local image = ("%d.jpg"):format(300000 + i)
      annotations[i] = { id = i, type = "generative", truth = json.array { "car" }, hallu = json.array { "cat" } }
      describe_queries[i] = { id = i, image = image, query = "Describe this image." }
    end
    for i = 7, 10 do
      annotations[i] = { id = i, type = i < 9 and "discriminative-hallucination" or "discriminative-attribute-state",
        truth = i % 2 == 1 and "no" or i == 8 and "no" or "yes" }
      questions[i - 6] = { id = i, image = ("%d.jpg"):format(300000 + i % 6 + 1), query = "Is there a cat in this image?" }
    end
    json.write(dir .. "/amber/annotations.json", annotations)
    json.write(dir .. "/amber/relation.json", { car = json.array { "vehicle" }, cat = json.array {} })
    file.write(dir .. "/amber/safe_words.txt", "line\n")
    json.write(dir .. "/amber/query/query_generative.json", describe_queries)
    json.write(dir .. "/amber/query/query_discriminative.json", questions)
  end)

  it("asks both parts, and scores its own file of responses the same", function()
    local base = ("amber --data %s/amber --quiet --json --as-published "):format(dir)
    local printed = json.decode((lucid("%s", base .. ("--model %s/model --images %s/world/VG_100K --max-new-tokens 8 --out %s/a1"):format(
      dir, dir, dir))))
    assert.equal(6, printed.amber.chair.n)
    assert.equal(4, printed.amber.accuracy.n)
    assert.equal("lexical", printed.amber.chair.rule)
    assert.is_number(printed.amber.amber_score.value)
    assert.is_number(printed.amber_published.f1.value)
    assert.equal(10, #samples_of(dir .. "/a1"))
    local again = json.decode((lucid("%s", base .. ("--responses %s/a1/responses.json"):format(dir))))
    assert.same(printed, again)
  end)

  it("takes a part alone", function()
    local texts = json.array { { id = 7, response = "No" }, { id = 8, response = "Yes" }, { id = 9, response = "No" } }
    json.write(dir .. "/answers.json", texts)
    local m = json.decode((lucid("amber --data %s/amber --responses %s/answers.json --json", dir, dir))).amber
    assert.equal(2 / 3, m.accuracy.value)
    assert.equal(1 / 2, m.existence_accuracy.value)
    assert.is_nil(m.chair)
    fails(("amber --data %s/amber"):format(dir), "--images is required")
    fails(("amber --data %s"):format(dir), "annotations.json")
  end)
end)
