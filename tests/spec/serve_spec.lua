-- lucid serve from outside, over plain sockets: completions, streams and their errors.
local lucid = require "lucid"
local adapted = require "tests.support.adapted"
local base64 = require "lucid.base64"
local decoders = require "tests.support.decoders"
local file = require "lucid.file"
local json = require "lucid.json"
local served = require "tests.support.served"
local socket = require "tests.support.socket"

local QUESTION = "Is there a car in the image?"
local dir, m, pictures, server
local message = served.message

if served.missing() then
  describe("lucid serve", function()
    it("serves", function() pending(served.missing()) end)
  end)
  return
end

setup(function()
  dir, m, pictures = adapted(3)
  lucid.image.save(lucid.image.load(pictures[1]), dir .. "/one.jpg")
  server = served.adapted(dir, "--dtype f32 --max-tokens 40")
end)
teardown(function() server:over(dir) end)

local function complete(fields)
  local status, body, headers = server:ask(served.completion(fields))
  return status, body, headers
end

-- Settings of a request as the offline answer takes them.
local function alone(model, picture, question, fields)
  local text, a = model:generate { image = picture, prompt = question, max_new_tokens = fields.max_tokens or 6,
    temperature = fields.temperature, top_p = fields.top_p, seed = fields.seed, stop = fields.stop }
  return text, a
end

local REASONS = { eos = "stop", stop = "stop", length = "length" }

describe("a completion", function()
  it("is the answer that lucid describe gives, and what it cost", function()
    for name, model in pairs { tiny = m:base(), ["tiny+adapter"] = m } do
      for _, picture in ipairs { false, dir .. "/one.jpg", unpack(pictures) } do
        local text, a = alone(model, picture or nil, QUESTION, {})
        local status, got = complete { model = name, messages = { message(QUESTION, picture) } }
        assert.same({ 200, text, REASONS[a.reason], "assistant", name, "chat.completion" }, { status,
          got.choices[1].message.content, got.choices[1].finish_reason, got.choices[1].message.role, got.model, got.object })
        assert.equal(#a.ids + (a.ended_by and 1 or 0), got.usage.completion_tokens)
        local prompt = #m.template:tokens(m.tokenizer, QUESTION, { image = picture and true }) + (picture and m.image_rows - 1 or 0)
        assert.same({ prompt, prompt + got.usage.completion_tokens }, { got.usage.prompt_tokens, got.usage.total_tokens })
      end
    end
    assert.not_equal(alone(m, pictures[1], QUESTION, {}), (alone(m:base(), pictures[1], QUESTION, {})))
  end)

  it("takes a picture whose base64 has lines", function()
    local url = served.url_of(pictures[1])
    local lines = url:sub(1, 40) .. url:sub(41):gsub(("."):rep(76), "%0\r\n") .. "\n"
    local function seen(address)
      local content = { { type = "text", text = QUESTION }, { type = "image_url", image_url = { url = address } } }
      local status, got = complete { messages = { { role = "user", content = content } } }
      return { status, got.choices and got.choices[1].message.content }
    end
    assert.same(seen(url), seen(lines))
    assert.equal(200, seen(lines)[1])
  end)

  it("is sampled, cut and stopped as asked", function()
    local stop = alone(m:base(), pictures[1], QUESTION, { max_tokens = 20 }):sub(5, 7)
    for _, fields in ipairs {
      { temperature = 0.7, seed = 11, max_tokens = 20 }, { temperature = 1.5, top_p = 0.5, seed = 12, max_tokens = 20 },
      { stop = { "no such text", stop }, max_tokens = 20 }, { max_tokens = 1 },
    } do
      local text, a = alone(m:base(), pictures[1], QUESTION, fields)
      fields.messages = { message(QUESTION, pictures[1]) }
      local _, got = complete(fields)
      assert.same({ text, REASONS[a.reason] }, { got.choices[1].message.content, got.choices[1].finish_reason })
    end
    local _, got = complete { max_tokens = json.null, max_completion_tokens = 3 }
    assert.equal(3, got.usage.completion_tokens)
    _, got = complete { max_tokens = 1000, temperature = 1 }
    assert.is_true(got.usage.completion_tokens <= 40)
  end)

  it("has several choices, each drawn with numbers of its own", function()
    local fields = { temperature = 1, seed = 5, n = 3, max_tokens = 12 }
    local list = m:base():generate_all({ { prompt = QUESTION } },
      { temperature = 1, seed = 5, answers = 3, max_new_tokens = 12 })[1].answers
    local _, got = complete(fields)
    for i, a in ipairs(list) do assert.same({ i - 1, a.text }, { got.choices[i].index, got.choices[i].message.content }) end
    assert.equal(3, #got.choices)
    local _, one = complete { temperature = 1, max_tokens = 12 }
    local _, other = complete { temperature = 1, max_tokens = 12 }
    assert.not_equal(one.choices[1].message.content, other.choices[1].message.content)
  end)

  it("takes any whole seed, as OpenAI's servers do", function()
    local texts = {}
    for i, seed in ipairs { -7, -7, 7 } do
      local status, got = complete { temperature = 1, max_tokens = 20, seed = seed }
      assert.equal(200, status)
      texts[i] = got.choices[1].message.content
    end
    assert.equal(texts[1], texts[2])
    assert.not_equal(texts[1], texts[3])
  end)

  it("has log-probabilities, to the bit", function()
    local _, a = alone(m:base(), pictures[1], QUESTION, {})
    local _, got = complete { messages = { message(QUESTION, pictures[1]) }, logprobs = true, top_logprobs = 4 }
    local content = got.choices[1].logprobs.content
    assert.equal(#a.ids, #content)
    for i, token in ipairs(content) do
      assert.same({ a.logps[i], 4, a.logps[i] }, { token.logprob, #token.top_logprobs, token.top_logprobs[1].logprob })
      local piece = m.tokenizer:piece(a.ids[i]):gsub("\226\150\129", " ")
      local byte = piece:match "^<0x(%x%x)>$"
      assert.same({ (byte and string.char(tonumber(byte, 16)) or piece):byte(1, -1) }, { unpack(token.bytes) })
    end
    _, got = complete { logprobs = true }
    assert.same({}, got.choices[1].logprobs.content[1].top_logprobs)
    _, got = complete()
    assert.equal(json.null, got.choices[1].logprobs)
  end)

  it("goes on with a conversation about a picture", function()
    local c = m.template:conversation(m.tokenizer, { { question = QUESTION, answer = "Yes." }, { question = "What is red?" } }, {})
    local text = m:base():generate { ids = c.ids, image = pictures[2], max_new_tokens = 6 }
    local _, got = complete { messages = { message(QUESTION, pictures[2]), { role = "assistant", content = "Yes." }, message "What is red?" } }
    assert.equal(text, got.choices[1].message.content)
  end)

  it("has what the system says before the first question", function()
    local text = alone(m:base(), nil, "Be short.\n" .. QUESTION, {})
    local _, got = complete { messages = { { role = "system", content = "Be short." }, message(QUESTION) } }
    assert.equal(text, got.choices[1].message.content)
  end)
end)

describe("a stream", function()
  local function stream(fields)
    fields.stream = true
    local status, text, headers = complete(fields)
    assert.same({ 200, "text/event-stream" }, { status, headers["content-type"] })
    local events = socket.events(text)
    assert.equal("[DONE]", table.remove(events))
    return events
  end

  it("is the same answer, piece by piece", function()
    local text, a = alone(m:base(), pictures[1], QUESTION, { max_tokens = 20 })
    local events = stream { messages = { message(QUESTION, pictures[1]) }, max_tokens = 20 }
    local pieces = {}
    for i, e in ipairs(events) do
      assert.equal("chat.completion.chunk", e.object)
      assert.is_nil(e.usage)
      pieces[i] = e.choices[1].delta.content
      assert.equal(i == #events and REASONS[a.reason] or json.null, e.choices[1].finish_reason)
    end
    assert.equal("assistant", events[1].choices[1].delta.role)
    assert.equal(text, table.concat(pieces))
    assert.is_true(#pieces > 5)
  end)

  it("says what it cost where it is asked, and has the same log-probabilities", function()
    local fields = { logprobs = true, top_logprobs = 2, max_tokens = 9 }
    local _, whole = complete(fields)
    fields.stream_options = { include_usage = true }
    local events = stream(fields)
    local last = table.remove(events)
    assert.same({ {}, whole.usage }, { last.choices, last.usage })
    local content = {}
    for _, e in ipairs(events) do
      assert.equal(json.null, e.usage)
      local logprobs = e.choices[1].logprobs
      for _, token in ipairs(logprobs ~= json.null and logprobs.content or {}) do content[#content + 1] = token end
    end
    assert.same(whole.choices[1].logprobs.content, content)
  end)

  it("has all its choices", function()
    local fields = { temperature = 1, seed = 8, n = 3, max_tokens = 12 }
    local _, whole = complete(fields)
    local texts, ends = { "", "", "" }, 0
    for _, e in ipairs(stream(fields)) do
      local c = e.choices[1]
      texts[c.index + 1] = texts[c.index + 1] .. (c.delta.content or "")
      ends = ends + (c.finish_reason ~= json.null and 1 or 0)
    end
    assert.same({ whole.choices[1].message.content, whole.choices[2].message.content, whole.choices[3].message.content }, texts)
    assert.equal(3, ends)
  end)

  it("is one of many at once, and each is what it is alone", function()
    local want, sockets = {}, {}
    for i = 1, 64 do
      local picture, model = pictures[i % 4], i % 2 == 0 and "tiny" or "tiny+adapter"
      local fields = { model = model, stream = true, max_tokens = 10 + i % 20, temperature = i % 3 / 2, seed = i,
        messages = { message(QUESTION, picture) } }
      want[i] = alone(i % 2 == 0 and m:base() or m, picture, QUESTION, fields)
      sockets[i] = server:connect()
      sockets[i]:request(served.completion(fields))
    end
    for i, s in ipairs(sockets) do
      local status, _, text = s:answer()
      s:close()
      assert.equal(200, status)
      local pieces = {}
      for k, e in ipairs(socket.events(text)) do pieces[k] = e ~= "[DONE]" and e.choices[1].delta.content or "" end
      assert.equal(want[i], table.concat(pieces))
    end
    assert.equal(0, server:metric "lucid_sequences")
    assert.is_true(server:metric "lucid_trunk_hits_total" > 50)
  end)
end)

describe("a picture", function()
  it("is decoded apart: what breaks the decoder is refused, and the next one is answered", function()
    local path = dir .. "/other.png"
    lucid.image.save(lucid.image.resize(lucid.image.load(pictures[1]), 50, 70), path)
    local list = decoders.of(server.pid)
    assert.equal(1, #list)
    decoders.break_on_next(list[1], "ABRT")
    local status, got = complete { messages = { message(QUESTION, path) } }
    assert.same({ 400, "invalid_image" }, { status, got.error.code })
    assert.equal("the picture: the decoder broke on this picture (signal 6, Aborted)", got.error.message)
    status, got = complete { messages = { message(QUESTION, path) } }
    assert.same({ 200, (alone(m:base(), path, QUESTION, {})) }, { status, got.choices[1].message.content })
  end)
end)

describe("a wrong request", function()
  local function refused(status, part, request)
    local got, body = server:ask(request)
    assert.equal(status, got, json.encode(body))
    assert.truthy(body.error.message:find(part, 1, true), body.error.message)
    for _, field in ipairs { "message", "type", "param", "code" } do assert.not_nil(body.error[field]) end
    return body.error
  end

  it("is told what is wrong with its fields", function()
    local cut = "data:image/png;base64," .. base64.encode(file.read(pictures[1]):sub(1, 60))
    local function image(url) return { { role = "user", content = { { type = "image_url", image_url = { url = url } } } } } end
    for _, case in ipairs {
      { "there is no model 'none'", { model = "none" }, 404, code = "model_not_found" },
      { "model: a name", { model = json.null } },
      { "messages: a list", { messages = "hello" } },
      { "messages: a list", { messages = json.array {} } },
      { "role has to be", { messages = { { role = "robot", content = "x" } } } },
      { "the last message has to be the user's", { messages = { message "a", { role = "assistant", content = "b" } } } },
      { "the first message has to be the user's", { messages = { { role = "assistant", content = "b" }, message "a" } } },
      { "content is a text", { messages = { { role = "user", content = 3 } } } },
      { "a part is", { messages = { { role = "user", content = { { type = "sound" } } } } } },
      { "fetches nothing", { messages = image "https://127.0.0.1/cat.png" } },
      { "fetches nothing", { messages = image "file:///etc/passwd" } },
      { "data:image/png;base64", { messages = image "data:image/gif;base64,AAAA" } },
      { "data:image/png;base64", { messages = image "data:image/png,AAAA" } },
      { "base64 is damaged", { messages = image "data:image/png;base64,A*AA" } },
      { "is no PNG file", { messages = image "data:image/png;base64,AAAA" } },
      { "the picture: ", { messages = image(cut) }, code = "invalid_image" },
      { "one picture", { messages = { message("a", pictures[1]), message("b", pictures[2]) } } },
      { "first message", { messages = { message "a", { role = "assistant", content = "b" }, message("c", pictures[1]) } } },
      { "max_tokens: a whole number", { max_tokens = 0 } },
      { "temperature: a number", { temperature = 3 } },
      { "temperature: a number", { temperature = "hot" } },
      { "top_p: more than 0", { top_p = 0 } },
      { "n: a whole number", { n = 9 } },
      { "n: at temperature 0", { n = 2 } },
      { "stop: ", { stop = 3 } },
      { "stream: true or false", { stream = "yes" } },
      { "only with stream", { stream_options = { include_usage = true } } },
      { "only with logprobs", { top_logprobs = 2 } },
      { "top_logprobs: a whole number", { logprobs = true, top_logprobs = 21 } },
      { "did you mean 'temperature'", { temprature = 1 } },
      { "tools is not supported", { tools = { { type = "function" } } } },
      { "frequency_penalty is not supported", { frequency_penalty = 1 } },
      { "response_format", { response_format = { type = "json_object" } } },
      { "positions", { messages = { message(("a car "):rep(400)) } }, code = "context_length_exceeded" },
    } do
      local e = refused(case[3] or 400, case[1], served.completion(case[2]))
      if case.code then assert.equal(case.code, e.code) end
    end
  end)

  it("is told what is wrong with its body", function()
    for _, body in ipairs { "", "{", "[]", "3", '{"model": "tiny"} x', '{"model": "\255"}', ("["):rep(100) } do
      local status, got = server:ask { path = "/v1/chat/completions", body = body }
      assert.same({ 400, "invalid_request_error" }, { status, got.error.type })
    end
  end)

  it("is answered soon, however many messages and whatever names it has", function()
    local turns = ('{"role":"user","content":"a"},{"role":"assistant","content":"b"},'):rep(1e5)
    local lines = ('{"role":"user","content":""},'):rep(4e5)
    for _, list in ipairs { turns, lines } do
      local body = ('{"model":"tiny","messages":[%s{"role":"user","content":"c"}]}'):format(list)
      assert.equal("context_length_exceeded", refused(400, "positions", { path = "/v1/chat/completions", body = body }).code)
    end
    -- a text of megabytes is not tokenized: other answers would wait for seconds
    local before = lucid.time()
    for _, text in ipairs { ("a car "):rep(2e6), ("x"):rep(1.2e7) } do
      assert.equal("context_length_exceeded", refused(400, "positions", served.completion { messages = { message(text) } }).code)
    end
    assert.is_true(lucid.time() - before < 5)
    local name = ("x"):rep(4e6)
    assert.is_true(#refused(400, "there is no field", served.completion { [name] = 1 }).message < 2000)
    assert.is_true(#refused(404, "there is no model", served.completion { model = name }).message < 2000)
  end)

  it("is told where there is nothing, and what it takes", function()
    refused(404, "there is no /v1/embeddings", { path = "/v1/embeddings", body = "{}" })
    refused(404, "there is no /../etc/passwd", { path = "/../etc/passwd" })
    refused(404, "there is no model 'x'", { path = "/v1/models/x" })
    refused(404, "there is no /v1/models/", { path = "/v1/models/" })
    refused(405, "takes POST", { path = "/v1/chat/completions" })
    refused(405, "takes GET", { path = "/v1/models", body = "{}" })
    refused(405, "takes GET", { path = "/", method = "DELETE" })
    local _, _, headers = server:ask { path = "/v1/chat/completions" }
    assert.equal("POST", headers.allow)
  end)
end)

describe("the server", function()
  it("lists its models, lives, and counts", function()
    local _, list = server:ask { path = "/v1/models" }
    assert.same({ "list", "tiny", "tiny+adapter", 2 }, { list.object, list.data[1].id, list.data[2].id, #list.data })
    local _, one = server:ask { path = "/v1/models/tiny+adapter" }
    assert.same({ "tiny+adapter", "model" }, { one.id, one.object })
    local status, text = server:ask { path = "/healthz" }
    assert.same({ 200, "ok\n" }, { status, text })
    local before = server:metric "lucid_completion_tokens_total"
    complete()
    assert.equal(6, server:metric "lucid_completion_tokens_total" - before)
    assert.is_true(server:metric "lucid_first_token_seconds_count" > 0)
    assert.is_true(server:metric "lucid_responses_total" > 10)
  end)

  it("ends in order when it is told to", function()
    for _, signal in ipairs { "TERM", "INT" } do
      local own = served.start(("--model %s"):format(dir))
      assert.equal(200, (own:ask { path = "/healthz" }))
      own:signal(signal)
      assert.same({ 0, "" }, { own:ended() })         -- nobody is waiting: there is nothing to say
    end
  end)

  it("logs a line a request, with nothing that a terminal obeys", function()
    local own = served.start(("--model %s --name tiny"):format(dir))
    own:ask { path = "/%1b[2J%0d%0a200" }
    assert.equal(200, (own:ask(served.completion())))
    local _, log = own:stop()
    assert.truthy(log:find("404 there is no /?[2J??200\n200 tiny: ", 1, true), log)
  end)

  it("answers what it has accepted before it ends", function()
    local own = served.start(("--model %s --name tiny --quiet"):format(dir))
    local half, other = own:connect(), own:connect()
    local request = served.completion { max_tokens = 30 }
    half:send(("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"):format(
      request.path, #request.body))
    repeat until own:metric "lucid_connections" >= 2
    own:signal "TERM"
    local status, headers
    repeat
      other:request(served.completion())
      status, headers = other:answer()
    until status ~= 200
    assert.same({ 503, "1" }, { status, headers["retry-after"] })
    half:send(request.body)
    assert.equal(200, (half:answer()))
    half:close()
    other:close()
    assert.equal(0, (own:ended()))
  end)

  it("says so where someone is waiting", function()
    local own = served.start(("--model %s --name tiny"):format(dir))
    local long = own:connect()
    long:request(served.completion { stream = true, max_tokens = 400, n = 8, temperature = 1, logprobs = true, top_logprobs = 20 })
    repeat until own:metric "lucid_sequences" > 0
    own:signal "TERM"
    local _, _, text = long:answer()
    long:close()
    assert.equal("[DONE]", table.remove(socket.events(text)))
    local status, log = own:ended()
    assert.equal(0, status)
    assert.equal(1, (log:find("1 request is answered first; Ctrl-C again ends at once\n", 1, true)), log)
  end)

  it("is refused where it cannot be", function()
    local function refused(part, words)
      local ok, reason = pcall(served.start, words)
      assert.is_false(ok)
      assert.truthy(reason:find(part, 1, true), reason)
    end
    refused("--model is required", "")
    refused("Address already in use", ("--model %s --port %d"):format(dir, server.port))
    file.write(dir .. "/key", "secret-of-the-tests\n")
    os.execute(("chmod 600 %s/key"):format(dir))
    refused("is no address of this machine", ("--model %s --host nowhere --api-key-file %s/key"):format(dir, dir))
    os.execute(("chmod 644 %s/key"):format(dir))
    file.write(dir .. "/long", ("k"):rep(5000))
    os.execute(("chmod 600 %s/long"):format(dir))
    refused("longer than a key", ("--model %s --api-key-file %s/long"):format(dir, dir))
    refused("others may read this key", ("--model %s --api-key-file %s/key"):format(dir, dir))
  end)
end)
