-- CHAIR: the noun table of COCO, the three numbers, and what captions are held against.
local chair = require "lucid.metric.chair"
local data = require "lucid.data.chair"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local nouns = require "lucid.nouns"
local oracle = require "tests.oracle.chair"
local rng = require "lucid.rng"

local coco = nouns.coco()

local function names(text, t)
  local list = {}
  for i, m in ipairs(((t or coco):mentions(text))) do list[i] = m.name end
  return list
end

describe("the table of COCO", function()
  it("has its 80 categories, none of whose words means two", function()
    assert.equal(80, #coco.names)
    local seen = {}
    for _, c in ipairs(json.read("lua/lucid/metric/coco.json").categories) do
      for _, word in ipairs { c.name, unpack(c.synonyms) } do
        assert.is_nil(seen[word], word)
        seen[word] = c.name
        assert.equal(c.name, coco:lookup(word), word)
      end
    end
  end)

  it("reads phrases before words, plurals by rule and the irregular by list", function()
    for text, expected in pairs {
      ["Two hot dogs, a dog."] = { "hot dog", "dog" },
      ["A teddy bear and a bear"] = { "teddy bear", "bear" },
      ["Buses, knives, children, policemen and mice"] = { "bus", "knife", "person", "person", "mouse" },
      ["oxen by a group of people; humans"] = { "cow", "person", "person" },
      ["Wine glasses. A glass of wine."] = { "wine glass", "wine glass" },
      ["A toilet seat"] = { "toilet" },
      ["the woman's bike"] = { "person", "bicycle" },
      ["A baby"] = { "person" },
      ["A baby elephant, male lions and a passenger train"] = { "elephant", "person", "train" },
      ["An orange cat eats an orange in an orange shirt"] = { "cat", "orange" },
      ["They wait at the train station"] = {},
      ["catalogue, carpet, bearing"] = {},
    } do
      assert.same(expected, names(text), text)
    end
  end)

  it("takes words for what they say, with the genitive cut off", function()
    local m = coco:mentions("The woman's hats")[1]
    assert.same({ "person", 5, 9 }, { m.name, m.first, m.last })
  end)
end)

describe("a noun table's rules", function()
  local dir = folder.folder()
  teardown(function() folder.remove(dir) end)

  it("are refused where they are none", function()
    for text, expected in pairs {
      ['"ignore": 3'] = "its phrases to ignore are not a list of texts",
      ['"before": 3'] = "its 'before' is no list",
      ['"before": [3]'] = "rule 1 of 'before' is no object",
      ['"before": [{"words": [1]}]'] = "rule 1 of 'before': its words are not a list of texts",
    } do
      file.write(dir .. "/n.json", ('{"categories": [{"name": "cat"}], %s}'):format(text))
      assert.has_error(function() nouns.read(dir .. "/n.json") end, dir .. "/n.json: " .. expected)
    end
    assert.has_error(function() nouns.new({ { name = "cat" } }, { before = { { words = { "a" }, of = { "dog" } } } }) end,
      "noun table: before: there is no category 'dog'")
  end)
end)

describe("the score", function()
  it("counts mentions, captions and things", function()
    local records = {
      { image_id = 1, response = "A dog, two dogs and a cat.", truth = { "dog", "car" } },
      { image_id = 2, response = "A man rides.", truth = { "person", "person" } },
      { image_id = 3, response = "It is nice.", truth = { "bus" } },
    }
    local m = chair.score(records, { nouns = coco, bootstrap = 100, seed = 3 })
    assert.equal(1 / 4, m.chair_i.value)
    assert.equal(1 / 3, m.chair_s.value)
    assert.equal(2 / 4, m.recall.value)
    assert.equal((7 + 3 + 3) / 3, m.words_per_caption.value)
    assert.equal(1, m.captions_without_mention.value)
    assert.is_near(1 / 3, m.chair_s.stderr, 1e-12)
    assert.is_true(m.chair_i.low >= 0 and m.chair_i.high <= 1)
    assert.same({ { name = "dog", word = "dog", there = true }, { name = "dog", word = "dogs", there = true },
      { name = "cat", word = "cat", there = false } }, records[1].mentions)
  end)

  it("is undefined where nothing is mentioned", function()
    local m = chair.score({ { response = "It is nice.", truth = {} } }, { nouns = coco, bootstrap = 10 })
    for _, name in ipairs { "chair_i", "recall" } do
      assert.same({ value = 0, n = 1, undefined = true }, m[name])
    end
    assert.equal(0, m.chair_s.value)
  end)

  it("wants a response and a truth", function()
    assert.has_error(function() chair.score({ { response = "A." } }, { nouns = coco }) end,
      "chair: record 1 needs a response and its picture's truth")
  end)

  -- A table with nested phrases, an ignored one and plurals, and captions drawn of its words and others.
  it("is the oracle's on random captions", function()
    local t = nouns.new({ { name = "dog", synonyms = { "puppy" } }, { name = "hot dog" }, { name = "bus" },
      { name = "person", synonyms = { "woman", "baby" } }, { name = "knife" }, { name = "elephant" } },
      { ignore = { "bus stop" }, before = { { words = { "baby" }, of = { "elephant" } } } })
    local phrases = { dog = "dog", dogs = "dog", puppy = "dog", puppies = "dog", ["hot dog"] = "hot dog",
      ["hot dogs"] = "hot dog", bus = "bus", buses = "bus", person = "person", people = "person", woman = "person",
      women = "person", baby = "person", babies = "person", knife = "knife", knives = "knife", elephant = "elephant",
      elephants = "elephant", ["bus stop"] = false, ["bus stops"] = false, ["baby elephant"] = "elephant",
      ["baby elephants"] = "elephant" }
    local words = { "hot", "dog", "Dogs", "puppies", "bus", "buses", "stop", "stops", "person", "people", "women",
      "baby", "babies", "knives", "elephant", "elephants", "the", "a", "on", "red" }
    local r = rng(5, "chair")
    local records, captions = {}, {}
    for i = 1, 300 do
      local text, truth, list = {}, {}, {}
      for k = 1, r:integer(15) do text[k] = r:pick(words) .. r:pick { "", "", "", ",", "." } end
      for _, name in ipairs(t.names) do
        if r:uniform() < 0.4 then
          truth[name] = true
          list[#list + 1] = name
        end
      end
      -- Marks do not part phrases here: the benchmark drops them, too.
      captions[i] = { text = table.concat(text, " "), truth = truth }
      records[i] = { image_id = i, response = captions[i].text, truth = list }
    end
    local i, s, recall = oracle.score(captions, phrases)
    local m = chair.score(records, { nouns = t })
    assert.is_near(i, m.chair_i.value, 1e-12)
    assert.is_near(s, m.chair_s.value, 1e-12)
    assert.is_near(recall, m.recall.value, 1e-12)
    assert.is_true(i > 0.2 and i < 0.8 and recall > 0.1)
  end)
end)

describe("what captions are held against", function()
  local dir = folder.folder()
  teardown(function() folder.remove(dir) end)
  local instances = dir .. "/instances.json"

  local function write(categories)
    json.write(instances, {
      images = json.array { { id = 42, file_name = "COCO_val2014_000000000042.jpg", width = 10, height = 10 },
        { id = 7, file_name = "7.jpg", width = 10, height = 10 } },
      categories = categories or json.array { { id = 1, name = "dog" }, { id = 3, name = "hot dog" } },
      annotations = json.array { { image_id = 42, category_id = 3, bbox = json.array { 0, 0, 5, 5 }, iscrowd = 0 },
        { image_id = 42, category_id = 1, bbox = json.array { 0, 0, 5, 5 }, iscrowd = 1 },
        { image_id = 42, category_id = 1, bbox = json.array { 1, 1, 5, 5 }, iscrowd = 0 } },
    })
    json.write(dir .. "/captions.json", { annotations = json.array {
      { image_id = 42, caption = "A dog beside women." }, { image_id = 42, caption = "A bus." } } })
  end

  it("is marked, crowds included, or named by a reference caption", function()
    write()
    local pictures = data.read(instances, coco)
    assert.same({ image_id = 42, image = "COCO_val2014_000000000042.jpg", truth = { "hot dog", "dog" } }, pictures[1])
    assert.same({}, pictures[2].truth)
    pictures = data.read(instances, coco, dir .. "/captions.json")
    assert.same({ "hot dog", "dog", "person", "bus" }, pictures[1].truth)
  end)

  it("has to be in the noun table", function()
    write(json.array { { id = 1, name = "dragon" }, { id = 3, name = "dog" } })
    assert.has_error(function() data.read(instances, coco) end,
      instances .. ": the noun table has no word for category 'dragon' (--nouns)")
  end)

  it("is found by every form of a response's id", function()
    write()
    local path = dir .. "/r.jsonl"
    for _, text in ipairs { '{"image_id": 42, "caption": "A cat."}', '{"image_id": "000000000042", "response": "A cat."}',
      '{"question_id": 42, "text": "A cat."}', '{"image": "val2014/COCO_val2014_000000000042.jpg", "answer": "A cat."}',
      '[{"id": 42, "response": "A cat."}]' } do
      file.write(path, text)
      local list = data.answered(path, data.read(instances, coco))
      assert.same({ 1, 42, "A cat." }, { #list, list[1].image_id, list[1].response })
    end
    file.write(path, '{"image_id": 43, "caption": "A cat."}')
    assert.has_error(function() data.answered(path, data.read(instances, coco)) end,
      path .. ": response 1 is about picture 43, which is not annotated")
    file.write(path, '{"image": "cat.jpg", "caption": "A cat."}')
    assert.has_error(function() data.answered(path, data.read(instances, coco)) end, path .. ": record 1 has no 'image_id'")
  end)

  it("is read of the published synonym list, too", function()
    local path = "../shared/data/datasets/chair/synonyms.txt"
    if not file.exists(path) then return pending("no ../shared/data") end
    local t = nouns.read(path)
    assert.equal(80, #t.names)
    assert.same({ "hot dog", "person", "couch" }, names("hotdog? hot dogs near grandchildren on futons", t))
  end)
end)
