-- SHR's published rules against tests/golden/shr: sentences, region lines, replies, and every number of metrics.json.
local data = require "lucid.data.shr"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local native = require "lucid.native"
local published = require "lucid.metric.shr_published"
local repetition = require "lucid.metric.repetition"
local sentences = require "lucid.sentences"
local shr = require "lucid.metric.shr"
local vg = require "lucid.data.vg"

local golden = json.read(native.root .. "tests/golden/shr/cases.json")

-- Fresh records of the cases from a place on, and a judge that replies as they say.
local function records_of(first, last)
  local records, replies = {}, {}
  for i = first, last do
    local c = golden.cases[i]
    records[#records + 1] = { image_id = c.image_id, response = c.response }
    replies[c.image_id] = c.reply
  end
  return records, { ask = function(_, requests)
    local list = {}
    for i, r in ipairs(requests) do list[i] = { text = replies[r.image_id] } end
    return list
  end }
end

local function values(metrics)
  local list = {}
  for name, m in pairs(metrics) do list[name] = m.value end
  return list
end

describe("each of 200 descriptions", function()
  it("has the sentences that the judge is shown", function()
    assert.equal(200, #golden.cases)
    for _, c in ipairs(golden.cases) do assert.same({ unpack(c.sentences) }, sentences.split(c.response)) end
  end)

  it("has its regions' lines", function()
    for _, c in ipairs(golden.cases) do
      for i, r in ipairs(c.regions) do
        local box = { r.x / c.width, r.y / c.height, (r.x + r.width) / c.width, (r.y + r.height) / c.height }
        assert.equal(c.lines[i], vg.region_line { phrase = r.phrase, box = box })
      end
    end
  end)

  it("has its repetition", function()
    for _, c in ipairs(golden.cases) do
      for n = 1, 4 do assert.equal(c.repetition[n], (repetition.gram(c.response, n))) end
    end
  end)

  it("has the labels of its reply, or none", function()
    local records, judge = records_of(1, 200)
    shr.judge(records, judge)
    local lost = 0
    for i, c in ipairs(golden.cases) do
      local r = records[i]
      assert.equal(#c.judged, #r.sentences)
      for k, want in ipairs(c.judged) do
        local s = r.sentences[k]
        assert.same({ want.model_response, want.judgement, want.classification },
          { s.text, s.judgement or json.null, s.label or json.null })
      end
      if #c.judged > 0 and c.judged[1].classification == json.null then
        assert.is_true(r.unparsed)
        lost = lost + 1
      end
    end
    assert.is_true(lost > 20)
    assert.equal(lost, shr.score(records).unparsed.value)
  end)
end)

describe("the published numbers", function()
  it("are those of all and of every batch", function()
    local records, judge = records_of(1, 200)
    assert.same(golden.all, values(published.score(records, { judge = judge })))
    for i, want in ipairs(golden.batches) do
      local batch, by = records_of(20 * i - 19, 20 * i)
      assert.same(want, values(published.score(batch, { judge = by })))
    end
  end)

  it("leave out what was not sent, and count it", function()
    local records, judge = records_of(1, 200)
    local long = {}
    for _, id in ipairs(golden.skipped) do long[id] = true end
    local opt = { judge = judge, max_prompt = 100,
      -- 101 characters, the last of three bytes; and 100.
      prompt = function(request) return ("x"):rep(long[request.image_id] and 100 or 99) .. "\226\128\153" end }
    local metrics = shr.score(records, opt)
    assert.equal(#golden.skipped, metrics.too_long.value)
    assert.same(golden.without_skipped, values(published.score(records)))
    assert.equal(golden.all.num_images, metrics.shr.n)
  end)

  it("agree with the unrounded ones", function()
    local records, judge = records_of(1, 200)
    local ours = shr.score(records, { judge = judge, bootstrap = 200, seed = 1 })
    for name, theirs in pairs { shr = "hal_sents_ratio", hallucinated_words_ratio = "hal_words_ratio",
      sentences_per_image = "sents_per_image", words_per_image = "words_per_image",
      hallucinated_sentences_per_image = "hal_sents_per_image", hallucinated_words_per_image = "hal_words_per_image",
      gram_1 = "gram-1-repetition", gram_4 = "gram-4-repetition" } do
      assert.is_near(golden.all[theirs], ours[name].value, 5e-4 + 1e-12)
      -- The interval is about two standard errors to each side.
      local m = ours[name]
      assert.is_true(m.low < m.value and m.value < m.high)
      assert.is_near(2 * 1.96 * m.stderr, m.high - m.low, 0.2 * (m.high - m.low))
    end
  end)

  it("come back from the files that are written", function()
    local dir = folder.folder()
    for _, key in ipairs { "model_response", "mode_response" } do
      local records, judge = records_of(1, 60)
      shr.judge(records, judge)
      local metrics = published.score(records)
      data.write(dir, { { name = "run1", records = records, metrics = metrics } },
        { key = key, more = { model_path = "m", model_base = json.null } })
      local text = json.read(dir .. "/metrics.json")
      local c = golden.cases[1]
      local first = json.read(dir .. "/judgement.json").run1[tostring(c.image_id)]
      assert.same({ raw_judgement = c.reply, [key] = c.response, judgement = c.judged }, first)
      assert.same({ "m", json.null }, { text.model_path, text.model_base })
      assert.equal(metrics.hal_sents_ratio.value, text.run1.hal_sents_ratio)
      assert.equal(60, text.run1.num_images)
      assert.equal(metrics["gram-2-repetition"].value, text["gram-2-repetition"])
      assert.equal(metrics.mean_hal_ratio.value, text.mean_hal_ratio)
      assert.is_nil(text.run1.mean_hal_ratio)
      local runs = data.judgements(dir .. "/judgement.json")
      assert.same({ 1, "run1", 60 }, { #runs, runs[1].name, #runs[1].records })
      assert.same(values(metrics), values(published.score(runs[1].records)))
      -- The same file holds the responses.
      local again = data.answers(dir .. "/judgement.json", { { image_id = c.image_id } })
      assert.equal(c.response, again[1].response)
    end
    folder.remove(dir)
  end)

  it("of several runs are averaged", function()
    local dir = folder.folder()
    local function sentence(label) return { model_response = "A.", judgement = "x", classification = label } end
    local function run(...)
      local list = json.array {}
      for i, label in ipairs { ... } do list[i] = sentence(label) end
      return { ["7"] = { raw_judgement = "r", model_response = "A.", judgement = list } }
    end
    json.write(dir .. "/judgement.json", { run1 = run("correct", "hallucination"), run2 = run("correct", json.null) })
    local runs = data.judgements(dir .. "/judgement.json")
    local records = {}
    for _, r in ipairs(runs) do
      r.metrics = published.score(r.records)
      records[#records + 1] = r.records[1]
    end
    local metrics = shr.score(records)
    assert.is_near(1 / 3, metrics.shr.value, 1e-12)
    assert.equal(2, metrics.sentences_per_image.value)
    assert.is_nil(metrics.shr.stderr)                  -- one picture, whatever the runs
    data.write(dir, runs, { key = "model_response" })
    assert.equal(0.25, json.read(dir .. "/metrics.json").mean_hal_ratio)
    folder.remove(dir)
  end)
end)

describe("a bad judgement.json", function()
  local dir = folder.folder()
  teardown(function() folder.remove(dir) end)

  for text, expected in pairs {
    ["{}"] = "there are no runs in it",
    ['{"run1": 3}'] = "run 1 is no object",
    ['{"run1": {}}'] = "run 1 holds no image",
    ['{"run1": {"x": {}}}'] = "run 1: its key is no image id: 'x'",
    ['{"run1": {"7": {"judgement": []}}}'] = "run 1: image 7 has no 'model_response'",
    ['{"run1": {"7": {"model_response": "A."}}}'] = "run 1: image 7 has no 'judgement'",
    ['{"run1": {"7": {"model_response": "A.", "judgement": [{"model_response": "A.", "classification": 3}]}}}'] =
      "run 1: image 7: sentence 1: its 'classification' is no text",
  } do
    it("says " .. expected, function()
      file.write(dir .. "/j.json", text)
      assert.has_error(function() data.judgements(dir .. "/j.json") end, dir .. "/j.json: " .. expected)
    end)
  end
end)
