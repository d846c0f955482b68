-- Mining: from descriptions with made-up sentences to pairs and questions, and back through the
-- readers.
local annotation = require "lucid.judge.annotation"
local hadpo = require "lucid.data.hadpo"
local mine = require "lucid.mine"
local nouns = require "lucid.nouns"
local pairfile = require "lucid.data.pairfile"
local sentences = require "lucid.sentences"
local support = require "tests.support.folder"

local correct_prompt = dofile "recipes/prompts/correct.lua"
local rewrite_prompt = dofile "recipes/prompts/rewrite.lua"

local table_of = nouns.new({ { name = "car" }, { name = "road" }, { name = "sun" }, { name = "cloud" }, { name = "dog" },
  { name = "ball" } }, { closed = true })
local judge = annotation { nouns = table_of }

local function thing(name, colour) return { name = name, attributes = { colour }, box = { 0.1, 0.1, 0.2, 0.2 } } end

local function records()
  return {
    { image_id = 11, response = "There is a car at the top left in red. There is a road at the top left in blue.",
      objects = { thing("car", "red") } },
    { image_id = 12, response = "The sun at the top left is red. The ball at the top left is red.",
      objects = { thing("sun", "red"), thing("dog", "green") } },
    { image_id = 13, response = "The sun at the top left is red. The cloud at the top left is red.",
      objects = { thing("sun", "red"), thing("cloud", "red") } },
    { image_id = 14, response = "The road at the top left is red.", objects = {} },
  }
end

describe("description pairs", function()
  it("set the corrected text against the model's own, in the same forms", function()
    local list, report = mine.descriptions(records(), judge, { nouns = table_of })
    assert.equal(2, #list)
    assert.equal(11, list[1].image_id)
    assert.same({ "There is a car at the top left in red.", "The car at the top left is red.",
      "There is a car at the top left in red." }, list[1].chosen)
    assert.equal("The car at the top left is red. The road at the top left is blue.", list[1].rejected[2])
    assert.equal("The sun at the top left is red. The dog at the top left is green.", list[2].chosen[3])
    assert.equal("The sun at the top left is red. The ball at the top left is red.", list[2].rejected[3])
    assert.equal(2, report.corrected)
    assert.equal(1, report.without_fault)
    assert.equal(1, report.nothing_left)
    assert.equal(0, report.omission)
  end)

  it("leave out corrections that are too short, when asked", function()
    local list, report = mine.descriptions(records(), judge, { nouns = table_of, min_length = 0.8 })
    assert.equal(1, #list)
    assert.equal(12, list[1].image_id)
    assert.equal(1, report.length)
  end)

  it("also reject texts that leave out what is there, when asked", function()
    local list, report = mine.descriptions(records(), judge, { nouns = table_of, omission = 1, seed = 3 })
    assert.equal(2, report.omission)                    -- a text of one sentence has nothing to leave out
    local found = 0
    for _, d in ipairs(list) do
      for k = 1, #d.chosen do
        local whole, part = sentences.split(d.chosen[k]), sentences.split(d.rejected[k])
        if #part < #whole then
          found = found + 1
          for _, s in ipairs(part) do assert.is_truthy(d.chosen[k]:find(s, 1, true)) end
        end
      end
    end
    assert.equal(6, found)
  end)

  it("leave out first what is made up elsewhere", function()
    local list = {}
    for i = 1, 20 do
      list[i] = { image_id = i, response = "There is a sun. There is a cloud.", objects = { thing("sun") } }
      list[20 + i] = { image_id = 20 + i, response = "There is a sun. There is a cloud.",
        objects = { thing("sun"), thing("cloud") } }
    end
    local out = mine.descriptions(list, judge, { nouns = table_of, omission = 1, variants = 1 })
    local omissions = 0
    for _, d in ipairs(out) do
      if d.image_id > 20 then
        omissions = omissions + 1
        assert.equal("There is a sun.", d.rejected[1])
      end
    end
    assert.equal(20, omissions)
  end)

  it("leave out something else in each pair of a picture, and never everything", function()
    local all = { "There is a sun.", "There is a cloud.", "There is a car." }
    local list = {}
    for i = 1, 30 do
      list[i] = { image_id = i, response = table.concat(all, " "),
        objects = { thing("sun"), thing("cloud"), thing("car") } }
    end
    local function rejected(omission, omit)
      local out = {}
      for _, d in ipairs(mine.descriptions(list, judge, { nouns = table_of, omission = omission, omit = omit,
        variants = 1 })) do
        out[d.image_id] = out[d.image_id] or {}
        local text = d.rejected[1]
        assert.is_nil(out[d.image_id][text])
        out[d.image_id][text] = true
        out[d.image_id].n = (out[d.image_id].n or 0) + 1
        assert.equal(3 - omit, #sentences.split(text))
      end
      return out
    end
    for _, texts in pairs(rejected(2, 1)) do assert.equal(2, texts.n) end
    for _, texts in pairs(rejected(9, 1)) do assert.equal(3, texts.n) end
    for _, texts in pairs(rejected(9, 2)) do assert.equal(1, texts.n) end
    local pairs_made = 0
    for _, texts in pairs(rejected(1.5, 1)) do pairs_made = pairs_made + texts.n end
    assert.is_true(pairs_made > 30 and pairs_made < 60)
  end)

  it("are checked by the judge again", function()
    local stubborn = { ask = function(_, requests)
      local out = judge:ask(requests)
      for i, r in ipairs(requests) do
        if r.kind == "correct" then
          out[i] = { text = out[i].text:gsub("\nDescription:.*", "\nDescription:\nThere is a road. There is a car.") }
        end
      end
      return out
    end }
    local list, report = mine.descriptions(records(), stubborn, { nouns = table_of })
    assert.equal(0, #list)
    assert.equal(3, report.still_wrong)
    assert.equal(3, #mine.descriptions(records(), stubborn, { nouns = table_of, verify = false }))
  end)

  it("count replies that cannot be read", function()
    local mute = { ask = function(_, requests)
      local out = {}
      for i = 1, #requests do out[i] = { text = "I would rather not." } end
      return out
    end }
    local list, report = mine.descriptions(records(), mute, { nouns = table_of })
    assert.equal(0, #list)
    assert.equal(4, report.unjudged)
  end)

  it("carry the prompts for language models", function()
    local seen = {}
    local watching = { ask = function(_, requests)
      for _, r in ipairs(requests) do seen[r.kind] = r.text end
      return judge:ask(requests)
    end }
    mine.descriptions(records(), watching, { nouns = table_of, verify = false, prompts = { correct = correct_prompt, rewrite = rewrite_prompt } })
    assert.is_truthy(seen.correct:find("Description:", 1, true))
    assert.is_truthy(seen.correct:find("1. The road at the top left is red\n", 1, true))
    assert.is_truthy(seen.rewrite:find("3 times", 1, true))
  end)
end)

describe("replies", function()
  it("of a correction are labels and a text", function()
    local labels, text = mine.parse_correction("Judgement:\n1. correct: a\n2. hallucination: b\nDescription:\nA dog.\nA cat.\n")
    assert.equal("hallucination", labels[2].label)
    assert.equal("A dog.\nA cat.", text)
    assert.is_nil(mine.parse_correction("Description:\nA dog."))
    assert.is_nil(mine.parse_correction("Judgement:\n1. correct: a"))
  end)

  it("of a rewriting are numbered lines", function()
    assert.same({ "A dog.", "The dog." }, mine.parse_versions("Here:\n1. A dog.\n\n2) The dog.\n"))
  end)
end)

describe("questions", function()
  it("are about what is there and what most tempts to be seen", function()
    local list = records()
    mine.descriptions(list, judge, { nouns = table_of })
    local questions, report = mine.questions(list, { nouns = table_of, statistics = {
      { names = { "car", "road" } }, { names = { "car", "road" } }, { names = { "sun", "cloud" } }, { names = { "dog", "ball" } },
    } })
    local asked = {}
    for _, q in ipairs(questions) do
      asked[q.image_id] = asked[q.image_id] or {}
      table.insert(asked[q.image_id], q)
    end
    local first = asked[11]
    assert.equal(3, #first)                              -- one thing is there
    assert.equal("Is there a car in the image?", first[1].question)
    assert.equal("Yes, there is a car.", first[1].chosen)
    assert.equal("No, there is no car.", first[1].rejected)
    assert.equal("yes", first[1].answer)
    assert.equal("Is there a road in the image?", first[2].question)
    assert.equal("No, there is no road.", first[2].chosen)
    assert.equal("Yes, there is a road.", first[2].rejected)
    local second = asked[12]
    assert.equal(4, #second)
    assert.equal("Is there a ball in the image?", second[3].question)      -- made up here
    assert.equal("Is there a cloud in the image?", second[4].question)     -- beside the sun elsewhere
    assert.equal(5, report.yes)
    assert.equal(8, report.no)
  end)

  it("are marked when the model answers them right", function()
    local questions = { { answer = "yes" }, { answer = "no" }, { answer = "no" } }
    assert.equal(2, mine.check(questions, { "Yes, there is.", "Yes, there is.", "No." }))
    assert.is_true(questions[1].correct)
    assert.is_false(questions[2].correct)
    assert.is_true(questions[3].correct)
  end)
end)

describe("what is mined", function()
  it("is the same for the same seed, and read by HA-DPO's reader", function()
    local dir = support.folder()
    local function run()
      local list = records()
      local descriptions = mine.descriptions(list, judge, { nouns = table_of, omission = 0.5, seed = 8 })
      return descriptions, (mine.questions(list, { nouns = table_of, seed = 8 }))
    end
    local descriptions, questions = run()
    local again, again_questions = run()
    assert.same(descriptions, again)
    assert.same(questions, again_questions)
    pairfile.write(dir, "list", descriptions, questions)
    assert.same(descriptions, hadpo.descriptions(dir .. "/desc_data.json"))
    assert.same(questions, hadpo.questions(dir .. "/pope_data.json"))
    support.remove(dir)
  end)
end)

describe("pictures", function()
  it("are chosen by how much is annotated, in an order of the seed", function()
    local annotations, ids = {}, {}
    for i = 1, 30 do
      ids[i] = i
      annotations[i] = { objects = {}, regions = {} }
      for k = 1, i % 10 do annotations[i].objects[k] = thing("car") end
    end
    local list = mine.select(annotations, ids, { min_objects = 2, max_objects = 5, limit = 8, seed = 1 })
    assert.equal(8, #list)
    for _, id in ipairs(list) do assert.is_true(id % 10 >= 2 and id % 10 <= 5) end
    assert.same(list, mine.select(annotations, ids, { min_objects = 2, max_objects = 5, limit = 8, seed = 1 }))
    assert.not_same(list, mine.select(annotations, ids, { min_objects = 2, max_objects = 5, limit = 8, seed = 2 }))
  end)
end)
