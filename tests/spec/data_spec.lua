-- Readers of the published formats: what they accept, what they refuse, and how they say so.
local annotated = require "lucid.data.pictures"
local ccsbu = require "lucid.data.ccsbu"
local coco = require "lucid.data.coco"
local file = require "lucid.file"
local hadpo = require "lucid.data.hadpo"
local json = require "lucid.json"
local jsonl = require "lucid.data.jsonl"
local pairfile = require "lucid.data.pairfile"
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

  it("are drawn as each model's reference draws them", function()
    local records, list = {}, {}
    for i = 1, 8 do
      records[i] = { image_id = 1, chosen = { "0", "1", "2" }, rejected = { "0", "1", "2" } }
    end
    json.write(dir .. "/eight.json", records)
    local function draws(model)
      list = hadpo.read { desc = dir .. "/eight.json", images = root, model = model }
      local texts = {}
      for i, p in ipairs(list) do texts[i] = p.chosen .. p.rejected end
      return table.concat(texts, " ")
    end
    -- Appendix C of the facts: triples for LLaVA, whose third draw is the instruction; pairs for the others.
    assert.is_truthy(draws("llava"):find("^20 21 00 22 21 00"))
    for i, number in ipairs { 0, 1, 0, 0, 0, 1 } do
      assert.equal(hadpo.INSTRUCTIONS[number + 1], list[i].question)
    end
    assert.equal("20 02 10 00 20 22 20 21", draws("minigpt4"))
    assert.equal("20 02 10 00 20 22 20 21", draws("instructblip"))
  end)

  it("have a new instruction in every epoch where the model's reference draws it then", function()
    local function read(opt)
      opt.desc, opt.images = dir .. "/eight.json", root
      return hadpo.read(opt)
    end
    local differ, apart = 0, 0
    local first, second = read { model = "instructblip" }, read { model = "instructblip", epoch = 1 }
    local own = read { model = "minigpt4", pairing = "independent" }
    for i, p in ipairs(first) do
      assert.is_nil(p.reference_question)
      assert.equal(p.question, (hadpo.instruction(p, { seed = 42, epoch = 0 })))
      assert.equal(p.chosen, second[i].chosen)
      if p.question ~= second[i].question then differ = differ + 1 end
      if own[i].question ~= own[i].reference_question then apart = apart + 1 end
      assert.equal(p.question, own[i].question)
    end
    assert.is_true(differ > 2 and apart > 2)
    local fixed, again = read { model = "llava" }, read { model = "llava", epoch = 1 }
    for i, p in ipairs(fixed) do assert.equal(p.question, again[i].question) end
    raises("draws it once with the texts", read, { model = "llava", pairing = "independent" })
    raises("'both' is none of shared, independent", read, { model = "minigpt4", pairing = "both" })
    raises("'gpt' is none of instructblip, llava, minigpt4", read, { model = "gpt" })
  end)

  it("make each model's mix, in its order", function()
    local function mix(model)
      local list, _, counts = hadpo.read { desc = dir .. "/desc.json", pope = dir .. "/pope.json", images = root,
        model = model }
      local ids = {}
      local all = hadpo.epoch(list, model)
      for i, p in ipairs(all) do ids[i] = p.id end
      return table.concat(ids, " "), counts.correct, all
    end
    local ids, correct, all = mix "llava"
    assert.equal("pope/1 pope/3 desc/1/1 desc/2/1 desc/1/1 desc/2/1", ids)
    assert.equal(1, correct)
    assert.equal(all[3], all[5])
    assert.equal("desc/1/1 desc/2/1 pope/1 pope/2 pope/3", mix "minigpt4")
    assert.equal("desc/1/1 desc/2/1 pope/1 pope/3 pope/1 pope/3", mix "instructblip")
  end)

  it("count texts that zip leaves without a partner", function()
    local list, _, counts = hadpo.read { desc = dir .. "/object.json", images = root, sampling = "zip", model = "minigpt4" }
    assert.equal(1, #list)
    assert.equal(1, counts.unpaired)
    assert.equal("rr", list[1].rejected)
  end)

  it("stop before training when pictures are missing, unless told to skip", function()
    raises("the pictures of 2 of 3 pairs are missing: desc/1/1, image 2 (", hadpo.read, { desc = dir .. "/missing.json", images = root })
    raises("image 3 (not in image_data.json)", hadpo.read, { desc = dir .. "/missing.json", images = root })
    local list, missing = hadpo.read { desc = dir .. "/missing.json", images = root, skip_missing = true }
    assert.equal(1, #list)
    assert.equal(2, missing)
  end)

  it("come back as they were written, in the form of each model", function()
    local descriptions = { { image_id = 1, chosen = { "a" }, rejected = { "b" } }, { image_id = 7, chosen = { "c", "d" }, rejected = { "e", "f" } },
      { image_id = 7, chosen = { "g" }, rejected = { "h" } } }
    local questions = { { image_id = 1, question = "q", answer = "no", chosen = "No.", rejected = "Yes.", correct = true },
      { image_id = 7, question = "r", answer = "yes", chosen = "Yes.", rejected = "No.", correct = false } }
    for form, f in pairs(pairfile.FORMS) do
      assert.same({ desc = f.by_id and 2 or 3, pope = 2 }, pairfile.write(dir, form, descriptions, questions))
      local read, asked = hadpo.descriptions(dir .. "/desc_data.json"), hadpo.questions(dir .. "/pope_data.json")
      if f.by_id then
        assert.same({ image_id = 7, chosen = { "c", "d", "g" }, rejected = { "e", "f", "h" } }, read[2])
        assert.same({ chosen = { "a" }, rejected = { "b" } }, json.read(dir .. "/desc_data.json")["1"])
      else
        assert.same(descriptions, read)
        assert.equal("7", json.read(dir .. "/desc_data.json")[2].image_id)
      end
      for i, q in ipairs(questions) do
        assert.same({ image_id = q.image_id, question = q.question, chosen = q.chosen, rejected = q.rejected,
          answer = f.answer and q.answer or nil, correct = f.correct and q.correct or false }, asked[i])
        local written = json.read(dir .. "/pope_data.json")[i]
        assert.equal(q.rejected, written[f.rejected])
        assert.equal(f.correct, written.correct ~= nil or nil)
        assert.equal(f.answer, written.answer ~= nil or nil)
      end
    end
    assert.equal("rejected", pairfile.FORMS.instructblip.rejected)
    assert.is_nil(file.kind(dir .. "/desc_data.json.part"))
    pairfile.write(dir, "llava", {}, {})
    assert.same({}, json.read(dir .. "/desc_data.json"))
    raises("none of instructblip", pairfile.open, dir, "bard")
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

describe("CC-SBU align", function()
  it("is read with its pictures, and its ids are texts", function()
    local root = support.folder()
    os.execute("mkdir -p '" .. root .. "/image'")
    file.write(root .. "/image/0.jpg", "not read here")
    file.write(root .. "/image/1a.jpg", "not read here")
    file.write(root .. "/filter_cap.json", [=[{"annotations": [{"image_id": 0, "caption": "A cat."},
      {"image_id": "1a", "caption": "A dog."}, {"image_id": "2", "caption": "A cow."}]}]=])
    raises("filter_cap.json: record 3: there is no picture " .. root .. "/image/2.jpg", ccsbu.read, root)
    local list, missing = ccsbu.read(root, { skip_missing = true })
    assert.equal(1, missing)
    assert.same({ { image_id = "0", image = root .. "/image/0.jpg", caption = "A cat." },
      { image_id = "1a", image = root .. "/image/1a.jpg", caption = "A dog." } }, list)
    support.remove(root)
  end)

  it("is cut among processes as the reference cuts it", function()
    -- 3,439 captions, 8 processes: step 3439 // 8 + 1 = 430.
    assert.same({ 1, 430 }, { ccsbu.slice(3439, 0, 8) })
    assert.same({ 3011, 3439 }, { ccsbu.slice(3439, 7, 8) })
    assert.same({ 1, 3438 }, { ccsbu.slice(3439) })
    local list = { "a", "b", "c", "d", "e" }
    local function first(n, ...)
      local draw, text = ccsbu.cycle(list, ...), ""
      for _ = 1, n do text = text .. draw() end
      return text
    end
    assert.equal("abcabca", first(7, 0, 2))
    assert.equal("deded", first(5, 1, 2))
    assert.equal("abcdab", first(6))
    raises("process 3 of 4 gets none of the 5 captions", ccsbu.cycle, list, 3, 4)
  end)
end)

describe("COCO annotations", function()
  it("are read, and what cannot be used is counted", function()
    local path = DATA .. "/coco/mmyolo_coco_sample.json"
    if not file.exists(path) then return pending("no ../shared/data") end
    local pictures, skipped = coco.read(path)
    assert.equal(4, #pictures)
    -- Of eight rows: one crowd, one marked ignore, one without width, one of an unknown category.
    assert.equal(4, skipped)
    assert.same({ "bus" }, pictures[1].names)
    local names, categories = coco.categories(path)
    assert.equal(2, #categories)
    local picture, _, box = coco.boxes(path, { [pictures[1].image_id] = pictures[1] }, names)()
    assert.equal(pictures[1], picture)
    assert.same({ 0, 0, 20 / 800, 20 / 600 }, box)
  end)

  it("are told from lists of objects, and read without ever holding their largest list", function()
    local folder = support.folder()
    local path, rows, outline = folder .. "/instances.json", {}, ("1.5,"):rep(200) .. "2"
    for i = 1, 5000 do
      rows[i] = ('{"image_id":%d,"category_id":1,"bbox":[0,0,5,5],"segmentation":[[%s]]}'):format(i % 2 + 1, outline)
    end
    -- What is largest stands first.
    file.write(path, ('{"annotations":[%s],"images":[{"id":1,"file_name":"1.jpg","width":9,"height":9},'
      .. '{"id":2,"file_name":"2.jpg","width":9,"height":9}],"categories":[{"id":1,"name":"cat"}]}'):format(table.concat(rows, ",")))
    collectgarbage()
    local before, most = collectgarbage("count"), 0
    jit.off()                                                    -- compiled loops call no hook
    debug.sethook(function()
      collectgarbage()                                           -- what is held, not what waits for the collector
      most = math.max(most, collectgarbage("count"))
    end, "", 100000)
    local list = annotated.read(path)
    debug.sethook()
    jit.on()
    assert.same({ { image = "1.jpg", names = { "cat" } }, { image = "2.jpg", names = { "cat" } } }, list)
    assert.is_true(most > 0 and most - before < 8000, most - before)
    file.write(path, '{"id": 1, "image": "a.jpg", "objects": ["dog", "dog"]}')
    assert.same({ { image = "a.jpg", names = { "dog" } } }, annotated.read(path))
    file.write(path, "[]")
    raises("there are no pictures in it", annotated.read, path)
    support.remove(folder)
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
      .. '{"id": 7, "conversations": [{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": "A dog."}]}\n'
      .. '{"id": 9007199254740993, "conversations": [{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": "A."}]}\n')
    assert.equal("9007199254740993", table.remove(list).id)       -- more than a double holds
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
