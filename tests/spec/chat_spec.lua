-- Conversations: each turn is what a run from the beginning would say, though only what is new runs; and lucid chat
-- and lucid describe from outside.
local lucid = require "lucid"
local file = require "lucid.file"
local json = require "lucid.json"
local folder = require "tests.support.folder"
local terminal = require "tests.support.terminal"
local tiny = require "tests.support.tiny"

local BIN = os.getenv("LUCID_BIN") or "bin/lucid"
local QUESTIONS = { "Is there a car in the image?", "And a dog?", "What is red?" }
local dir, m, pictures

setup(function()
  dir = folder.folder()
  m = tiny.model(dir, 3)
  pictures = tiny.pictures(dir, 3)
end)
teardown(function() folder.remove(dir) end)

-- The ids of an answer as a conversation keeps them.
local function keep(ids, answer)
  for _, id in ipairs(answer.ids) do ids[#ids + 1] = id end
  ids[#ids + 1] = m.tokenizer.eos
  return ids
end

describe("a conversation", function()
  -- The same turns, every one run from the beginning.
  local function from_the_beginning(image, opt)
    local list, ids = {}, nil
    for i, question in ipairs(QUESTIONS) do
      ids = i == 1 and m.template:tokens(m.tokenizer, question, { image = image ~= nil })
        or m.template:continue(m.tokenizer, ids, question)
      local request = { ids = ids, image = image }
      for name, value in pairs(opt) do request[name] = value end
      local _, answer = m:generate(request)
      list[i], ids = answer.ids, keep({ unpack(ids) }, answer)
    end
    return list
  end

  local function turns(chat)
    local list = {}
    for i, question in ipairs(QUESTIONS) do
      local _, answer = chat:ask(question)
      list[i] = answer.ids
    end
    return list
  end

  for name, opt in pairs {
    greedy = { max_new_tokens = 9 }, ["of one token a turn"] = { max_new_tokens = 1 },
    ["under a penalty"] = { max_new_tokens = 9, repetition_penalty = 1.7 },
    ["whose penalty counts no prompt"] = { max_new_tokens = 9, repetition_penalty = 1.7, counted = "bos" },
    ["of least lengths"] = { max_new_tokens = 9, min_new_tokens = 9 },
  } do
    it("says what runs from the beginning say: " .. name, function()
      local chat = lucid.chat(m, opt)
      assert.same(from_the_beginning(nil, opt), turns(chat))
      chat:show(pictures[1])
      assert.same(from_the_beginning(pictures[1], opt), turns(chat))
    end)
  end

  it("goes on behind answers that end by themselves", function()
    local ended = 0
    local own = lucid.model(dir)
    for _, p in ipairs(own:all_parameters()) do
      if p.name:find("lm_head.weight", 1, true) then
        p.tensor:copy(p.tensor * 4)
        local row = p.tensor:slice(1, m.tokenizer.eos + 1, m.tokenizer.eos + 1)
        row:copy(row * 4)
      end
    end
    local chat, ids = lucid.chat(own, { max_new_tokens = 40 }), nil
    for turn = 1, 6 do
      local question = QUESTIONS[turn % 3 + 1]
      ids = ids and own.template:continue(own.tokenizer, ids, question)
        or own.template:tokens(own.tokenizer, question, { image = false })
      local _, alone = own:generate { ids = ids, max_new_tokens = 40 }
      local _, answer = chat:ask(question)
      assert.same(alone.ids, answer.ids)
      assert.equal(alone.reason, answer.reason)
      ended = ended + (answer.reason == "eos" and 1 or 0)
      ids = keep({ unpack(ids) }, answer)
    end
    assert.is_true(ended > 1, ended .. " answers ended")
  end)

  it("runs only what is new", function()
    local chat = lucid.chat(m, { max_new_tokens = 4 })
    chat:ask(QUESTIONS[1])
    local g = chat.path.g
    chat:ask(QUESTIONS[2])
    assert.is_true(g ~= nil and rawequal(g, chat.path.g))
    chat:reset()
    chat:ask(QUESTIONS[3])
    assert.is_false(rawequal(g, chat.path.g))          -- a new one may stand at the old one's address
  end)

  it("is forgotten by reset, and by another picture", function()
    local chat = lucid.chat(m, { max_new_tokens = 6 })
    local first = turns(chat)
    chat:reset()
    assert.same(first, turns(chat))
    chat:show(pictures[2])
    assert.same(from_the_beginning(pictures[2], { max_new_tokens = 6 }), turns(chat))
  end)

  it("tells the text as it grows", function()
    local chat, told = lucid.chat(m, { max_new_tokens = 8 }), {}
    local text = chat:ask(QUESTIONS[1], function(piece) told[#told + 1] = piece end)
    assert.equal(text, table.concat(told))
    assert.is_true(#told > 1)
  end)

  it("that outgrows the model's positions says so, and goes on after a reset", function()
    local chat, reason = lucid.chat(m, { max_new_tokens = 200 }), nil
    for _ = 1, 60 do
      local worked
      worked, reason = pcall(chat.ask, chat, QUESTIONS[1])
      if not worked then break end
      reason = nil
    end
    assert.truthy(tostring(reason):find("positions", 1, true))
    chat:reset()
    assert.is_string((chat:ask(QUESTIONS[1])))
  end)

  it("refuses a search", function()
    assert.error_matches(function() lucid.chat(m, { beams = 3 }) end, "one answer at a time, without beams")
  end)
end)

-- Runs the executable: status, stdout, stderr.
local function run(words, input)
  file.write(dir .. "/in", input or "")
  local status = os.execute(("%s %s <%s/in >%s/out 2>%s/err"):format(BIN, words, dir, dir, dir))
  return status, file.read(dir .. "/out"), file.read(dir .. "/err")
end

describe("lucid chat", function()
  local function chat(input, more)
    return run(("chat --model %s --max-new-tokens 5 %s"):format(dir, more or ""), input)
  end

  it("answers line by line and ends with the input", function()
    local asked = lucid.chat(m, { max_new_tokens = 5, seed = 42 })
    asked:show(pictures[1])
    local want = {}
    for i, question in ipairs(QUESTIONS) do want[i] = asked:ask(question) .. "\n" end
    local status, out, err = chat(table.concat(QUESTIONS, "\n\n"), "--image " .. pictures[1])
    assert.same({ 0, table.concat(want), "" }, { status, out, err })
  end)

  it("obeys its commands", function()
    local q = QUESTIONS[1]
    local _, twice = chat(("%s\n/reset\n %s \n"):format(q, q))
    local half = twice:sub(1, #twice / 2)
    assert.equal(half .. half, twice)
    local _, shown = chat(("/image %s\n%s\n"):format(pictures[1], q))
    local _, given = chat(q, "--image " .. pictures[1])
    assert.equal(given, shown)
    local status, out = chat(q .. "\n/quit\n" .. q .. "\n")
    assert.same({ 0, half }, { status, out })
  end)

  it("goes on after bad input, with a line for each", function()
    file.write(dir .. "/broken.png", "no picture")
    local status, out, err = chat(("/nope\n/image\n/image %s/none.png\n/image %s/broken.png\n%s\n"):format(dir, dir, QUESTIONS[1]))
    assert.equal(0, status)
    assert.equal(select(2, chat(QUESTIONS[1])), out)
    local lines = {}
    for line in err:gmatch "[^\n]+" do lines[#lines + 1] = line end
    assert.equal(4, #lines, err)
    for i, part in ipairs { "there is no command /nope", "name a file", "none.png", "broken.png" } do
      assert.equal("lucid: ", lines[i]:sub(1, 7))
      assert.truthy(lines[i]:find(part, 1, true), lines[i])
      assert.is_nil(lines[i]:find(".lua:", 1, true), lines[i])
    end
  end)

  it("is refused without a model, and with a picture that is none", function()
    local status, out, err = run "chat"
    assert.same({ "", "lucid: --model is required; --help lists all options\n" }, { out, err })
    assert.not_equal(0, status)
    status, out, err = chat("", "--image " .. dir .. "/none.png")
    assert.equal("", out)
    assert.not_equal(0, status)
    assert.truthy(err:find("none.png", 1, true))
    assert.equal(1, select(2, err:gsub("\n", "")))
  end)

  it("asks on a terminal, and Ctrl-D ends it", function()
    local possible, reason = terminal.possible()
    if not possible then return pending(reason) end
    local t = terminal.start(("%s chat --model %s --max-new-tokens 5"):format(BIN, dir))
    t:wait "> "
    t:type "Is there a car?\r"
    t:wait "> "
    t:type "\4"
    assert.equal(0, t:status())
    t:close()
  end)
end)

describe("lucid describe", function()
  local function ask(words) return run(("describe --model %s --max-new-tokens 6 %s"):format(dir, words)) end
  local function text(picture, opt)
    opt.image, opt.prompt, opt.max_new_tokens = picture, "Describe this image in detail.", opt.max_new_tokens or 6
    return (m:generate(opt))
  end

  it("answers about one picture and about several", function()
    local status, out = ask("--image " .. pictures[1])
    assert.same({ 0, text(pictures[1], {}) .. "\n" }, { status, out })
    out = select(2, ask(("--image %s,%s %s"):format(unpack(pictures))))
    local want = {}
    for i, picture in ipairs(pictures) do want[i] = ("%s: %s\n"):format(picture, text(picture, {})) end
    assert.equal(table.concat(want), out)
    local _, listed = ask(("--json %s %s"):format(pictures[1], pictures[2]))
    listed = json.decode(listed)
    assert.equal(2, #listed)
    assert.same({ pictures[2], text(pictures[2], {}), 6, "length" },
      { listed[2].image, listed[2].text, listed[2].tokens, listed[2].reason })
  end)

  it("searches and samples as it is told", function()
    local _, out = ask("--beams 3 --length-norm full --length-penalty 2 --repetition-penalty 1.5 " .. pictures[1])
    assert.equal(text(pictures[1], { beams = 3, length_norm = "full", length_penalty = 2, repetition_penalty = 1.5 }) .. "\n", out)
    _, out = ask("--json --temperature 1 --top-k 5 --seed 3 --answers 2 " .. pictures[1])
    local list = json.decode(out)
    assert.equal(2, #list)
    assert.equal(text(pictures[1], { temperature = 1, top_k = 5, seed = 3 }), list[1].text)
    assert.not_equal(list[1].text, list[2].text)
    local _, published = ask("--as-published shr " .. pictures[1])
    assert.equal(text(pictures[1], { beams = 5, length_norm = "full" }) .. "\n", published)
    local status, _, err = ask("--beams 2 --temperature 1 " .. pictures[1])
    assert.not_equal(0, status)
    assert.equal("lucid: generate: a search does not sample; give beams or a temperature\n", err)
  end)

  it("shows the same on a terminal, as it grows", function()
    local possible, reason = terminal.possible()
    if not possible then return pending(reason) end
    local t = terminal.start(("%s describe --model %s --max-new-tokens 6 %s"):format(BIN, dir, pictures[1]))
    assert.equal(0, t:status())
    assert.equal((text(pictures[1], {}) .. "\n"):gsub("\n", "\r\n"), t.text)
    t:close()
  end)
end)
