-- Mining: from descriptions with made-up sentences to pairs and questions, stage by stage, and back through the readers.
-- That its runs can be cut off and gone on with is tests/spec/mine_resume_spec.lua.
local asking = require "lucid.mine.asking"
local check = require "lucid.mine.check"
local file = require "lucid.file"
local gate = require "lucid.mine.gate"
local hadpo = require "lucid.data.hadpo"
local json = require "lucid.json"
local mine = require "lucid.mine"
local mining = require "tests.support.mining"
local questions = require "lucid.mine.questions"
local rewrite = require "lucid.mine.rewrite"
local select_stage = require "lucid.mine.select"
local sentences = require "lucid.sentences"
local support = require "tests.support.folder"

local thing = mining.thing
local dir
before_each(function() dir = support.folder() end)
after_each(function() support.remove(dir) end)

-- Mines pictures; the report and the pictures' lines of the gate by id.
local function run(more, pictures, judge)
  pictures = pictures or mining.pictures()
  mining.write(dir, pictures)
  local report = mine.run(mining.options(dir, more), { model = mining.model(pictures), judge = judge or mining.judge() })
  local by_id = {}
  for _, r in ipairs(mining.lines(dir .. "/out", "7-gate")) do by_id[r.image_id] = r end
  return report, by_id
end

-- A judge that hands on what the annotation judge says, changed by f(reply, request).
local function changed(f)
  local judge = mining.judge()
  return { ask = function(_, requests)
    local replies = judge:ask(requests)
    for i, r in ipairs(requests) do replies[i] = f(replies[i], r) or replies[i] end
    return replies
  end }
end

describe("description pairs", function()
  it("set the corrected text against the model's own, in the same forms", function()
    local report, by_id = run()
    local first, second = by_id[11].descriptions[1], by_id[12].descriptions[1]
    assert.same({ "There is a car at the top left in red.", "The car at the top left is red.",
      "There is a car at the top left in red." }, first.chosen)
    assert.equal("The car at the top left is red. The road at the top left is blue.", first.rejected[2])
    assert.equal("The sun at the top left is red. The dog at the top left is green.", second.chosen[3])
    assert.equal("The sun at the top left is red. The ball at the top left is red.", second.rejected[3])
    assert.equal(2, report.descriptions.corrected)
    assert.equal(0, report.descriptions.omission)
    assert.same({ ["nothing is made up"] = 1, ["nothing true is left"] = 1 }, report.stages.rewrite.left_out)
    assert.equal(6, report.descriptions.chosen_words.texts)
  end)

  it("leave out what is too short, too long, there already or the same", function()
    local report, by_id = run { min_ratio = 0.8 }
    assert.equal(0, #by_id[11].descriptions)
    assert.equal(1, #by_id[12].descriptions)
    assert.equal(3, report.descriptions.dropped.length)
    by_id = select(2, run { resume = true, from = "gate", max_ratio = 0.9 })
    assert.equal(1, #by_id[11].descriptions)
    assert.equal(0, #by_id[12].descriptions)
    report, by_id = run { from = "gate", duplicates = false }
    assert.equal(2, #by_id[11].descriptions[1].chosen)          -- two forms: the third text repeats the first
    assert.equal(2, report.descriptions.dropped["pair of texts there already"])
    report = run({ overwrite = true }, nil, changed(function(_, r)
      if r.kind == "rewrite" then return { text = "1. One.\n2. Two.\n3. Three." } end
    end))
    assert.equal(6, report.descriptions.dropped["both texts the same"])
  end)

  it("also reject texts that leave out what is there, when asked", function()
    local report, by_id = run { omission = 1 }
    assert.equal(2, report.descriptions.omission)                -- a text of one sentence has nothing to leave out
    local found = 0
    for _, r in pairs(by_id) do
      for _, d in ipairs(r.descriptions) do
        for k = 1, d.source == "omission" and #d.chosen or 0 do
          found = found + 1
          assert.is_true(#sentences.split(d.rejected[k]) < #sentences.split(d.chosen[k]))
          for _, s in ipairs(sentences.split(d.rejected[k])) do assert.is_truthy(d.chosen[k]:find(s, 1, true)) end
        end
      end
    end
    assert.equal(6, found)
  end)

  it("leave out first what is made up elsewhere", function()
    local pictures = {}
    for i = 1, 20 do
      pictures[i] = { image_id = i, response = "There is a sun. There is a cloud.", objects = { thing("sun") } }
      pictures[20 + i] = { image_id = 20 + i, response = "There is a sun. There is a cloud.",
        objects = { thing("sun"), thing("cloud") } }
    end
    local _, by_id = run({ omission = 1, variants = 1 }, pictures)
    for i = 21, 40 do
      assert.equal("omission", by_id[i].descriptions[1].source)
      assert.same({ "There is a sun." }, by_id[i].descriptions[1].rejected)
    end
  end)

  it("leave out something else in each pair of a picture, and never everything", function()
    local list = { "There is a sun", "There is a cloud", "There is a car" }
    for count, per in pairs { [2] = { 2, 1 }, [9] = { 1, 3 } } do
      for id = 1, 10 do
        local versions = rewrite.shortened(list, count, { omit = per[1], image_id = id, seed = 3, counts = {} })
        local known = {}
        for _, v in ipairs(versions) do
          assert.equal(3 - per[1], #v)
          local text = sentences.join(v)
          assert.is_nil(known[text])
          known[text] = true
        end
        assert.equal(per[2], #versions, count)
      end
    end
    local made = 0
    for id = 1, 30 do
      made = made + #rewrite.drafts({ image_id = id, corrected = sentences.join(list), faults = 0 },
        { omission = 1.5, omit = 1, seed = 3, counts = {} })
    end
    assert.is_true(made > 30 and made < 60)
  end)

  it("are judged again, and stay behind while the judge finds fault", function()
    local stubborn = changed(function(reply, r)
      if r.kind == "correct" then
        return { text = reply.text:gsub("\nDescription:.*", "\nDescription:\nThere is a road. There is a car.") }
      end
    end)
    local report = run(nil, nil, stubborn)
    assert.equal(0, report.descriptions.corrected)
    assert.equal(9, report.descriptions.dropped["correction still wrong"])
    assert.equal(3, run({ overwrite = true, verify = "none" }, nil, stubborn).descriptions.corrected)
    local sloppy = changed(function(_, r)                     -- rewriting puts something in
      if r.kind == "rewrite" then
        local text = sentences.join(r.sentences)
        return { text = ("1. %s\n2. %s There is a dog.\n3. %s"):format(text, text, text) }
      end
    end)
    assert.equal(2 * 3, run({ overwrite = true }, nil, sloppy).descriptions.chosen_words.texts)
    local strict = run({ from = "gate", verify = "all" }, nil, sloppy)
    assert.equal(2 * 2, strict.descriptions.chosen_words.texts)
    assert.equal(2, strict.descriptions.dropped["correction still wrong"])
  end)

  it("are judged by what is annotated, whoever wrote it down", function()
    local run_of = { prompt = function() return dofile "recipes/prompts/correct.lua" end }
    local picture = { image_id = 1, objects = { thing("car", "red"), { name = "owl" }, { name = "owl" } }, regions = {}, facts = { "It rains." } }
    local request = asking.request(run_of, "correct", picture, { sentences = { "A" } })
    assert.is_truthy(request.text:find("\n[0.1, 0.1, 0.2, 0.2]: red car\n\nFacts:\nIt rains.\nThere is an owl.\n\nSentences", 1, true), request.text)
    assert.same({ {}, { "It rains." } }, { request.regions, request.facts })       -- judges by rules have the things themselves
    picture.regions = { { phrase = "a car", box = { 0, 0, 1, 1 } } }
    request = asking.request(run_of, "correct", picture, { sentences = { "A" } })
    assert.is_truthy(request.text:find(": a car\n\nFacts:\nIt rains.\n\nSentences", 1, true), request.text)
  end)

  it("are worded by the prompts in recipes/prompts, or by others", function()
    local seen = {}
    local watching = changed(function(_, r) seen[r.kind] = r.text end)
    run(nil, nil, watching)
    assert.is_truthy(seen.correct:find("Description:", 1, true))
    assert.is_truthy(seen.correct:find("\n1. T%a+ [%a ]+ red\n"))
    assert.is_truthy(seen.rewrite:find("3 times", 1, true))
    assert.is_truthy(seen.judge:find("Judgement:", 1, true))
    file.write(dir .. "/own.lua", "return function(r) return 'rewrite ' .. #r.sentences .. ' for me' end")
    run({ overwrite = true, prompt_rewrite = dir .. "/own.lua" }, nil, watching)
    assert.is_truthy(seen.rewrite:find("^rewrite %d for me$"))
  end)
end)

describe("a judge's loss", function()
  it("is counted by its reason, and leaves the picture out", function()
    local how = { [11] = { text = "I would rather not." }, [12] = { refused = "against the rules" }, [13] = { error = "no answer" },
      [14] = { cut = true, text = "Judgement:" } }
    local report, by_id = run(nil, nil, changed(function(_, r) return r.kind == "correct" and how[r.image_id] or nil end))
    assert.same({ unparsable = 1, refused = 1, ["the judge failed"] = 1, ["cut off"] = 1 }, report.stages.correct.left_out)
    assert.same({}, by_id)
    for _, r in ipairs(mining.lines(dir .. "/out", "3-correct")) do
      assert.equal(({ [11] = "I would rather not.", [12] = "against the rules", [13] = "no answer", [14] = "Judgement:" })[r.image_id],
        r.reply)
    end
    assert.same({}, json.read(dir .. "/out/desc_data.json"))
  end)

  it("is asked for again, a bounded number of times, each time as another request", function()
    local tries = {}
    local moody = changed(function(_, r)
      if r.kind ~= "correct" then return end
      tries[r.image_id] = (tries[r.image_id] or 0) + 1
      assert.equal(tries[r.image_id] > 1 and tries[r.image_id] or nil, r.sample)
      if r.image_id == 11 and tries[11] < 3 or r.image_id == 12 then return { text = "Well..." } end
    end)
    local report = run(nil, nil, moody)
    assert.same({ [11] = 3, [12] = 3, [13] = 1, [14] = 1 }, tries)
    assert.same({ unparsable = 1 }, report.stages.correct.left_out)
    assert.equal(4, report.stages.correct.asked_again)
    assert.equal(1, report.descriptions.corrected)
  end)

  it("is not asked for again where the judge has done so itself", function()
    local asked = 0
    local report = run(nil, nil, changed(function(_, r)
      assert.is_true(r.accept and not r.accept "what?")
      if r.kind ~= "correct" then return end
      asked = asked + 1
      return { text = "no", accepted = false, attempts = 3 }
    end))
    assert.equal(4, asked)
    assert.equal(8, report.stages.correct.asked_again)
  end)
end)

describe("replies", function()
  it("of a correction are labels and a text", function()
    local request = { sentences = { "a", "b" } }
    local text = "Judgement:\n1. correct: a\n2. hallucination: b\nDescription:\nA dog.\nA cat.\n"
    local found = asking.correction(text, request)
    assert.equal("hallucination", found.labels[2].label)
    assert.equal("A dog.\nA cat.", found.description)
    assert.is_nil(asking.correction("Description:\nA dog.", request))
    assert.is_nil(asking.correction("Judgement:\n1. correct: a\n2. correct: b", request))
    assert.is_nil(asking.correction(text, { sentences = { "a" } }))
    assert.is_nil(asking.correction(text:gsub("hallucination", "fiction"), request))
  end)

  it("of a rewriting are as many numbered lines as were asked for", function()
    assert.same({ "A dog.", "The dog." }, asking.versions("Here:\n1. A dog.\n\n2) The dog.\n", { variants = 2 }))
    assert.same({ "A dog." }, asking.versions("1. A dog.\n2. The dog.\n", { variants = 1 }))
    assert.is_nil(asking.versions("1. A dog.\n", { variants = 2 }))
  end)

  it("of a question carry both answers, the right one first", function()
    assert.same({ { question = "Is there a dog?", answer = "no", chosen = "No, there is no dog.", rejected = "Yes, there is a dog." } },
      asking.questions("Sure!\n1. Is there a dog? | No. | No, there is no dog. | Yes, there is a dog.\n"
        .. "2. Is there a cat? | yes | No. | Yes.\n3. Say something | yes | Yes. | No.\n"))
    assert.is_nil(asking.questions("1. Is there a dog?"))
  end)
end)

describe("questions", function()
  it("are about what is there and what most tempts to be seen", function()
    local counted = { { "car", "road" }, { "car", "road" }, { "sun", "cloud" }, { "dog", "ball" } }
    local i = 0
    local statistics = questions.statistics(function()
      i = i + 1
      return counted[i]
    end, mining.nouns)
    local how = { nouns = mining.nouns, present = 2, absent = 2, seed = 0 }
    local pictures = mining.pictures()
    local first = questions.of(pictures[1], { "road" }, statistics, how)
    assert.equal(3, #first)                              -- one thing is there
    assert.same({ question = "Is there a car in the image?", answer = "yes", chosen = "Yes, there is a car.",
      rejected = "No, there is no car." }, first[1])
    assert.same({ question = "Is there a road in the image?", answer = "no", chosen = "No, there is no road.",
      rejected = "Yes, there is a road." }, first[2])
    local second = questions.of(pictures[2], { "ball" }, statistics, how)
    assert.equal(4, #second)
    assert.equal("Is there a ball in the image?", second[3].question)      -- made up here
    assert.equal("Is there a cloud in the image?", second[4].question)     -- beside the sun elsewhere
  end)

  it("are marked when the model answers them right", function()
    local list = { { answer = "yes" }, { answer = "no" }, { answer = "no" } }
    check.mark(list, { "Yes, there is.", "Yes, there is.", "No." })
    assert.same({ true, false, true }, { list[1].correct, list[2].correct, list[3].correct })
    local report = run()
    assert.equal(report.questions.yes, report.questions.answered_right)      -- it says yes to everything
    assert.same({ yes = 0, no = report.questions.no }, report.questions.trained_on)
    report = run { overwrite = true, check = false }
    assert.equal(0, report.questions.answered_right)
    assert.is_nil(mining.lines(dir .. "/out", "6-check")[1].questions[1].reply)
  end)

  it("keep a balance of yes and no", function()
    local report = run { present = 0, absent = 2 }
    assert.equal(0, report.questions.yes)                                   -- nothing to balance with
    for balance, share in pairs { [0.5] = 0.5, [0.6] = 0.6 } do
      report = run { overwrite = true, present = 1, absent = 3, balance = balance }
      local q = report.questions
      assert.equal(3, q.yes)
      assert.equal(math.floor(3 * share / (1 - share) + 1e-9), q.no)
      assert.equal(12 - q.no, report.descriptions.dropped["too many of this answer"])
    end
  end)

  it("are each asked once", function()
    mining.write(dir, mining.pictures())
    run()
    local path = dir .. "/out/stages/5-questions.jsonl"
    local list = mining.lines(dir .. "/out", "5-questions")
    table.insert(list[1].questions, list[1].questions[1])
    local texts = {}
    for i, r in ipairs(list) do texts[i] = json.encode(r) .. "\n" end
    file.write(path, table.concat(texts))
    assert.equal(1, run { resume = true, from = "gate", duplicates = false }.descriptions.dropped["question asked already"])
  end)
end)

describe("what is mined", function()
  it("is the same for the same seed, and read by HA-DPO's reader", function()
    local function files()
      return file.read(dir .. "/out/desc_data.json") .. file.read(dir .. "/out/pope_data.json")
    end
    run { omission = 0.5 }
    local first = files()
    run { omission = 0.5, overwrite = true }
    assert.equal(first, files())
    run { omission = 0.5, overwrite = true, seed = 9 }
    assert.not_equal(first, files())
    for form, rejected in pairs { llava = "reject", minigpt4 = "reject", instructblip = "rejected" } do
      local _, by_id = run { from = "write", omission = 0.5, seed = 9, form = form }
      local asked, told = 0, 0
      for _, r in pairs(by_id) do asked = asked + #r.questions end
      for _, d in ipairs(hadpo.descriptions(dir .. "/out/desc_data.json")) do
        for _, list in ipairs(by_id[d.image_id].descriptions) do told = told + #list.chosen end
      end
      assert.is_true(told > 0)
      assert.equal(asked, #hadpo.questions(dir .. "/out/pope_data.json"))
      assert.is_truthy(json.read(dir .. "/out/pope_data.json")[1][rejected])
    end
  end)
end)

describe("pictures", function()
  local function source(counts)
    local ids = {}
    for id in pairs(counts) do ids[#ids + 1] = id end
    table.sort(ids)
    return { ids = ids, size = function(_, id) return counts[id][1], counts[id][2], dir end }
  end

  it("are chosen by how much is annotated, in an order of the seed", function()
    local counts = {}
    for i = 1, 30 do counts[i] = { i % 10, i } end
    local opt = { min_objects = 2, max_objects = 5, min_texts = 4, limit = 8, seed = 1 }
    local list, passed = select_stage.choose(source(counts), opt)
    assert.equal(8, #list)
    for _, id in ipairs(list) do assert.is_true(id % 10 >= 2 and id % 10 <= 5 and id >= 4) end
    assert.same({ ["too few objects"] = 6, ["too many objects"] = 12, ["too few texts"] = 2 }, passed)
    assert.same(list, (select_stage.choose(source(counts), opt)))
    opt.seed = 2
    assert.not_same(list, (select_stage.choose(source(counts), opt)))
  end)

  it("are measured by their texts where nobody counted things", function()
    local opt = { min_objects = 2, max_objects = 5, min_texts = 0, limit = 0, seed = 1 }
    assert.same({ 7 }, (select_stage.choose(source { [7] = { nil, 3 }, [8] = { nil, 1 } }, opt)))
  end)

  it("have to be there, unless those that are not may be left out", function()
    local pictures = mining.pictures()
    mining.write(dir, pictures)
    file.remove(dir .. "/12.png")
    local opt = mining.options(dir)
    local ok, reason = pcall(mine.run, opt, { model = mining.model(pictures), judge = mining.judge() })
    assert.is_false(ok)
    assert.is_truthy(reason:find("picture 12: there is no " .. dir .. "/12.png", 1, true), reason)
    opt.overwrite, opt.skip_bad, opt["skip-bad"] = true, true, true
    local report = mine.run(opt, { model = mining.model(pictures), judge = mining.judge() })
    assert.equal(1, report.selection.passed_over["no such file"])
    assert.equal(3, report.stages.select.records)
  end)

  it("that cannot be read are left out, too", function()
    local pictures = mining.pictures()
    mining.write(dir, pictures)
    require("lucid.image").save(require("lucid").zeros({ 4, 4, 3 }, { dtype = "u8" }), dir .. "/11.png")
    local model = mining.model(pictures)
    local generate = model.generate_all
    function model.generate_all(self, requests)
      for _, r in ipairs(requests) do
        if not r.image:find "11.png" then error(r.image .. ": this is no picture", 0) end
      end
      return generate(self, requests)
    end
    local opt = mining.options(dir)
    local ok, reason = pcall(mine.run, opt, { model = model, judge = mining.judge() })
    assert.is_false(ok)
    assert.is_truthy(reason:find("this is no picture", 1, true), reason)
    opt.overwrite, opt.skip_bad, opt["skip-bad"], opt.check = true, true, true, false
    assert.same({ ["unreadable picture"] = 3 }, mine.run(opt, { model = model, judge = mining.judge() }).stages.describe.left_out)
  end)

  it("come in an order that a gate file of another order is refused for", function()
    run()
    assert.is_nil(gate.surplus(dir .. "/out/stages/6-check.jsonl", { balance = 1, duplicates = true, seed = 1 }))
    local path = dir .. "/out/stages/6-check.jsonl"
    local first, rest = file.read(path):match "^(.-\n)(.*)$"
    file.write(path, rest .. first)
    local ok, reason = pcall(run, { resume = true })
    assert.is_false(ok)
    assert.is_truthy(reason:find("6-check.jsonl: picture", 1, true), reason)
  end)
end)
