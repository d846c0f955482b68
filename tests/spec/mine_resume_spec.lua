-- Mining that is cut off goes on to the bytes of the run that was not; what is edited between stages is taken up; what
-- speaks against going on is said. Many kills are in tests/slow/mine_spec.lua.
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local json = require "lucid.json"
local judge_server = require "tests.support.judge"
local lines = require "lucid.mine.lines"
local lucid = require "lucid"
local mine = require "lucid.mine"
local mining = require "tests.support.mining"
local program = require "tests.support.program"
local support = require "tests.support.folder"
local tiny = require "tests.support.tiny"
local talker = dofile "tests/support/talker.lua"

local dir, pictures
before_each(function()
  dir, pictures = support.folder(), {}
  for i = 1, 7 do
    pictures[i] = { image_id = i, objects = { mining.thing("car", "red"), mining.thing("sun", "red") },
      response = ("There is a car. There is a cloud. There is a %s."):format(i % 2 == 0 and "dog" or "sun") }
  end
  mining.write(dir, pictures)
end)
after_each(function() support.remove(dir) end)

-- A model and a judge that fail when together they have been called so often.
local function failing(after)
  local calls = 0
  local function count()
    calls = calls + 1
    if calls > after then error("cut off", 0) end
  end
  local model, judge = mining.model(pictures), talker.new()
  local generate = model.generate_all
  function model.generate_all(self, requests)
    count()
    return generate(self, requests)
  end
  return { model = model, judge = { ask = function(_, requests)
    count()
    return judge:ask(requests)
  end } }
end

local function own() return failing(math.huge) end

local function fails(part, ...)
  local ok, reason = pcall(...)
  assert.is_false(ok)
  assert.is_truthy(tostring(reason):find(part, 1, true), reason)
end

describe("a mining run", function()
  it("that is cut off after any call goes on to the same bytes, through a judge that talks", function()
    local how = { judge = "tests/support/talker.lua", omission = 1, questions = "judge", balance = 0.6, duplicates = false, verify = "all", judge_retries = 1 }
    how.out = dir .. "/whole"
    local report = mine.run(mining.options(dir, how), own())
    local expected = mining.files(how.out)
    assert.is_true(report.descriptions.corrected > 0 and report.descriptions.omission > 0 and report.questions.all > 0)
    local lost = 0
    for _, stage in pairs(report.stages) do lost = lost + stage.asked_again end
    assert.is_true(lost > 0)
    for calls = 0, 60, 2 do
      how.out = ("%s/%d"):format(dir, calls)
      how.resume = false
      local done, tries = false, 0
      while not done do
        tries = tries + 1
        done = pcall(mine.run, mining.options(dir, how), failing(tries == 1 and calls or tries == 2 and 3 or math.huge))
        assert.is_true(tries < 40)
        if not done then                                          -- what a cut write leaves behind
          for i, name in ipairs(mine.STAGES) do
            local path = ("%s/stages/%d-%s"):format(how.out, i, name)
            if file.exists(path .. ".json") and json.read(path .. ".json").state == "begun" and name ~= "write" then
              file.append(path .. ".jsonl", '{"image_id": 3, "resp', false)
            end
          end
        end
        how.resume = true
      end
      assert.same(expected, mining.files(how.out))
      if tries == 1 then break end
      support.remove(how.out)
    end
  end)

  it("does no stage twice, and stops and begins where it is told to", function()
    local all = own()
    assert.is_nil(mine.run(mining.options(dir, { ["until"] = "describe" }), all))
    assert.is_nil(file.kind(dir .. "/out/stages/3-correct.jsonl"))
    assert.equal(7, all.model.asked)
    mine.run(mining.options(dir, { resume = true, check = false }), all)
    assert.equal(7, all.model.asked)
    local before = mining.files(dir .. "/out")
    mine.run(mining.options(dir, { resume = true, check = false }), failing(0))
    assert.same(before, mining.files(dir .. "/out"))
    mine.run(mining.options(dir, { from = "describe", check = false }), all)
    assert.equal(14, all.model.asked)
    assert.same(before, mining.files(dir .. "/out"))
  end)

  it("is not gone on with by accident, or with other settings", function()
    mine.run(mining.options(dir), own())
    fails("holds a run already; --resume", mine.run, mining.options(dir), own())
    fails("stage select was made with other settings: --limit (0, now 3), --seed (8, now 9); give what it had", mine.run,
      mining.options(dir, { resume = true, seed = 9, limit = 3 }), own())
    fails("stage gate was made with other settings: --balance (1, now 0.7), --min-ratio (0, now 0.4); give what it had, or --from gate",
      mine.run, mining.options(dir, { resume = true, min_ratio = 0.4, balance = 0.7 }), own())
    assert.equal(1, json.read(dir .. "/out/config.json").options.balance)
    file.write(dir .. "/p.lua", "return function() return ('please '):rep(30) end")
    mine.run(mining.options(dir, { from = "correct", prompt_correct = dir .. "/p.lua" }), own())
    file.write(dir .. "/p.lua", "return function() return ('please, '):rep(30) end")
    fails("stage correct was made with other settings: the file of --prompt-correct", mine.run,
      mining.options(dir, { resume = true, prompt_correct = dir .. "/p.lua" }), own())
  end)

  it("is one program's at a time", function()
    file.mkdir(dir .. "/out")
    local held = file.lock(dir .. "/out/.lock")
    fails("out/.lock: another process works on it", mine.run, mining.options(dir), own())
    assert.is_nil(file.kind(dir .. "/out/stages"))
    file.unlock(held)
    fails("cut off", mine.run, mining.options(dir), failing(3))
    mine.run(mining.options(dir, { resume = true }), own())
  end)

  it("takes up what was edited, and makes what follows anew", function()
    mine.run(mining.options(dir), own())
    local path = dir .. "/out/stages/2-describe.jsonl"
    local kept = {}
    for r in lines.each(path) do
      if r.image_id ~= 5 then kept[#kept + 1] = r end               -- a picture that somebody takes out
      if r.image_id == 6 then r.response = "There is a ball. There is a car." end
    end
    file.write(path, "")
    lines.append(path, kept)
    local all = own()
    local report = mine.run(mining.options(dir, { resume = true, check = false, from = "check" }), all)
    assert.equal(0, all.model.asked)
    assert.equal(6, report.stages.correct.records)
    assert.equal(7, report.stages.select.records)
    for _, r in ipairs(mining.lines(dir .. "/out", "3-correct")) do
      if r.image_id == 6 and not r.left_out then assert.equal("There is a ball", r.sentences[1].text) end
    end
  end)

  it("names the line and the key where an edit spoilt something", function()
    mine.run(mining.options(dir), own())
    local function edited(stage, change)
      local list = mining.lines(dir .. "/out", stage)
      for _, r in ipairs(list) do
        if not r.left_out then
          change(r)
          break
        end
      end
      file.write(("%s/out/stages/%s.jsonl"):format(dir, stage), "")
      lines.append(("%s/out/stages/%s.jsonl"):format(dir, stage), list)
    end
    for stage, case in pairs {
      ["1-select"] = { "its 'image' is no text", function(r) r.image = 7 end },
      ["2-describe"] = { "has no 'response'", function(r) r.response = nil end },
      ["3-correct"] = { "sentence 1 has no 'label'", function(r) r.sentences[1].label = nil end },
      ["4-rewrite"] = { "pair 1 has no 'chosen'", function(r) r.pairs[1].chosen = nil end },
      ["5-questions"] = { "question 1: its 'answer' is neither yes nor no", function(r) r.questions[1].answer = "maybe" end },
      ["6-check"] = { "has no 'questions'", function(r) r.questions = nil end },
      ["7-gate"] = { "pair 1: its 'rejected' is an empty list", function(r) r.descriptions[1].rejected = json.array {} end },
    } do
      local path = ("%s/out/stages/%s.jsonl"):format(dir, stage)
      local before = file.read(path)
      edited(stage, case[2])
      fails(case[1], mine.run, mining.options(dir, { resume = true }), own())
      fails(stage .. ".jsonl: line ", mine.run, mining.options(dir, { resume = true }), own())
      file.write(path, before)
      mine.run(mining.options(dir, { resume = true }), own())
    end
    -- Bytes that a model may say are none of these.
    edited("2-describe", function(r) r.response = "There is a \0 car. There is a cloud. " .. r.response end)
    assert.is_truthy(mine.run(mining.options(dir, { resume = true, check = false, from = "check" }), own()))
    -- What somebody leaves out by hand is not counted as mined.
    local kept = mine.run(mining.options(dir, { resume = true, check = false }), own()).questions.all
    edited("7-gate", function(r) r.left_out = "by hand" end)
    assert.is_true(mine.run(mining.options(dir, { resume = true, check = false }), own()).questions.all < kept)
  end)

  it("says what is wrong with a stage that was edited before it was whole", function()
    local opt = mining.options(dir)
    fails("cut off", mine.run, opt, failing(6))           -- after four calls of the model and two of the judge
    local path = dir .. "/out/stages/3-correct.jsonl"
    local first, rest = file.read(path):match "^(.-\n)(.*)$"
    assert.is_true(#rest > 0)
    file.write(path, rest)
    fails("3-correct.jsonl: line 1 is of picture", mine.run, mining.options(dir, { resume = true }), own())
    file.write(path, first .. "{}\n")
    fails("line 2 has no 'image_id'", mine.run, mining.options(dir, { resume = true }), own())
    mine.run(mining.options(dir, { from = "correct" }), own())
  end)
end)

describe("a line", function()
  it("that is torn is cut off, and no other", function()
    local path = dir .. "/x.jsonl"
    for text, left in pairs { [""] = "", ["a"] = "", ["a\n"] = "a\n", ["a\nb"] = "a\n", ["\n\nb"] = "\n\n",
      ["a\n" .. ("b"):rep(200000)] = "a\n", [("b"):rep(200000)] = "", [("b"):rep(65536) .. "\nc"] = ("b"):rep(65536) .. "\n" } do
      file.write(path, text)
      lines.cut(path)
      assert.equal(left, file.read(path))
    end
  end)
end)

describe("lucid mine", function()
  it("that is killed goes on to the same bytes", function()
    tiny.model(dir .. "/model", 3)
    files.write { dir = dir .. "/world", split = "wild", seed = 3, count = 8, seen = 60 }
    local from = lucid.time()
    assert.same({ 0, "" }, { mining.run(dir, dir .. "/whole") })
    local took, killed = lucid.time() - from, 0
    for _, part in ipairs { 0.2, 0.5, 0.8, 0.95 } do      -- early too: the first run may have been slow
      local status = mining.run(dir, dir .. "/cut", "--resume", ("timeout -s KILL %.3f"):format(part * took))
      assert.is_true(status == 137 * 256 or status == 0)        -- timeout ends itself as it ended the program
      killed = killed + (status > 0 and 1 or 0)
    end
    assert.is_true(killed > 0)
    assert.same({ 0, "" }, { mining.run(dir, dir .. "/cut", "--resume") })
    assert.same(mining.files(dir .. "/whole"), mining.files(dir .. "/cut"))
    assert.is_true(#json.read(dir .. "/cut/pope_data.json") > 4)
  end)

  it("fails when nothing is left to train on, and says where it went", function()
    tiny.model(dir .. "/model", 3)
    files.write { dir = dir .. "/world", split = "wild", seed = 3, count = 3, seen = 60 }
    file.write(dir .. "/dumb.lua", [[
      local Judge = {}
      function Judge.new() return Judge end
      function Judge.ask(_, requests)
        local replies = {}
        for i in ipairs(requests) do replies[i] = { text = "Hm." } end
        return replies
      end
      return Judge]])
    for _, more in ipairs { "", "--resume" } do
      local status = os.execute(("%s mine --model %s/model --images %s/world --out %s/none --judge %s/dumb.lua --max-new-tokens 9 --cache none"
        .. " --quiet %s 2>%s/stderr"):format(program, dir, dir, dir, dir, more, dir))
      assert.equal(256, status)
      local said = file.read(dir .. "/stderr")
      assert.is_truthy(said:find("^lucid: [^\n]*/none: nothing was mined from 3 pictures: correct left out 3 unparsable; [^\n]*\n$"), said)
      assert.equal(3, json.read(dir .. "/none/report.json").stages.correct.left_out.unparsable)
    end
  end)

  it("says what its judge counted and what it cost", function()
    if judge_server.missing() then return pending(judge_server.missing()) end
    tiny.model(dir .. "/model", 3)
    files.write { dir = dir .. "/world", split = "wild", seed = 3, count = 3, seen = 60 }
    local server = judge_server.start()
    local status = os.execute(("%s mine --model %s/model --images %s/world --out %s/asked --judge openai --judge-model gpt-4 --base-url %s"
      .. " --judge-retries 1 --max-new-tokens 9 --cache none 2>%s/stderr"):format(program, dir, dir, dir, server.url, dir))
    local asked, said = server:asked(), file.read(dir .. "/stderr")
    server:stop()
    assert.same({ 256, 6 }, { status, asked })                   -- its one line is no correction
    assert.is_truthy(said:find "mine: the judge, in this run: 3 asked_again, 0 faults, 3 requests, 6 sent, 3 unreadable\n", said)
    assert.is_truthy(said:find "mine: the judge, in all: %$0%.%d+ for %d+ prompt and 120 answer tokens\n", said)
    assert.is_truthy(said:find "correct left out 3 unparsable", said)
  end)

  it("sees an adapter that was trained anew", function()
    local base = lucid.model(require("lucid.native").root .. "tests/golden/llava_tiny/classic")
    base:lora { rank = 2, alpha = 2 }
    base:save_adapter(dir .. "/adapter")
    mine.run(mining.options(dir, { adapter = dir .. "/adapter" }), own())
    file.append(dir .. "/adapter/adapter_config.json", " ", false)
    fails("stage describe was made with other settings: the files of --adapter; give what it had", mine.run,
      mining.options(dir, { adapter = dir .. "/adapter", resume = true }), own())
  end)

  it("refuses what its options cannot mean in one line", function()
    local common = ("mine --model %s --images %s --annotations %s/things.jsonl --out %s/out "):format(dir, dir, dir, dir)
    for words, part in pairs {
      ["--from there"] = "--from: 'there' is none of select, describe",
      ["--until there"] = "--until: 'there' is none of",
      ["--from gate --until correct"] = "--until is before --from",
      ["--overwrite --resume"] = "--overwrite excludes",
      ["--questions judge"] = "--questions judge: the annotation judge writes none",
      ["--captions x.json"] = "--captions: only COCO's annotations",
      ["--min-ratio 3"] = "--min-ratio is above --max-ratio",
    } do
      local pipe = io.popen(("%s %s %s 2>&1; echo status $?"):format(program, common, words))
      local said = pipe:read "*a"
      pipe:close()
      assert.is_truthy(said:find(part, 1, true), said)
      assert.is_truthy(said:find("status 2\n$"), said)
      assert.is_nil(file.kind(dir .. "/out"))
    end
  end)
end)
