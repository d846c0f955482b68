-- Judges: what annotations say of sentences, in the tiny world's closed table and in an open one,
-- and the recording. Texts of an open world are judged leniently: what is not annotated contradicts
-- nothing.
local annotation = require "lucid.judge.annotation"
local captions = require "lucid.tinyworld.captions"
local claims = require "lucid.claims"
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local nouns = require "lucid.nouns"
local replay = require "lucid.judge.replay"
local sentences = require "lucid.sentences"
local shr = require "lucid.metric.shr"
local support = require "tests.support.folder"
local world = require "lucid.tinyworld.world"

local tiny = nouns.new(files.categories().categories, { closed = true, colours = files.categories().colours })
local open = nouns.new { { name = "person", synonyms = { "man", "woman", "boy" } }, { name = "dog", synonyms = { "puppy" } },
  { name = "hot dog" }, { name = "bus" }, { name = "dining table", synonyms = { "table" } }, { name = "knife" } }

local OBJECTS = {
  { name = "car", attributes = { "red" }, box = { 0.02, 0.02, 0.2, 0.2 } },
  { name = "tree", attributes = { "blue" }, box = { 0.77, 0.55, 0.95, 0.75 } },
}

local function request(kind, list, more)
  local r = { kind = kind, image_id = 1, sentences = list, objects = OBJECTS }
  for k, v in pairs(more or {}) do r[k] = v end
  return r
end

local function reply(kind, list, more, table_of_nouns)
  return annotation { nouns = table_of_nouns or tiny }:ask { request(kind, list, more) }[1]
end

local function labels(...) return reply("judge", ...).labels end

local function corrected(list, more, t)
  return reply("correct", list, more, t).text:match("\nDescription:\n(.*)$")
end

describe("the noun table", function()
  it("knows synonyms, plurals and phrases, the longest first", function()
    local found = {}
    for i, m in ipairs(open:mentions("Two Puppies and a hot dog near the dining tables; women, buses, knives, people.")) do
      found[i] = m.name
    end
    assert.same({ "dog", "hot dog", "dining table", "person", "bus", "knife", "person" }, found)
  end)

  it("says where a mention is", function()
    local text = "There is a puppy."
    local m = open:mentions(text)[1]
    assert.equal("puppy", text:sub(m.first, m.last))
  end)

  it("does not find words inside words", function()
    assert.same({}, open:mentions("A busy dogged tablet."))
  end)

  it("reads lines of synonyms", function()
    local path = "../shared/data/datasets/chair/synonyms.txt"
    if not file.exists(path) then return pending("no ../shared/data") end
    local coco = nouns.read(path)
    assert.equal(80, #coco.names)
    assert.equal("person", coco:lookup("Skateboarders"))
    assert.equal("motorcycle", coco:lookup("motor bike"))
  end)

  it("reads categories.json in both forms and names a bad record", function()
    local dir = support.folder()
    file.write(dir .. "/a.json", '[{"name": "cat", "synonyms": ["kitten"]}]')
    assert.equal("cat", nouns.read(dir .. "/a.json"):lookup("Kittens"))
    file.write(dir .. "/b.json", '{"closed": true, "colours": ["teal"], "categories": [{"name": "cat"}]}')
    assert.is_true(nouns.read(dir .. "/b.json").closed)
    assert.equal("teal", nouns.read(dir .. "/b.json").colours.teal)
    file.write(dir .. "/c.json", '[{"name": "cat"}, {"id": 4}]')
    assert.has_error(function() nouns.read(dir .. "/c.json") end, dir .. "/c.json: category 2 has no 'name'")
    support.remove(dir)
  end)
end)

describe("claims", function()
  it("tie a colour to the noun it precedes and a place to the noun before it", function()
    local list = claims.of("A red bus at the top left and a dog at the bottom right with a blue knife", open)
    assert.equal("red", list[1].colour.name)
    assert.equal("top left", list[1].place.name)
    assert.is_nil(list[2].colour)
    assert.equal("bottom right", list[2].place.name)
    assert.equal("blue", list[3].colour.name)
  end)

  it("of a sentence about one thing are all its own", function()
    local list = claims.of("The dog in the upper right corner is grey", open)
    assert.equal("gray", list[1].colour.name)
    assert.equal("top right", list[1].place.name)
  end)

  it("see denials", function()
    assert.is_true(claims.of("There is no dog", open)[1].negated)
    assert.is_true(claims.of("A man without a dog", open)[2].negated)
    assert.is_false(claims.of("A man without a dog", open)[1].negated)
  end)
end)

describe("the annotation judge", function()
  it("finds what is absent, wrong, told twice or about nothing", function()
    assert.same({ "correct", "hallucination", "hallucination", "hallucination", "hallucination", "correct" }, labels {
      "There is a car at the top left in red",
      "There is a road at the top left in red",
      "The tree at the bottom right is red",
      "The tree at the top right is blue",
      "the the at",
      "There is no dog",
    })
    assert.same({ "correct", "hallucination" }, labels { "The car at the top left is red", "There is a car at the top left in red" })
  end)

  it("answers in the published form", function()
    local text = reply("judge", { "There is a car", "There is a boat" }).text
    assert.equal("Judgement:\n1. correct: it is annotated\n2. hallucination: there is no boat", text)
    local list = shr.parse(text)
    assert.equal("hallucination", list[2].label)
    assert.equal("there is no boat", list[2].reason)
  end)

  it("reads regions and facts, too", function()
    local more = { objects = false, regions = { { phrase = "a black puppy", box = { 0, 0, 0.4, 0.4 } } },
      facts = { "Two men sit on a bus." } }
    assert.same({ "correct", "hallucination", "correct", "correct", "hallucination" }, labels({
      "A dog lies at the top left", "The dog is white", "Some people wait", "The bus is full", "A knife lies there",
    }, more, open))
  end)

  it("cannot judge, in an open world, what names nothing, and lets a text come back to a thing", function()
    local more = { objects = { { name = "dog" } } }
    assert.same({ "correct", "correct", "cannot judge" },
      labels({ "A dog runs", "The dog is happy and brown", "The mood is peaceful" }, more, open))
  end)

  it("agrees with what the tiny world's annotators did", function()
    local judge = annotation { nouns = tiny }
    for i, scene in ipairs(files.scenes("sft", 4, 200)) do
      local objects, there = {}, {}
      for k, o in ipairs(scene.objects) do
        local x, y, w, h = world.box(o)
        objects[k] = { name = o.name, attributes = { o.colour }, box = { x / 64, y / 64, (x + w) / 64, (y + h) / 64 } }
        there[o.name] = true
      end
      local text = captions.describe(scene, world.rng(4, "sft", "caption", i), { biased = true })
      local list = sentences.split(text)
      local answer = judge:ask { { kind = "judge", sentences = list, objects = objects } }[1]
      for k, sentence in ipairs(list) do
        local name = tiny:mentions(sentence)[1].name
        assert.equal(there[name] and "correct" or "hallucination", answer.labels[k], text)
      end
    end
  end)
end)

describe("a correction", function()
  it("mends attributes, replaces what is absent and keeps the style", function()
    assert.equal("The car at the top left is red. The tree at the bottom right is blue.",
      corrected { "The car at the top left is green", "The road at the top left is red" })
    assert.equal("There is a tree at the bottom right in blue. There is a car at the top left in red.",
      corrected { "There is a tree at the top left in red", "There is a car at the top left in red" })
  end)

  it("drops a sentence only when nothing is left to say", function()
    assert.equal("The car at the top left is red. The tree at the bottom right is blue.", corrected {
      "The car at the top left is red", "The tree at the bottom right is blue", "The ball at the top left is red" })
    assert.equal("", corrected({ "There is a ball" }, { objects = {} }))
  end)

  it("fits the article", function()
    local t = nouns.new { { name = "apple" }, { name = "dog" } }
    assert.equal("An apple lies here.", corrected({ "A dog lies here" }, { objects = { { name = "apple" } } }, t))
    assert.equal("There is a dog.", corrected({ "There is an apple" }, { objects = { { name = "dog" } } }, t))
  end)

  it("adds what was left out, in the annotations' order, when asked", function()
    local three = { OBJECTS[1], { name = "sun", attributes = { "red" }, box = { 0.6, 0.1, 0.7, 0.2 } }, OBJECTS[2] }
    assert.equal("The car at the top left is red. The sun at the top right is red. The tree at the bottom right is blue.",
      corrected({ "The car at the top left is red", "The tree at the bottom right is blue" },
        { objects = three, complete = true }))
  end)

  it("is judged correct", function()
    local list = { "There is a boat at the top left in red", "There is a car at the bottom left in green", "x y z" }
    for _, label in ipairs(labels(sentences.split(corrected(list)))) do assert.equal("correct", label) end
  end)
end)

describe("a rewriting", function()
  it("gives both forms and the text itself, in order, right or wrong alike", function()
    local text = reply("rewrite", { "There is a car at the top left in red", "There is a boat at the top left in red" }).text
    assert.equal("1. There is a car at the top left in red. There is a boat at the top left in red.\n"
      .. "2. The car at the top left is red. The boat at the top left is red.\n"
      .. "3. There is a car at the top left in red. There is a boat at the top left in red.", text)
  end)

  it("leaves other sentences as they are", function()
    assert.equal("1. A man waits.\n2. A man waits.", reply("rewrite", { "A man waits" }, { variants = 2 }).text)
  end)
end)

describe("an answer", function()
  it("is by the annotations", function()
    assert.equal("Yes, there is a car.", reply("ask", nil, { question = "Is there a car in the image?" }).text)
    assert.equal("No, there is no road.", reply("ask", nil, { question = "Is there a road in the image?" }).text)
  end)
end)

describe("a request", function()
  it("of an unknown kind or without sentences is refused", function()
    local judge = annotation { nouns = tiny }
    assert.has_error(function() judge:ask { { kind = "guess" } } end, "judge annotation: request 1 is of kind 'guess'")
    assert.has_error(function() judge:ask { { kind = "judge" } } end, "judge annotation: request 1 (judge) has no sentences")
  end)
end)

describe("the recording", function()
  local dir = support.folder()
  teardown(function() support.remove(dir) end)

  it("asks once and answers again without the judge behind it", function()
    local asked = 0
    local other = { ask = function(_, requests)
      local out = {}
      for i, r in ipairs(requests) do out[i] = { text = "about " .. r.image_id } end
      asked = asked + #requests
      return out
    end }
    local path = dir .. "/replies.jsonl"
    local first = replay { path = path, judge = other }
    assert.equal("about 2", first:ask({ { kind = "judge", image_id = 1 }, { kind = "judge", image_id = 2 } })[2].text)
    first:ask { { image_id = 2, kind = "judge" }, { kind = "judge", image_id = 3 } }
    assert.equal(3, asked)
    local again = replay { path = path }
    assert.equal("about 3", again:ask({ { kind = "judge", image_id = 3 } })[1].text)
    assert.equal(3, asked)
    local ok, reason = pcall(again.ask, again, { { kind = "judge", image_id = 9 } })
    assert.is_false(ok)
    assert.is_truthy(reason:find("holds no reply to request 1 (judge, image 9)", 1, true))
  end)

  it("needs to be there when nobody else can be asked", function()
    local ok, reason = pcall(replay, { path = dir .. "/none.jsonl" })
    assert.is_false(ok)
    assert.is_truthy(reason:find("there is no " .. dir .. "/none.jsonl", 1, true))
  end)
end)
