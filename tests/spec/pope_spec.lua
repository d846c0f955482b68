-- POPE: the benchmark's reading of answers, its numbers, and its rule of sampling questions.
local data = require "lucid.data.pope"
local file = require "lucid.file"
local json = require "lucid.json"
local pope = require "lucid.metric.pope"
local support = require "tests.support.folder"

local DATA = "../shared/data/pope"

describe("an answer", function()
  it("is read as the benchmark reads it", function()
    local readings = {
      [""] = "yes", ["No"] = "no", ["NO"] = "yes", ["No</s>"] = "yes", ["no\n"] = "yes", ["No, there is none."] = "no",
      ["There is not a cat. Yes."] = "no", ["Yes. No."] = "yes", ["There isn't one"] = "yes", ["No;"] = "yes",
      ["There's no cat"] = "no", ["Nothing"] = "yes", ["Well,no"] = "yes", ["a  no"] = "no",
    }
    for answer, expected in pairs(readings) do assert.equal(expected, pope.official(answer), answer) end
  end)

  it("is read strictly where it is clear", function()
    local readings = {
      ["Yes."] = "yes", ["no</s>"] = "no", ["NO"] = "no", ["There isn't one"] = "no", ["There is no cat."] = "no",
      ["I would say yes"] = "yes", ["Yes, there is no doubt."] = "yes",
    }
    for answer, expected in pairs(readings) do assert.equal(expected, pope.strict(answer), answer) end
    for _, answer in ipairs { "", "A cat.", "It says yes and no", "It is a cat. No." } do assert.is_nil(pope.strict(answer), answer) end
  end)
end)

-- Whether a text may still be read otherwise, told by what is decided of its beginnings.
describe("an answer that grows", function()
  local rng = require "lucid.rng"(5, "pieces")
  local PIECES = { "No", "no", "not", " no", " No", " not", ",", ",", " ", ".", " there", " is", "Yes", " yes", "\n", "n't", " cat", "'s",
    "thing", "N", "o", ";", "</s>", "<", "\195\169", "NO", "nope", " " }

  local function trim(text) return text:match("^%s*(.-)%s*$") end

  it("is decided only where no ending changes either reading", function()
    local decided, early = 0, 0
    for _ = 1, 20000 do
      local pieces = {}
      for k = 1, rng:integer(9) do pieces[k] = rng:pick(PIECES) end
      local whole = table.concat(pieces)
      for k = 1, #pieces do
        local text = table.concat(pieces, "", 1, k)
        if pope.decided(text) then
          decided = decided + 1
          if not text:find(".", 1, true) then early = early + 1 end
          for _, ended in ipairs { trim(whole), trim(whole .. "</s>") } do
            assert.equal(pope.official(ended), pope.official(trim(text)), ("%q of %q"):format(text, ended))
            assert.equal(pope.strict(ended), pope.strict(trim(text)), ("%q of %q"):format(text, ended))
          end
          break
        end
      end
    end
    assert.is_true(decided > 3000 and early > 200, decided .. " " .. early)
  end)

  it("is decided as soon as it can be", function()
    for text, expected in pairs { ["No"] = false, ["No,"] = false, ["No, "] = true, ["No, there"] = true, ["No."] = true,
      ["Yes, there is a"] = false, ["Yes."] = true, ["There is no"] = false, ["There is no cat"] = false,
      ["There is no cat."] = true, ["Yes, there is no doubt"] = true, [""] = false } do
      assert.equal(expected, pope.decided(text), text)
    end
  end)
end)

-- Records with given counts, each picture its own.
local function records(tp, fp, tn, fn)
  local list = {}
  local function add(n, answer, label)
    for _ = 1, n do list[#list + 1] = { answer = answer, label = label, image = #list } end
  end
  add(tp, "Yes.", "yes")
  add(fp, "Yes.", "no")
  add(tn, "No.", "no")
  add(fn, "No.", "Yes")
  return list
end

describe("the score", function()
  it("gives the published table's numbers for its counts", function()
    -- LLaVA-1.5 on the adversarial set, with HA-DPO: 81.46 77.99 87.66 82.54 56.20 (cut, not
    -- rounded)
    local m = pope.score(records(1315, 371, 1129, 185))
    local expected = { accuracy = 81.46, precision = 77.99, recall = 87.66, f1 = 82.54, yes_ratio = 56.20 }
    for name, value in pairs(expected) do
      assert.equal(value, math.floor(m[name].value * 1e4 + 1e-6) / 100, name)
      assert.equal(3000, m[name].n)
    end
    assert.equal(1315, m.tp.value)
    assert.equal(371, m.fp.value)
    assert.equal(1129, m.tn.value)
    assert.equal(185, m.fn.value)
    assert.equal(m.accuracy.value, m.strict_accuracy.value)
    assert.equal(0, m.unclear.value)
  end)

  it("has the binomial error where every question has its own picture", function()
    local m = pope.score(records(30, 10, 50, 10))
    assert.is_near(math.sqrt(0.8 * 0.2 / 99), m.accuracy.stderr, 1e-12)
  end)

  it("counts pictures, not questions, in its error", function()
    local apart, together = records(30, 10, 50, 10), records(30, 10, 50, 10)
    -- The same answers four times over: no new knowledge where they are the same pictures.
    local four = {}
    for i = 1, 4 do
      for k, r in ipairs(together) do four[#four + 1] = { answer = r.answer, label = r.label, image = k, i = i } end
    end
    local one, many = pope.score(apart), pope.score(four)
    for _, name in ipairs { "accuracy", "precision", "recall", "f1", "yes_ratio" } do
      assert.is_near(one[name].value, many[name].value, 1e-12)
      assert.is_near(one[name].stderr, many[name].stderr, 1e-12)
    end
  end)

  it("is 0 and flagged where there is nothing to divide by", function()
    local m = pope.score { { answer = "No.", label = "no", image = 1 } }
    assert.equal(0, m.precision.value)
    assert.is_true(m.precision.undefined)
    assert.equal(1, m.accuracy.value)
  end)

  it("takes unclear answers as wrong under the strict names", function()
    local m = pope.score { { answer = "A cat.", label = "yes" }, { answer = "A cat.", label = "no" }, { answer = "No.", label = "no" } }
    assert.equal(2 / 3, m.accuracy.value == 2 / 3 and m.accuracy.value)
    assert.is_near(1 / 3, m.strict_accuracy.value, 1e-12)
    assert.equal(0, m.strict_yes_ratio.value)
    assert.equal(2, m.unclear.value)
  end)

  it("flags F1 where the benchmark would divide by 0", function()
    local m = pope.score { { answer = "No.", label = "yes" }, { answer = "Yes.", label = "no" } }
    assert.same({ 0, 0, 0 }, { m.precision.value, m.recall.value, m.f1.value })
    assert.same({ nil, nil, true }, { m.precision.undefined, m.recall.undefined, m.f1.undefined })
  end)

  it("has intervals that depend on the seed alone, and cover what they should", function()
    local list = records(30, 10, 50, 10)
    assert.is_nil(pope.score(list).accuracy.low)
    local m = pope.score(list, { bootstrap = 2000, seed = 3 })
    assert.same(m, pope.score(list, { bootstrap = 2000, seed = 3 }))
    assert.not_same(m, pope.score(list, { bootstrap = 2000, seed = 4 }))
    for _, name in ipairs { "accuracy", "precision", "recall", "f1", "yes_ratio", "strict_accuracy" } do
      -- Of 100 pictures the percentiles are where the normal ones are, nearly.
      assert.is_near(m[name].value - 1.96 * m[name].stderr, m[name].low, 0.03)
      assert.is_near(m[name].value + 1.96 * m[name].stderr, m[name].high, 0.03)
    end
    assert.is_nil(m.tp.low)
    -- One picture: whatever is drawn is the same.
    for _, r in ipairs(list) do r.image = "one" end
    m = pope.score(list, { bootstrap = 50, seed = 3 })
    assert.same({ 0.8, 0.8, 0.8 }, { m.accuracy.low, m.accuracy.value, m.accuracy.high })
  end)

  it("refuses a record without an answer", function()
    assert.has_error(function() pope.score { { label = "yes" } } end)
  end)
end)

describe("two runs", function()
  local statistics = require "lucid.statistics"

  it("are told apart by McNemar's test: exact where few answers differ, else by chi-square", function()
    for _, case in ipairs { { 10, 2, 158 / 4096, "exact" }, { 2, 10, 158 / 4096, "exact" }, { 0, 0, 1, "exact" },
      { 6, 6, 1, "exact" }, { 0, 24, 2 ^ -23, "exact" }, { 40, 20, 0.01417138825401233, "chi-square" },
      { 30, 28, 0.8955329031670437, "chi-square" }, { 13, 12, 1, "chi-square" },
      { 200, 20, 1.5554081536469667e-33, "chi-square" } } do
      local p, test = statistics.mcnemar(case[1], case[2])
      assert.is_near(1, p / case[3], 1e-10)
      assert.equal(case[4], test)
    end
  end)

  it("are compared answer by answer, by picture, in both readings", function()
    local list = {}
    local function add(image, answer, earlier, label) list[#list + 1] = { image = image, answer = answer, earlier = earlier, label = label } end
    add("a", "Yes.", "No.", "yes")         -- better
    add("a", "NO", "No.", "no")            -- officially worse, strictly the same
    add("b", "No.", "Yes.", "no")          -- better
    add("b", "No.", "No.", "no")
    add("c", "Yes.", nil, "yes")           -- nothing to compare with
    local m = pope.compare(list, { bootstrap = 200, seed = 1 })
    assert.same({ 2, 1, 0.25, 4, 1 }, { m.compare_better.value, m.compare_worse.value, m.compare_accuracy.value,
      m.compare_accuracy.n, m.compare_unmatched.value })
    assert.same({ 2, 0, 0.5 }, { m.strict_compare_better.value, m.strict_compare_worse.value, m.strict_compare_accuracy.value })
    assert.same({ 1, 3, "exact" }, { m.compare_p.value, m.compare_p.n, m.compare_p.test })
    -- Pictures a and b gain 0 and 1 of two questions: residuals -0.5 and 0.5, twice their squares, over 4.
    assert.is_near(math.sqrt(2 * 0.5) / 4, m.compare_accuracy.stderr, 1e-12)
    assert.same({ 0, 0.5 }, { m.compare_accuracy.low, m.compare_accuracy.high })
  end)
end)

describe("question files", function()
  local dir = support.folder()
  teardown(function() support.remove(dir) end)

  it("may be lines, an array or values one after another, with labels in any case", function()
    local one = '{"question_id": 0, "image": "a.jpg", "text": "Is there a cat?", "label": "Yes"}'
    local two = '{"question_id": 1, "image": "b.jpg", "text": "Is there a dog?", "label": "NO"}'
    for _, text in ipairs { one .. "\n" .. two .. "\n", "[" .. one .. "," .. two .. "]", one .. two } do
      file.write(dir .. "/q.json", text)
      local list = data.read(dir .. "/q.json")
      assert.equal(2, #list)
      assert.equal(0, list[1].question_id)
      assert.equal("yes", list[1].label)
      assert.equal("no", list[2].label)
    end
  end)

  it("may have one row, ids of any kind, none, or the same ones again, and no end of rows", function()
    local row = '"image": "a.jpg", "text": "q", "label": " nO "}'
    file.write(dir .. "/q.json", '{"question_id": 7, ' .. row)
    assert.same({ { question_id = 7, image = "a.jpg", text = "q", label = "no" } }, data.read(dir .. "/q.json"))
    file.write(dir .. "/q.json", ('{"question_id": "7", %s {"question_id": "b-1", %s\n{%s {"question_id": 7, %s'):format(row, row, row, row))
    local ids = {}
    for i, q in ipairs(data.read(dir .. "/q.json")) do ids[i] = q.question_id end
    assert.same({ 7, "b-1", 3, 7 }, ids)
    local lines = {}
    for i = 1, 7000 do lines[i] = ('{"question_id": %d, %s'):format(i - 1, row) end
    file.write(dir .. "/q.json", table.concat(lines, "\n"))
    assert.equal(7000, #data.read(dir .. "/q.json"))
  end)

  it("need no pictures where the answers are there", function()
    file.write(dir .. "/q.json", '[{"text": "q", "label": "no"}]')
    assert.is_nil(data.read(dir .. "/q.json", { answered = true })[1].image)
    assert.has_error(function() data.read(dir .. "/q.json") end, dir .. "/q.json: question 1 has no 'image'")
  end)

  it("are refused by question", function()
    local fine = '{"image": "a.jpg", "text": "q", "label": "no"}\n'
    file.write(dir .. "/q.json", fine .. '{"image": "a.jpg", "text": "q", "label": "maybe"}\n')
    assert.has_error(function() data.read(dir .. "/q.json") end,
      dir .. "/q.json: question 2: its 'label' is 'maybe'; yes and no are possible")
    file.write(dir .. "/q.json", fine .. '{"image": "a.jpg", "label": "no"}\n')
    assert.has_error(function() data.read(dir .. "/q.json") end, dir .. "/q.json: question 2 has no 'text'")
  end)

  it("of the benchmark are read and written back", function()
    for _, set in ipairs(data.SETS) do
      local path = ("%s/coco_head/coco_pope_%s.json"):format(DATA, set)
      if not file.exists(path) then return pending("no ../shared/data") end
      local list, yes = data.read(path), 0
      assert.equal(3000, #list)
      for _, q in ipairs(list) do yes = yes + (q.label == "yes" and 1 or 0) end
      assert.equal(1500, yes)
      file.write(dir .. "/again.json", data.lines(list))
      assert.same(list, data.read(dir .. "/again.json"))
      assert.equal(file.read(path):match("^[^\r\n]*"), file.read(dir .. "/again.json"):match("^[^\n]*"))
    end
  end)
end)

-- ---- answer files ---------------------------------------------------------------------------------

describe("answer files", function()
  local dir = support.folder()
  teardown(function() support.remove(dir) end)

  -- The answers that questions of these ids get, what is left over, and whether the lines are others.
  local function given(ids, text)
    file.write(dir .. "/a.json", text)
    local questions = {}
    for i, id in ipairs(ids) do questions[i] = { question_id = id } end
    local unused, moved = data.answers(dir .. "/a.json", questions)
    for i, q in ipairs(questions) do questions[i] = q.answer end
    return table.concat(questions, " "), unused, moved
  end

  it("are matched line by line, as the benchmark does, where ids do not say otherwise", function()
    assert.same({ "x y", 0, false }, { given({ 1, 2 }, '{"answer": "x"}\n{"answer": "y"}') })
    assert.same({ "x y", 0, false }, { given({ 1, 2 }, '[{"text": "x", "prompt": "q"}, {"answer": "y"}]') })
    assert.same({ "x y", 0, false }, { given({ "a", 2 }, '{"question_id": "a", "answer": "x"}{"question_id": "2", "answer": "y"}') })
    assert.same({ "x y z", 0, false }, { given({ 1, 1, 1 },
      '{"question_id": 1, "answer": "x"}\n{"question_id": 1, "answer": "y"}\n{"question_id": 1, "answer": "z"}') })
    assert.same({ "x y", 0, false }, { given({ 1, 2 }, '{"question_id": 0, "answer": "x"}\n{"question_id": 1, "answer": "y"}') })
    assert.same({ "x", 1, false }, { given({ 1 }, '{"question_id": 1, "answer": "x"}\n{"question_id": 2, "answer": "y"}') })
    assert.same({ "x", 0, false }, { given({ 1 }, '{"question_id": 1, "answer": "x"}') })
  end)

  it("are matched by id where the lines are others", function()
    assert.same({ "y x", 0, true }, { given({ 1, 2 }, '{"question_id": 2, "answer": "x"}\n{"question_id": 1, "answer": "y"}') })
    assert.same({ "y", 1, true }, { given({ 2 }, '{"question_id": 1, "answer": "x"}\n{"question_id": 2, "answer": "y"}') })
    assert.error_matches(function()
      given({ 3, 4 }, '{"question_id": 1, "answer": "x"}\n{"question_id": 4, "answer": "y"}')
    end, "a.json: there is no answer to question 3")
    assert.error_matches(function()
      given({ 1, 2 }, '{"question_id": 2, "answer": "x"}\n{"question_id": 2, "answer": "y"}')
    end, "record 2: its 'question_id' is that of record 1, too: 2")
  end)

  it("need an answer to every question", function()
    assert.error_matches(function() given({ 1, 2 }, '{"answer": "x"}') end, "a.json: there is no answer to question 2")
    assert.error_matches(function() given({ 1 }, "") end, "a.json: there is no answer to question 1")
  end)
end)

-- ---- the rule of sampling -------------------------------------------------------------------------

local function name_in(text) return text:match("^Is there an? (.-) in the image%?$") end

describe("sampling", function()
  local pictures = {}
  for i = 1, 60 do
    local names = {}
    for k = 1, 16 do
      if (i * 7 + k * k * 3 + math.floor(i / k)) % 5 < 2 then names[#names + 1] = "thing" .. string.char(96 + k) end
    end
    pictures[i] = { image = i .. ".jpg", names = names }
  end
  local frequent = data.frequencies(pictures)
  local together = data.cooccurrence(pictures)

  local function each_picture(set, check)
    local list, passed = data.sample(pictures, { set = set, seed = 4 })
    local by_image, n = {}, 0
    for _, q in ipairs(list) do
      if not by_image[q.image] then by_image[q.image], n = {}, n + 1 end
      table.insert(by_image[q.image], q)
    end
    assert.equal(#pictures, n + passed)
    for _, p in ipairs(pictures) do
      if by_image[p.image] then check(p, by_image[p.image]) end
    end
  end

  it("asks for three things that are there and three that are not, in turn, none twice", function()
    for _, set in ipairs(data.SETS) do
      each_picture(set, function(p, questions)
        assert.equal(6, #questions)
        local there, asked = {}, {}
        for _, name in ipairs(p.names) do there[name] = true end
        for i, q in ipairs(questions) do
          local name = name_in(q.text)
          assert.equal(i % 2 == 1 and "yes" or "no", q.label)
          assert.equal(q.label == "yes", there[name] or false)
          assert.is_nil(asked[name])
          asked[name] = true
        end
      end)
    end
  end)

  it("asks for the same present things in all sets", function()
    local first = data.sample(pictures, { set = "random", seed = 4 })
    for _, set in ipairs(data.SETS) do
      for i, q in ipairs((data.sample(pictures, { set = set, seed = 4 }))) do
        if i % 2 == 1 then assert.equal(first[i].text, q.text) end
      end
    end
  end)

  it("takes the most frequent absent things for popular", function()
    each_picture("popular", function(p, questions)
      local there, expected = {}, {}
      for _, name in ipairs(p.names) do there[name] = true end
      for _, name in ipairs(frequent) do
        if not there[name] and #expected < 3 then expected[#expected + 1] = name end
      end
      for k = 1, 3 do assert.equal(expected[k], name_in(questions[2 * k].text)) end
    end)
  end)

  it("takes what occurs most with the thing just asked for for adversarial", function()
    each_picture("adversarial", function(p, questions)
      local taken = {}
      for _, name in ipairs(p.names) do taken[name] = true end
      for k = 1, 3 do
        local asked, expected = name_in(questions[2 * k - 1].text), nil
        for _, name in ipairs(together[asked]) do
          if not taken[name] and not expected then expected = name end
        end
        if expected then assert.equal(expected, name_in(questions[2 * k].text)) end
        taken[name_in(questions[2 * k].text)] = true
      end
    end)
  end)

  -- The official files were drawn from annotations that are not in them, so of a picture only what
  -- is asked is known to be there or not; every step that this decides must go by the rule.
  it("is the rule of the official files, as far as they tell", function()
    if not file.exists(DATA .. "/coco_head/coco_pope_random.json") then return pending("no ../shared/data") end
    local official, absent = {}, {}
    for _, set in ipairs(data.SETS) do
      official[set] = data.read(("%s/coco_head/coco_pope_%s.json"):format(DATA, set))
      for _, q in ipairs(official[set]) do
        absent[q.image] = absent[q.image] or {}
        if q.label == "no" then absent[q.image][name_in(q.text)] = true end
      end
    end
    local lists = json.read(DATA .. "/coco_co_occur.json")
    -- Equal counts keep the file's order, which a table of them would lose.
    local ranked, counts, place = {}, {}, {}
    for name, count in file.read(DATA .. "/coco_ground_truth_objects.json"):gmatch('"([^"]+)": (%d+)') do
      ranked[#ranked + 1] = name
      counts[name], place[name] = tonumber(count), #ranked
    end
    table.sort(ranked, function(a, b)
      if counts[a] ~= counts[b] then return counts[a] > counts[b] end
      return place[a] < place[b]
    end)

    -- Rows where an earlier candidate of the list is known to be absent and was not used yet.
    local function violations(list, candidates)
      local broken, used, last = 0, nil, nil
      for i, q in ipairs(list) do
        if q.image ~= last then used, last = {}, q.image end
        if q.label == "no" then
          local name = name_in(q.text)
          local position
          for k, candidate in ipairs(candidates(name_in(list[i - 1].text))) do
            if candidate == name then
              position = k
              break
            elseif absent[q.image][candidate] and not used[candidate] then
              break
            end
          end
          if not position then broken = broken + 1 end
          used[name] = true
        end
      end
      return broken
    end
    local top = {}
    for i = 1, 10 do top[i] = ranked[i] end
    assert.is_true(violations(official.popular, function() return top end) <= 3)
    assert.is_true(violations(official.adversarial, function(asked) return lists[asked] end) <= 3)
    -- The check can fail: random questions do not follow it.
    assert.is_true(violations(official.random, function() return top end) > 500)
  end)
end)
