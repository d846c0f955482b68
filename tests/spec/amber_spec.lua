-- AMBER: its files, the published numbers of questions, and the lexical ones of descriptions (tests/golden/amber).
local amber = require "lucid.metric.amber"
local data = require "lucid.data.amber"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local native = require "lucid.native"
local published = require "lucid.metric.amber_published"

local golden = json.read(native.root .. "tests/golden/amber/cases.json")
local DATA = "../shared/data/datasets/amber"

local dir = folder.folder()
teardown(function() folder.remove(dir) end)

-- The golden benchmark as files: its annotations, words and responses.
local function write()
  local annotations, responses = json.array {}, json.array {}
  for i, row in ipairs(golden.rows) do
    annotations[i] = { id = row.id, type = row.type, truth = row.truth, hallu = row.hallu }
    responses[i] = { id = row.id, response = row.response }
  end
  json.write(dir .. "/annotations.json", annotations)
  json.write(dir .. "/responses.json", responses)
  json.write(dir .. "/relation.json", golden.relation)
  file.write(dir .. "/safe_words.txt", table.concat(golden.safe, "\n") .. "\n")
end

local function records()
  write()
  return data.answered(dir .. "/responses.json", data.annotations(dir .. "/annotations.json")),
    data.words(dir .. "/relation.json", dir .. "/safe_words.txt")
end

describe("questions", function()
  it("have the numbers that the benchmark's program prints", function()
    local list, n = published.score((records())), 0
    for name, value in pairs(golden.published) do
      assert.equal(value, list[name].value, name)
      n = n + 1
    end
    assert.equal(28, n)
    assert.equal(400, list.f1.n)
  end)

  it("are read by what they say, too, whatever follows", function()
    local list = {}
    for i, row in ipairs { { "no", "No" }, { "no", "No, there is not." }, { "no", "Yes." }, { "yes", "no" }, { "yes", "Yes" },
      { "yes", "Maybe" } } do
      list[i] = { id = i, image = i, kind = i < 4 and "existence" or "state", truth = row[1], response = row[2] }
    end
    local m = amber.score(list, {})
    assert.equal(3 / 6, m.accuracy.value)
    assert.equal(2 / 3, m.precision.value)
    assert.equal(2 / 3, m.recall.value)
    assert.equal(2 / 3, m.f1.value)
    assert.equal(2 / 3, m.existence_accuracy.value)
    assert.equal(1, m.existence_precision.value)
    assert.equal(1 / 3, m.attribute_accuracy.value)
    assert.is_true(m.state_recall.undefined)
    -- To the letter four of them are neither.
    assert.same({ value = 4, n = 6 }, published.score(list).neither)
    assert.equal(1, m.unclear.value)
    assert.equal(3, m.attribute_f1.n)
    assert.is_nil(m.relation_f1)
    assert.is_nil(m.chair)
    assert.is_nil(m.amber_score)
    -- The exact reading: "No" and "Yes" alone.
    assert.equal(33.3, published.score(list).accuracy.value)
  end)
end)

describe("descriptions", function()
  it("have the lexical numbers", function()
    local list, words = records()
    local m = amber.score(list, { words = words, bootstrap = 200, seed = 1 })
    for name, value in pairs(golden.lexical) do
      assert.is_near(value, m[name].value, 1e-12, name)
      assert.same({ "lexical", 60 }, { m[name].rule, m[name].n })
      assert.is_true(m[name].low <= value and value <= m[name].high)
    end
    assert.is_near((1 - m.chair.value + m.f1.value) / 2, m.amber_score.value, 1e-12)
    assert.is_true(m.amber_score.low < m.amber_score.value and m.amber_score.value < m.amber_score.high)
  end)

  it("are read by words: plurals, and what is a thing", function()
    local words = { related = { can = {}, person = { "people" }, tree = { "forest" }, light = {}, dog = {} }, safe = { light = true } }
    local record = { kind = "description", truth = { "tree", "person" }, hallu = { "dog" },
      response = "You can see trees. A red can, two dogs and the light. Forests! It can light up. People" }
    local m = amber.score({ record }, { words = words })
    local found = {}
    for i, x in ipairs(record.mentions) do found[i] = ("%s %s %s"):format(x.word, x.there, x.expected or false) end
    assert.same({ "trees true false", "can false false", "dogs false true", "light true false", "Forests true false",
      "People true false" }, found)
    assert.equal(2 / 6, m.chair.value)
    assert.equal(1, m.cover.value)
    assert.equal(1, m.cog.value)
    assert.equal(1 / 6, m.cog_of_mentions.value)
  end)
end)

describe("the files", function()
  it("of the benchmark are read", function()
    if not file.exists(DATA .. "/annotations.json") then return pending("no ../shared/data") end
    local annotations = data.annotations(DATA .. "/annotations.json")
    local list = data.queries(DATA .. "/query/query_discriminative.json", annotations)
    assert.equal(14216, #list)
    local counts = {}
    for _, q in ipairs(list) do
      counts[q.kind] = (counts[q.kind] or 0) + 1
      q.response = q.truth == "no" and "No" or "Yes"
    end
    assert.same({ existence = 4924, state = 4764, number = 2072, action = 792, relation = 975 + 689 }, counts)
    assert.equal(100, published.score(list).accuracy.value)
    local m = amber.score(list, {})
    assert.same({ 1, 1 }, { m.accuracy.value, m.relation_f1.value })
    -- Every annotated thing is a word of the lists: a description of them alone invents nothing.
    list = data.queries(DATA .. "/query/query_generative.json", annotations)
    assert.equal(1004, #list)
    for _, q in ipairs(list) do q.response = "There is a " .. table.concat(q.truth, " and a ") .. "." end
    m = amber.score(list, { words = data.words(DATA .. "/relation.json", DATA .. "/safe_words.txt") })
    assert.same({ 0, 0, 0, 1 }, { m.chair.value, m.hal.value, m.cog.value, m.cover.value })
  end)

  it("are refused by record", function()
    local path = dir .. "/a.json"
    for text, expected in pairs {
      ["[]"] = "there are no records in it",
      ['[{"type": "generative"}]'] = "record 1 has no 'id'",
      ['[{"id": 1}]'] = "record 1 has no 'type'",
      ['[{"id": 1, "type": "generative", "truth": "yes"}]'] = "record 1: its 'truth' is no list",
      ['[{"id": 1, "type": "generative", "truth": ["sky"]}]'] = "record 1 has no 'hallu'",
      ['[{"id": 1, "type": "relation", "truth": "maybe"}]'] = "record 1: its 'truth' is 'maybe'; yes and no are possible",
      ['[{"id": 1, "type": "colour", "truth": "yes"}]'] = "record 1: its 'type' is unknown: 'colour'",
      ['[{"id": 1, "type": "relation", "truth": "no"}, {"id": 1, "type": "relation", "truth": "no"}]'] =
        "record 2: its 'id' is that of record 1, too: 1",
    } do
      file.write(path, text)
      assert.has_error(function() data.annotations(path) end, path .. ": " .. expected)
    end
    file.write(path, '[{"id": 9, "image": "a.jpg", "query": "Is it?"}]')
    assert.has_error(function() data.queries(path, {}) end, path .. ": there is no annotation of query 9")
    file.write(path, '[{"id": 9, "response": 3}]')
    assert.has_error(function() data.answered(path, {}) end, path .. ": record 1: its 'response' is no text")
  end)
end)
