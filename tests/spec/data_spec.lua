-- Readers of the published formats: what they accept, what they refuse, and how they say so.
local coco = require "lucid.data.coco"
local file = require "lucid.file"
local hadpo = require "lucid.data.hadpo"
local jsonl = require "lucid.data.jsonl"
local pyrandom = require "lucid.data.pyrandom"
local support = require "tests.support.folder"
local vg = require "lucid.data.vg"

local DATA = "../shared/data"
local dir = support.folder()

local function write(name, text)
  file.write(dir .. "/" .. name, text)
  return dir .. "/" .. name
end

local function raises(pattern, f, ...)
  local ok, reason = pcall(f, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(reason):find(pattern, 1, true), tostring(reason))
end

describe("Python's random", function()
  it("gives MT19937's first words for seed 42", function()
    local r = pyrandom(42)
    for _, expected in ipairs { 2746317213, 478163327, 107420369, 3184935163 } do
      assert.equal(expected, r:word())
    end
  end)

  it("draws as random.choice does", function()
    local r = pyrandom(42)
    for _, expected in ipairs { { 2, 0, 0 }, { 2, 1, 1 }, { 0, 0, 0 }, { 2, 2, 0 }, { 2, 1, 0 }, { 0, 0, 1 } } do
      assert.same(expected, { r:choice(3) - 1, r:choice(3) - 1, r:choice(4) - 1 })
    end
    r = pyrandom(42)
    for _, expected in ipairs { { 2, 0 }, { 0, 2 }, { 1, 0 }, { 0, 0 }, { 2, 0 }, { 2, 2 }, { 2, 0 }, { 2, 1 } } do
      assert.same(expected, { r:choice(3) - 1, r:choice(3) - 1 })
    end
  end)

  it("goes on past its 624 words and takes seeds of more than 32 bits", function()
    -- random.Random(1), random.Random(2 ** 40 + 7): [getrandbits(32) for _ in range(1000)][999],
    -- CPython 3.11
    local last = { [1] = 1877627338, [2 ^ 40 + 7] = 3133584645 }
    for seed, expected in pairs(last) do
      local r = pyrandom(seed)
      for _ = 1, 999 do r:word() end
      assert.equal(expected, r:word())
    end
  end)
end)

describe("preference files", function()
  local root = dir .. "/vg"
  setup(function()
    os.execute("mkdir -p '" .. root .. "/VG_100K'")
    write("vg/image_data.json", [=[
      [{"image_id": 1, "url": "https://x.org/a/VG_100K/1.jpg", "width": 64, "height": 64},
       {"image_id": 2, "url": "https://x.org/a/VG_100K/2.jpg", "width": 64, "height": 64}]
    ]=])
    write("vg/VG_100K/1.jpg", "not read here")
    write("desc.json", [=[
      [{"image_id": "1", "chosen": ["a0", "a1", "a2"], "rejected": ["r0", "r1", "r2"]},
       {"image_id": 1, "chosen": ["b0", "b1", "b2"], "rejected": ["s0", "s1", "s2"]}]
    ]=])
    write("object.json", [=[{"1": {"chosen": ["a0", "a1"], "rejected": ["r\nr"]}}]=])
    write("pope.json", [=[
      [{"image_id": "1", "question": "Is there a cat?", "answer": "no", "chosen": "No.", "reject": "Yes.", "correct": false},
       {"image_id": 1, "question": "Is there a dog?", "answer": "yes", "chosen": "Yes.", "rejected": "No.", "correct": true},
       {"image_id": 1, "question": "Is there a cow?", "chosen": "No.", "rejected": "Yes."}]
    ]=])
    write("missing.json", [=[[{"image_id": "2", "chosen": ["a"], "rejected": ["r"]},
      {"image_id": "3", "chosen": ["a"], "rejected": ["r"]}, {"image_id": "1", "chosen": ["a"], "rejected": ["r"]}]]=])
  end)
  teardown(function() support.remove(dir) end)

  it("are sampled as the reference samples them", function()
    local list, missing, counts = hadpo.read { desc = dir .. "/desc.json", images = root }
    assert.equal(2, counts.desc)
    assert.equal(0, missing)
    assert.equal("a2", list[1].chosen)
    assert.equal("r0", list[1].rejected)
    assert.equal(hadpo.INSTRUCTIONS[1], list[1].question)
    assert.equal("b2", list[2].chosen)
    assert.equal("s1", list[2].rejected)
    assert.equal(hadpo.INSTRUCTIONS[2], list[2].question)
    assert.equal(root .. "/VG_100K/1.jpg", list[1].image)
    assert.equal("desc", list[1].kind)
  end)

  it("give every combination, or first with first", function()
    assert.equal(18, #hadpo.read { desc = dir .. "/desc.json", images = root, sampling = "all" })
    local list = hadpo.read { desc = dir .. "/desc.json", images = root, sampling = "zip" }
    assert.equal(6, #list)
    assert.equal("a1", list[2].chosen)
    assert.equal("r1", list[2].rejected)
    raises("'often' is none of offline, all, zip", hadpo.read,
      { desc = dir .. "/desc.json", images = root, sampling = "often" })
  end)

  it("may be objects, and lose their newlines when asked", function()
    local list = hadpo.read { desc = dir .. "/object.json", images = root, strip_newlines = true }
    assert.equal(1, list[1].image_id)
    assert.equal("rr", list[1].rejected)
  end)

  it("leave out questions that the model answers right", function()
    local list, missing, counts = hadpo.read { pope = dir .. "/pope.json", images = root }
    assert.equal(2, #list)
    assert.equal(1, counts.correct)
    assert.equal(0, missing)
    assert.equal("Yes.", list[1].rejected)
    assert.equal("Yes.", list[2].rejected)
    assert.equal(3, #hadpo.read { pope = dir .. "/pope.json", images = root, keep_correct = true })
  end)

  it("are refused by file, record and key", function()
    write("pope_data.json", [=[[{"image_id": 1, "question": "q", "chosen": "c", "reject": "r"}, {"image_id": 1, "chosen": "c", "reject": "r"}]]=])
    raises("pope_data.json: record 2 has no 'question'", hadpo.read, { pope = dir .. "/pope_data.json", images = root })
    write("bad.json", [=[[{"chosen": ["c"], "rejected": ["r"]}]]=])
    raises("bad.json: record 1 has no 'image_id'", hadpo.read, { desc = dir .. "/bad.json", images = root })
    write("bad.json", [=[[{"image_id": "x", "chosen": ["c"], "rejected": ["r"]}]]=])
    raises("record 1 has an image_id that is no number: 'x'", hadpo.read, { desc = dir .. "/bad.json", images = root })
    write("bad.json", [=[[{"image_id": 1, "chosen": "c", "rejected": ["r"]}]]=])
    raises("record 1 has a 'chosen' that is no list of texts", hadpo.read, { desc = dir .. "/bad.json", images = root })
    write("bad.json", [=[[{"image_id": 1, "chosen": [], "rejected": ["r"]}]]=])
    raises("record 1 has a 'chosen' that is no list of texts", hadpo.read, { desc = dir .. "/bad.json", images = root })
    write("bad.json", [=[[7]]=])
    raises("bad.json: record 1 is no object", hadpo.read, { desc = dir .. "/bad.json", images = root })
  end)

  it("stop before training when pictures are missing, unless told to skip", function()
    raises("the pictures of 2 of 3 pairs are missing: desc/1/1, image 2 (", hadpo.read, { desc = dir .. "/missing.json", images = root })
    raises("image 3 (not in image_data.json)", hadpo.read, { desc = dir .. "/missing.json", images = root })
    local list, missing = hadpo.read { desc = dir .. "/missing.json", images = root, skip_missing = true }
    assert.equal(1, #list)
    assert.equal(2, missing)
  end)

  it("come back as they were written", function()
    hadpo.write(dir, { { image_id = 1, chosen = { "a" }, rejected = { "b" } } },
      { { image_id = 1, question = "q", answer = "no", chosen = "No.", rejected = "Yes.", correct = true } })
    assert.same({ { image_id = 1, chosen = { "a" }, rejected = { "b" } } }, hadpo.descriptions(dir .. "/desc_data.json"))
    assert.same({ { image_id = 1, question = "q", answer = "no", chosen = "No.", rejected = "Yes.", correct = true } },
      hadpo.questions(dir .. "/pope_data.json"))
    assert.is_truthy(file.read(dir .. "/pope_data.json"):find('"reject"', 1, true))
  end)
end)

describe("Visual Genome", function()
  it("is read from the published layout", function()
    if not file.exists(DATA .. "/vg/image_data.excerpt.json") then return pending("no ../shared/data") end
    local root = support.folder()
    file.write(root .. "/image_data.json", file.read(DATA .. "/vg/image_data.excerpt.json"))
    file.write(root .. "/region_descriptions.json", file.read(DATA .. "/vg/region_descriptions.excerpt.json"))
    local all, ids = vg.annotations(root)
    assert.same({ 1 }, ids)
    assert.equal(root .. "/VG_100K_2/1.jpg", all[1].path)
    assert.equal(3, #all[1].regions)
    assert.equal("the clock is green in colour", all[1].regions[1].phrase)
    assert.equal("[0.53, 0.1, 0.63, 0.33]: the clock is green in colour", vg.region_line(all[1].regions[1]))
    support.remove(root)
  end)

  it("passes over records without regions and regions without words", function()
    local root = support.folder()
    file.write(root .. "/image_data.json", '[{"image_id": 5, "url": "h/VG_100K/5.jpg", "width": 10, "height": 20}]')
    file.write(root .. "/region_descriptions.json",
      '[{"regions": []}, {"regions": [{"image_id": 5, "phrase": " ", "x": 0, "y": 0, "width": 1, "height": 1},'
      .. '{"image_id": 5, "phrase": "a hat", "x": 1, "y": 2, "width": 4, "height": 10}]}]')
    local regions = vg.regions(root, (vg.images(root)))
    assert.same({ { phrase = "a hat", box = { 0.1, 0.1, 0.5, 0.6 } } }, regions:get(5))
    assert.is_nil(regions:get(6))
    assert.equal(1, regions.empty)
    assert.equal(1, regions.blank)
    support.remove(root)
  end)

  it("takes a picture's folder and name from its url", function()
    for url, path in pairs { ["https://x.org/a/VG_100K/1.jpg"] = "r/VG_100K/1.jpg", ["VG_100K/1.jpg"] = "r/VG_100K/1.jpg" } do
      assert.equal(path, vg.path("r", url))
    end
    for _, url in ipairs { "1.jpg", "a//1.jpg", "a/b/", "/1.jpg", "", "/" } do assert.is_nil(vg.path("r", url)) end
  end)

  it("names the record that lacks something", function()
    local root = support.folder()
    file.write(root .. "/image_data.json", '[{"image_id": 5, "width": 10, "height": 20}]')
    raises("image_data.json: record 1 has no 'url'", vg.images, root)
    support.remove(root)
  end)

  it("prints a region's box as the reference prints it", function()
    assert.equal("[0.5, 0.0, 1.0, 0.33]: x", vg.region_line { phrase = "x", box = { 0.5, 0, 1, 1 / 3 } })
  end)
end)

describe("COCO annotations", function()
  it("are read, and what cannot be used is counted", function()
    local path = DATA .. "/coco/mmyolo_coco_sample.json"
    if not file.exists(path) then return pending("no ../shared/data") end
    local pictures, categories, skipped = coco.read(path)
    assert.equal(4, #pictures)
    assert.equal(2, #categories)
    -- Of eight rows: one crowd, one marked ignore, one without width, one of an unknown category.
    assert.equal(4, skipped)
    assert.same({ "bus" }, coco.names(pictures[1]))
    assert.same({ 0, 0, 20 / 800, 20 / 600 }, pictures[1].objects[1].box)
  end)
end)

describe("conversations", function()
  local folder = support.folder()
  teardown(function() support.remove(folder) end)
  local function read(text, opt)
    file.write(folder .. "/c.json", text)
    return jsonl.conversations(folder .. "/c.json", opt or {})
  end

  it("are turns of a question and an answer", function()
    local list = read [=[[{"id": "a", "conversations": [{"from": "human", "value": "<image>\nWhat?"},
      {"from": "gpt", "value": "A cat."}, {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."}]}]]=]
    assert.same({ { question = "What?", answer = "A cat." }, { question = "Sure?", answer = "Yes." } }, list[1].turns)
    assert.equal("a", list[1].id)
  end)

  it("may end with the picture's place, and be JSON lines", function()
    local list = read('{"conversations": [{"from": "human", "value": "What?\\n<image>"}, {"from": "gpt", "value": "A cat."}]}\n'
      .. '{"id": 7, "conversations": [{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": "A dog."}]}\n')
    assert.equal("What?", list[1].turns[1].question)
    assert.equal("7", list[2].id)
  end)

  it("are refused by record", function()
    raises("record 1 has no 'conversations'", read, '[{"id": 1}]')
    raises("record 1: message 1 is from 'gpt'; human and gpt take turns", read,
      '[{"conversations": [{"from": "gpt", "value": "A."}]}]')
    raises("record 1 (id 3): there is no picture", read,
      '[{"id": 3, "image": "none.jpg", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}]')
  end)
end)
