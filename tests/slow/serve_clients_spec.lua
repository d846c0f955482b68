-- lucid serve as others use it: the official OpenAI client and curl unchanged, and its page in a browser by the
-- keyboard alone. Pictures of the page are kept in build/artifacts.
local adapted = require "tests.support.adapted"
local browser = require "tests.support.browser"
local file = require "lucid.file"
local json = require "lucid.json"
local python = require "tests.support.python"
local served = require "tests.support.served"
local socket = require "tests.support.socket"

local ARTIFACTS = "build/artifacts"
local QUESTION = "Is there a car in the image?"
local missing = served.missing() or python.missing()
local dir, m, picture, server

describe("lucid serve and its clients", function()
  if missing then
    it("talk", function() pending(missing) end)
    return
  end

  setup(function()
    local pictures
    dir, m, pictures = adapted(1)
    picture = pictures[1]
    file.write(dir .. "/key", "secret-of-the-tests\n")
    os.execute(("chmod 600 %s/key"):format(dir))
    server = served.adapted(dir, ("--api-key-file %s/key"):format(dir))
  end)
  teardown(function() server:over(dir) end)

  local function alone(model, seen, most)
    return model:generate { image = seen, prompt = QUESTION, max_new_tokens = most }
  end

  it("the official OpenAI client", function()
    local out = python.run("openai_client.py", "http://127.0.0.1:" .. server.port, picture)
    local read, got = pcall(json.decode, out)
    assert.is_true(read, out)
    local text, a = alone(m:base(), nil, 12)
    local about, b = alone(m:base(), picture, 12)
    assert.same({ "tiny", "tiny+adapter" }, { unpack(got.models) })
    assert.same({ text, about, about }, { got.chat, got.picture, got.stream })
    local prompt = #m.template:tokens(m.tokenizer, QUESTION, { image = false })
    assert.same({ prompt, 12, prompt + 12, "length", 12 }, { got.usage[1], got.usage[2], got.usage[3], got.reason, got.stream_usage })
    assert.equal(12, #a.ids)
    assert.same(b.logps, { unpack(got.logprobs) })
    for i = 1, #b.ids do assert.equal(3, got.alternatives[i]) end
    local sampled = m:base():generate_all({ { prompt = QUESTION } },
      { temperature = 1, seed = 3, answers = 2, max_new_tokens = 12 })[1].answers
    assert.same({ sampled[1].text, sampled[2].text }, { unpack(got.sampled) })
    local function was(name, ...) assert.same({ ... }, { unpack(got.errors[name]) }) end
    was("model", "NotFoundError", 404, "model_not_found", "model")
    was("field", "BadRequestError", 400, json.null, "temperature")
    was("tool", "BadRequestError", 400, "unsupported_parameter", "tools")
    was("remote", "BadRequestError", 400, "invalid_image_url", "messages[0].content[0]")
    was("key", "AuthenticationError", 401, json.null, json.null)
  end)

  it("curl", function()
    if os.execute "command -v curl >/dev/null 2>&1" ~= 0 then return pending "no curl" end
    local function curl(fields)
      file.write(dir .. "/body", served.completion(fields).body)
      local pipe = io.popen(("curl --silent --no-buffer --noproxy '*' http://127.0.0.1:%d/v1/chat/completions "
        .. "-H 'Content-Type: application/json' -H 'Authorization: Bearer secret-of-the-tests' -d @%s/body"):format(server.port, dir))
      local out = pipe:read "*a"
      pipe:close()
      return out
    end
    local fields = { messages = { served.message(QUESTION, picture) }, max_tokens = 12 }
    local text = alone(m:base(), picture, 12)
    assert.equal(text, json.decode(curl(fields)).choices[1].message.content)
    fields.stream = true
    local pieces = {}
    for i, e in ipairs(socket.events(curl(fields))) do pieces[i] = e ~= "[DONE]" and e.choices[1].delta.content or "" end
    assert.equal(text, table.concat(pieces))
  end)

  it("a browser, by the keyboard alone, at every size and in both colours", function()
    local chromium = browser()
    if not chromium then return pending "there is no chromium here; make deps-browser installs it" end
    file.mkdir(ARTIFACTS)
    file.write(dir .. "/known.jsonl", json.encode { image = picture:match "[^/]+$", objects = { "car" } } .. "\n")
    local own = served.adapted(dir,
      ("--judge tests/support/verdicts.lua --images %s --annotations %s/known.jsonl"):format(dir, dir))
    local out = python.run("page.py", own.line:match "^(%S+)", server.line:match "^(%S+)", picture, ARTIFACTS, chromium)
    assert.same({ 0, "" }, { own:stop() })
    local read, got = pcall(json.decode, out)
    assert.is_true(read, out)
    assert.same({}, { unpack(got.said) })
    for _, address in ipairs(got.asked) do assert.equal(1, (address:find("http://127.0.0.1:", 1, true))) end
    assert.same({ "tiny", "tiny+adapter" }, { unpack(got.titles) })
    local want = {}
    for i, model in ipairs { m:base(), m } do want[i] = alone(model, picture, 256) end
    assert.same(want, { unpack(got.answers) })
    local lines, words = { bad = "wavy", good = "solid", unsure = "dotted" }, { bad = "%(made up%)$", unsure = "%(cannot be judged%)$" }
    assert.is_true(#got.marks > 0)
    for _, mark in ipairs(got.marks) do
      local kind, text, line = unpack(mark)
      assert.equal(lines[kind], line)
      assert.truthy(text:find(words[kind] or "[^)]$"), text)
    end
    assert.equal(2, #got.verdicts)
    assert.truthy(got.verdicts[1]:find("^The judge: %d+ of %d+ sentences? made up"), got.verdicts[1])
    assert.truthy(got.reasons:find("hallucination: reason 1", 1, true), got.reasons)
    assert.same({ "key", true, "" }, { got.keyed[2], got.keyed[3], got.let_in })
    assert.truthy(got.keyed[1]:find("key", 1, true), got.keyed[1])
    assert.equal("The server cannot be reached; is it still running?", got.lost)
    assert.equal("The chosen picture, " .. picture:match "[^/]+$", got.alt)
    assert.equal("Is there an apple in the image? Probability of yes:", got.probe)
    assert.same({ "tiny: probability of yes", "tiny+adapter: probability of yes" }, { unpack(got.meters) })
    for _, value in ipairs(got.values) do assert.is_true(value >= 0 and value <= 1) end
    assert.equal("Write a question first.", got.fault)
    assert.same({ "file", "question", "go", "object", "probe", "SUMMARY" }, { unpack(got.order, 1, 6) })
    local names = { "serve", "serve-dark", "serve-phone", "serve-phone-dark" }
    for _, name in ipairs(names) do
      local s = got.screens[name]
      assert.same({}, { unpack(s.violations) }, name)
      assert.is_true(s.passes > 15)
      assert.equal(name:find "phone" and 360 or 1280, s.width)
      assert.is_true(s.content <= s.width, name)
      assert.is_true(file.size(("%s/%s.png"):format(ARTIFACTS, name)) > 5000)
    end
  end)
end)
