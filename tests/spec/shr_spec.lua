-- SHR: sentences, the judge's reply, and the published numbers.
local annotation = require "lucid.judge.annotation"
local data = require "lucid.data.shr"
local file = require "lucid.file"
local nouns = require "lucid.nouns"
local prompt = dofile "recipes/prompts/judge.lua"
local repetition = require "lucid.metric.repetition"
local replay = require "lucid.judge.replay"
local sentences = require "lucid.sentences"
local shr = require "lucid.metric.shr"
local support = require "tests.support.folder"

describe("sentences", function()
  it("are cut at full stops, trimmed, without repetitions", function()
    assert.same({ "A dog sits", "The dog is red" }, sentences.split("A dog sits. The dog is red.. A dog. dog sits .\n"))
    assert.same({ "At 3", "5 o'clock\nit rains" }, sentences.split("At 3.5 o'clock\nit rains"))
    assert.same({}, sentences.split(" . "))
  end)

  it("are a later one's parts only when that comes first", function()
    assert.same({ "A dog", "A dog sits" }, sentences.split("A dog. A dog sits."))
  end)

  it("are numbered and joined", function()
    assert.equal("1. A\n2. B\n", sentences.numbered { "A", "B" })
    assert.equal("A. B.", sentences.join { "A", "B" })
    assert.equal("", sentences.join {})
  end)
end)

describe("a reply", function()
  it("is read line by line after the heading", function()
    local list = shr.parse("Sure.\nJudgement:\n\n1. Hallucination: no cat: none\n2. correct\n3.   Cannot judge: a mood\n")
    assert.same({ { label = "hallucination", reason = "no cat: none", text = "Hallucination: no cat: none" },
      { label = "correct", reason = "", text = "correct" },
      { label = "cannot judge", reason = "a mood", text = "Cannot judge: a mood" } }, list)
  end)

  it("without the heading is none", function()
    assert.is_nil(shr.parse("1. correct: yes"))
  end)
end)

describe("repetition", function()
  it("is distinct over all n-grams, punctuation removed", function()
    assert.equal(3 / 4, (repetition.gram("a b, a. c?", 1)))
    assert.equal(1, (repetition.gram("a b, a. c?", 2)))
    assert.equal(2 / 4, (repetition.gram("a b a b a", 2)))
  end)

  it("is 1 and flagged for a text that is too short", function()
    local value, short = repetition.gram("a b", 3)
    assert.equal(1, value)
    assert.is_true(short)
    assert.equal(1, repetition.score({ { response = "a b" } }).gram_4.short)
  end)
end)

-- A judge that says what it was told to say.
local function saying(...)
  local replies = { ... }
  return { ask = function(self, requests)
    self.requests = requests
    local out = {}
    for i = 1, #requests do out[i] = { text = replies[i] } end
    return out
  end }
end

describe("the score", function()
  it("is the share of hallucinations among labelled sentences", function()
    local records = {
      { image_id = 1, response = "A red dog sits. A cat. It is nice." },
      { image_id = 2, response = "A bus. A man waits here." },
      { image_id = 3, response = "A tree. A house." },
    }
    local m = shr.score(records, { judge = saying(
      "Judgement:\n1. correct: a\n2. hallucination: b\n3. cannot judge: c",
      "Judgement:\n1. Hallucination: a\n2. unsure: b",
      "Judgement:\n1. correct: one label too few") })
    assert.equal(2 / 4, m.shr.value)
    assert.equal((2 + 2) / (4 + 2 + 3 + 2), m.hallucinated_words_ratio.value)
    assert.is_near(7 / 3, m.sentences_per_image.value, 1e-12)
    assert.is_near((9 + 6 + 4) / 3, m.words_per_image.value, 1e-12)
    assert.is_near(2 / 3, m.hallucinated_sentences_per_image.value, 1e-12)
    assert.equal(1, m.unjudged.value)
    assert.same({ value = 3, n = 7 }, m.unlabelled_sentences)          -- "unsure" is no label
    assert.equal(3, m.shr.n)
    assert.is_true(m.shr.stderr > 0)
    assert.is_nil(records[3].sentences[1].label)
    assert.equal("A cat.", records[1].sentences[2].text)
    assert.is_nil(m.object_recall)
  end)

  it("asks with the annotations and the prompt's text", function()
    local judge = saying("Judgement:\n1. correct: a")
    shr.score({ { image_id = 4, response = "A bus.", facts = { "A bus stands." },
      regions = { { phrase = "red bus", box = { 0, 0.25, 0.5, 1 } } } } }, { judge = judge, prompt = prompt })
    local request = judge.requests[1]
    assert.equal("judge", request.kind)
    assert.equal(4, request.image_id)
    assert.same({ "A bus" }, request.sentences)
    local regions = request.text:find("[0.0, 0.25, 0.5, 1.0]: red bus\n", 1, true)
    local facts = request.text:find("A bus stands.\n", 1, true)
    local comments = request.text:find("1. A bus\n", 1, true)
    assert.is_true(regions < facts and facts < comments)
    assert.is_truthy(request.text:find("Judgement:", 1, true))
  end)

  it("lets a judge ask again, and counts what it loses", function()
    local function accepts(as_published)
      local judge = saying("Judgement:\n1. correct: a")
      shr.judge({ { image_id = 1, response = "A bus." } }, judge, { as_published = as_published })
      local accept, list = judge.requests[1].accept, {}
      for i, text in ipairs { "Judgement:\n1. correct: a", "Judgement:\n1. correct\n2. correct", "Judgement:\n1. **correct**: a",
        "Judgement", "1. correct" } do
        list[i] = accept(text)
      end
      return list
    end
    assert.same({ true, false, false, false, false }, accepts(false))
    assert.same({ true, true, true, true, false }, accepts(true))
    -- A recording answers a request whether or not it says how it wants to be read.
    assert.equal(replay.key { text = "a" }, replay.key { text = "a", accept = print })
    local records = {}
    for i = 1, 4 do records[i] = { image_id = i, response = "A bus. A car." } end
    records[5] = { image_id = 5, response = " . " }
    local asked
    local m = shr.score(records, { judge = { ask = function(_, requests)
      asked = #requests
      return { { text = "Judgement:\n1. hallucination: a\n2. correct: b", attempts = 3 }, { text = "I cannot.", refused = true },
        { text = "the prompt is too long", too_long = true }, { text = "Judgement:\n1. correct: a", accepted = false, attempts = 3 } }
    end } })
    assert.equal(4, asked)
    assert.same({ 2, 1, 1, 2, 3, 0.5 }, { m.unparsed.value, m.refused.value, m.too_long.value, m.asked_again.value,
      m.unjudged.value, m.shr.value })
    assert.is_nil(records[3].unparsed)
    assert.equal(8 / 5, m.sentences_per_image.value)
  end)

  it("tells which present things are mentioned", function()
    local t = nouns.new({ { name = "dog" }, { name = "bus", synonyms = { "coach" } }, { name = "cat" } }, { closed = true })
    local records = {
      { image_id = 1, response = "A coach. A cat. There is no dog.", objects = { { name = "dog" }, { name = "bus" } } },
      { image_id = 2, response = "Dogs everywhere.", objects = { { name = "dog" } } },
    }
    local m = shr.score(records, { judge = annotation { nouns = t }, nouns = t })
    assert.is_near(2 / 3, m.object_recall.value, 1e-12)
    assert.is_near(2 / 4, m.shr.value, 1e-12)            -- the cat, and the denied dog
  end)

  it("wants judged records", function()
    assert.has_error(function() shr.score { { image_id = 7, response = "A." } } end,
      "shr: record 1 (image 7) is not judged")
  end)
end)

describe("the lists", function()
  local dir = support.folder()
  teardown(function() support.remove(dir) end)
  setup(function()
    os.execute("mkdir -p '" .. dir .. "/VG_100K'")
    file.write(dir .. "/VG_100K/7.jpg", "not read here")
    file.write(dir .. "/image_data.json",
      '[{"image_id": 7, "url": "h/VG_100K/7.jpg", "width": 10, "height": 10}, {"image_id": 8, "url": "h/VG_100K/8.jpg", "width": 10, "height": 10}]')
    file.write(dir .. "/region_descriptions.json",
      '[{"regions": [{"image_id": 7, "phrase": "a hat", "x": 0, "y": 0, "width": 5, "height": 5}]}]')
    file.write(dir .. "/val_images_final.json", '[{"image_id": 7}, {"image_id": 8}]')
    file.write(dir .. "/shr_factual_part1.jsonl", '{"7": ["old"]}\n{"8": ["x"]}\n')
    file.write(dir .. "/shr_factual_part2.jsonl", '{"7": ["A hat hangs."]}\n')
  end)

  it("are read with what Visual Genome says; the second facts win", function()
    local list = data.read(dir, dir, { limit = 1 })
    assert.equal(1, #list)
    assert.equal(7, list[1].image_id)
    assert.same({ "A hat hangs." }, list[1].facts)
    assert.equal("a hat", list[1].regions[1].phrase)
    assert.equal(dir .. "/VG_100K/7.jpg", list[1].image)
  end)

  it("name the picture that is not there", function()
    local ok, reason = pcall(data.read, dir, dir)
    assert.is_false(ok)
    assert.is_truthy(reason:find("image 8: there is no picture " .. dir .. "/VG_100K/8.jpg", 1, true))
  end)

  it("take answers from elsewhere", function()
    file.write(dir .. "/answers.json", '{"7": "A hat.", "9": "A cat."}')
    assert.equal("A hat.", data.answers(dir .. "/answers.json", { { image_id = 7 } })[1].response)
    file.write(dir .. "/samples.jsonl", '{"image_id": 7, "response": "A hat."}\n{"image_id": 9, "response": "A cat."}\n')
    assert.equal("A cat.", data.answers(dir .. "/samples.jsonl", { { image_id = 9 } })[1].response)
    assert.has_error(function() data.answers(dir .. "/answers.json", { { image_id = 8 } }) end,
      dir .. "/answers.json: there is no text for image 8")
  end)
end)
