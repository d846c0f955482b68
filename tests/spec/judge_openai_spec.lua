-- The judge behind an OpenAI-compatible endpoint, beside a server of our own (tests/support/judge_server.c): what goes
-- wrong, what is kept, what is sent again, what it may cost, and where the key is not.
local batchfile = require "lucid.batchfile"
local bucket = require "lucid.bucket"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local http = require "lucid.http"
local json = require "lucid.json"
local judge = require "tests.support.judge"
local kills = require "tests.support.judge_kills"
local lucid = require "lucid"
local program = require "tests.support.program"

local KEY = "sk-canary-7f3a9c51"

local function reason_of(f, ...)
  local ok, reason = pcall(f, ...)
  assert.is_false(ok)
  return tostring(reason)
end

local function has(text, words) assert.is_truthy(text:find(words, 1, true), text) end

local function ask(text, more)
  local request = { kind = "judge", text = text }
  for name, value in pairs(more or {}) do request[name] = value end
  return request
end

local function is_judgement(text) return text:find("Judgement:", 1, true) end

describe("a rate limit", function()
  it("lets a tenth go at once and never more than the limit in 60 seconds", function()
    for _, limit in ipairs { 1, 7, 60, 600 } do
      local b, now, times = bucket(limit, 100), 100, {}
      while now < 400 do
        local seconds = b:wait(1, now)
        if seconds == 0 then
          b:take(1, now)
          times[#times + 1] = now
        else
          now = now + seconds + 1e-9
        end
      end
      assert.is_true(#times > 4 * limit)
      for i = 1, #times - limit do
        assert.is_true(times[i + limit] - times[i] >= 60 - 1e-6, ("%d a minute: %g"):format(limit, times[i + limit] - times[i]))
      end
    end
  end)

  it("lets what is larger than the bucket go from a full one", function()
    local b = bucket(1000, 0)
    assert.equal(0, b:wait(5000, 0))
    b:take(5000, 0)
    assert.is_true(b:wait(1, 0) > 5 * 60)
  end)
end)

describe("an HTTP client", function()
  it("refuses endpoints that are none, and keys over plain http", function()
    if judge.missing() == "no HTTP client" then return pending(judge.missing()) end
    local function opens(base) return reason_of(http.open, { base = base }) end
    has(opens("no url at all"), "is no URL")
    has(opens("ftp://host/v1"), "neither https nor http")
    has(opens("https://name:word@host/v1"), "holds a name")
    assert.is_nil(opens("https://name:word@host/v1"):find("word", 1, true))
    has(opens("https://host/v1?key=1"), "holds a name, a query or a fragment")
    local dir = folder.folder()
    file.write(dir .. "/key", KEY .. "\n")
    has(reason_of(http.open, { base = "https://host", key_file = dir .. "/key" }), "chmod 600")
    os.execute(("chmod 600 %s/key"):format(dir))
    for _, host in ipairs { "192.0.2.1", "127.0.0.1.lucid.test", "127.lucid.test", "localhost.lucid.test" } do
      has(reason_of(http.open, { base = ("http://%s/v1"):format(host), key_file = dir .. "/key" }), "not sent over plain http")
    end
    http.open({ base = "https://host", key_file = dir .. "/key" }):close()
    for variable, base in pairs { http_proxy = "http://192.0.2.1", all_proxy = "http://192.0.2.1", HTTPS_PROXY = "https://host" } do
      os.execute(([[unset http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY; %s=http://name:word@127.0.0.1:1 %s -e ]]
        .. [['require("lucid.http").open { base = "%s" }' 2>%s/stderr]]):format(variable, program, base, dir))
      assert.equal(("http: through the proxy that %s names, unless no_proxy says otherwise\n"):format(variable), file.read(dir .. "/stderr"))
    end
    os.execute(("printf 'a b' > %s/key"):format(dir))
    has(reason_of(http.open, { base = "https://host", key_file = dir .. "/key" }), "byte 2 is one that no key has")
    os.execute((": > %s/key"):format(dir))
    has(reason_of(http.open, { base = "https://host", key_file = dir .. "/key" }), "it holds no key")
    has(reason_of(http.open, { base = "https://host", key_file = dir .. "/none" }), "No such file")
    folder.remove(dir)
  end)

  it("says what a build without it lacks", function()
    local dir = folder.folder()
    local lib = os.getenv("LUCID_LIB") or "build/liblucid.so"
    os.execute(("ln -s $(realpath %s) %s/liblucid.so"):format(lib, dir))
    os.execute(([[LUCID_LIB=%s/liblucid.so %s -e 'require("lucid.http").open { base = "https://host" }' 2>%s/stderr]]):format(dir, program, dir))
    has(file.read(dir .. "/stderr"), "http: this build has no HTTP client")
    has(file.read(dir .. "/stderr"), "install libcurl4-openssl-dev and run make")
    folder.remove(dir)
  end)
end)

describe("the judge openai", function()
  local server, dir, number = nil, nil, 0
  local missing = judge.missing()

  setup(function()
    dir = folder.folder()
    if not missing then server = judge.start() end
  end)
  teardown(function()
    if server then server:stop() end
    folder.remove(dir)
  end)

  local function new_path()
    number = number + 1
    return ("%s/%d.jsonl"):format(dir, number)
  end

  local function open(opt)
    local settings = { journal = new_path() }
    for name, value in pairs(opt or {}) do settings[name] = value end
    return server:judge(settings)
  end

  -- A test that is skipped where there is no server.
  local function test(name, f)
    it(name, function()
      if missing then return pending(missing) end
      f()
    end)
  end

  test("posts the published settings and what replaces them", function()
    local body = require("lucid.completion").body(ask "hello", "gpt-4", {})
    assert.same({ model = "gpt-4", messages = { { role = "user", content = "hello" } }, temperature = 0.7, max_tokens = 800,
      top_p = 1, n = 1, stop = "###", logit_bias = { ["50256"] = -100 }, presence_penalty = 0, frequency_penalty = 0 }, body)
    body = require("lucid.completion").body(ask "hello", "o1", { max_tokens = json.null, max_completion_tokens = 900, stop = json.null })
    assert.is_nil(body.max_tokens)
    assert.is_nil(body.stop)
    assert.equal(900, body.max_completion_tokens)
  end)

  it("takes no answer for one that is none", function()
    local completion = require "lucid.completion"
    for _, text in ipairs { "3", "null", "[]", "{}", '{"choices":[]}', '{"choices":{}}', '{"choices":[3]}', '{"choices":[{}]}',
      '{"choices":[{"message":null}]}', '{"choices":[{"message":{"content":{"a":1}}}]}', '{"choices":[{"message":{"content":7}}]}',
      '{"error":"no"}', "", "<html>", '{"choices":[{"message":{"content":"\xff"}}]}' } do
      local reply, fault = completion.read({ body = "" }, { status = 200, body = text })
      assert.is_nil(reply, text)
      assert.is_string(fault)
    end
    local reply = completion.read({ body = "" }, { status = 200, body =
      '{"choices":[{"message":{"content":null}}],"usage":{"prompt_tokens":-5,"completion_tokens":1e300}}' })
    assert.same({ text = "", empty = true, usage = { prompt_tokens = 0, completion_tokens = 0, estimated = true } }, reply)
    for status, text in pairs { [400] = "", [401] = "null", [403] = '{"error":7}', [422] = '{"error":{"message":[1]}}', [302] = "x" } do
      local stopped, reason = completion.read({ body = "" }, { status = status, body = text })
      assert.is_false(stopped)
      assert.is_truthy(reason:find("HTTP " .. status, 1, true))
    end
  end)

  it("reads what compatible endpoints say in other words", function()
    local completion = require "lucid.completion"
    local function read(text, status) return completion.read({ body = ("b"):rep(30) }, { status = status or 200, body = text }) end
    assert.equal("Judgement: yes", read('{"choices":[{"message":{"content":[{"type":"text","text":"Judgement:"},{"text":" yes"}]}}]}').text)
    assert.equal("in place of an answer: too many", select(2, read '{"error":{"message":"too many","code":429}}'))
    assert.equal("HTTP 422: Bad request & more", select(2, read("<html>\n<h1>Bad request</h1>\n& more</html>", 422)))
    assert.equal("HTTP 422", select(2, read("", 422)))
    assert.equal("HTTP 422: " .. ("é"):rep(149) .. "...", select(2, read('{"message":"a' .. ("é"):rep(400) .. '"}', 422)):gsub("a", "", 1))
    assert.equal("HTTP 429: spent", completion.lasting { status = 429, body = '{"error":{"message":"spent","type":"insufficient_quota","code":null}}' })
    -- What nobody counts is taken to be the most, so that a budget is reached.
    assert.same({ prompt_tokens = 10, completion_tokens = 3, estimated = true }, read('{"choices":[{"message":{"content":"seven b"}}]}').usage)
    assert.same({ prompt_tokens = 7, completion_tokens = 2 },
      read('{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}').usage)
  end)

  test("unpacks an answer that was packed, and keeps to its budget where nobody counts tokens", function()
    local j = open { max_cost = 0.003, price_in = 1, price_out = 2, concurrency = 1 }
    local list = {}
    for i = 1, 100 do list[i] = ask(("[[packed]] %d"):format(i)) end
    has(reason_of(j.ask, j, list), "--max-cost 0.003 leaves too little for the next request")
    assert.is_true(j.budget.answers > 0 and j.budget.answers < 100)
    local _, record = next(j.journal.records)
    assert.equal("Judgement: packed", record.reply.text)
    j:close()
  end)

  test("counts refused, filtered, empty, cut and overlong requests and answers the others", function()
    local j = open()
    local replies = j:ask { ask "1", ask "[[refuse]]", ask "[[filter]]", ask "[[filter400]]", ask "[[empty]]", ask "[[cut]]",
      ask "[[toolong]]", ask "[[long]]" }
    assert.is_truthy(is_judgement(replies[1].text))
    assert.is_true(replies[2].refused)
    assert.equal("I will not.", replies[2].text)
    assert.is_true(replies[3].refused)
    assert.is_true(replies[4].refused)
    assert.is_true(replies[5].empty)
    assert.is_true(replies[6].cut)
    assert.is_true(replies[7].too_long)
    assert.is_truthy(is_judgement(replies[8].text))       -- with fewer tokens for its answer, as published
    assert.equal(20, replies[8].usage.completion_tokens)
    local c = j.counts
    assert.same({ 8, 3, 1, 1, 1, 0 }, { c.requests, c.refused, c.empty, c.cut, c.too_long, c.faults })
    -- None of them is asked again.
    local asked = server:asked()
    local again = j:ask { ask "[[refuse]]", ask "[[toolong]]", ask "[[long]]" }
    assert.equal(asked, server:asked())
    assert.is_true(again[2].too_long)
    j:close()
  end)

  test("comes through every fault", function()
    local j, list = open { timeout = 1 }, {}
    for i, fault in ipairs { "busy", "broken", "badjson", "badutf8", "half", "stall", "large", "drop", "page", "garbage" } do
      list[i] = ask(("[[fault:%s]]"):format(fault))
    end
    for _, reply in ipairs(j:ask(list)) do assert.is_truthy(is_judgement(reply.text)) end
    assert.equal(#list, j.counts.faults)
    assert.equal(2 * #list, j.counts.sent)
    j:close()
  end)

  test("waits as long as it is asked to, but not for ever", function()
    for word, seconds in pairs { wait = 1, date = 1, past = 0 } do
      local j, from = open(), lucid.time()
      assert.is_truthy(is_judgement(j:ask({ ask(("[[%s]] please"):format(word)) })[1].text))
      assert.is_true(lucid.time() - from >= seconds, word)
      assert.equal(2, j.counts.sent)
      j:close()
    end
    local j = open()
    has(reason_of(j.ask, j, { ask "[[forever]]" }), "the server asks to wait 1000000000 seconds (HTTP 503)")
    j:close()
  end)

  test("stops at once where trying again is of no use, and keeps what it has", function()
    for word, words in pairs { ["401"] = "HTTP 401", ["404"] = "--judge-model", quota = "nothing left" } do
      local j = open { concurrency = 1 }
      local reason = reason_of(j.ask, j, { ask "good", ask(("[[%s]]"):format(word)), ask "not asked" })
      has(reason, words)
      has(reason, "1 of 3 requests are answered and kept in " .. j.journal.path)
      has(reason, "2 are left; the same command goes on from there")
      assert.equal(2, j.client.sent)
      j:close()
    end
  end)

  test("gives up on a request after its tries, not on the others", function()
    local j = open { tries = 3 }
    local reason = reason_of(j.ask, j, { ask "a", ask "[[500]]", ask "b" })
    has(reason, "1 had no answer after 3 tries (HTTP 500); 2 of 3 requests are answered")
    assert.equal(5, j.client.sent)
    j:close()
  end)

  test("stops when nothing answers", function()
    local j = open { base_url = "http://127.0.0.1:1/v1", tries = 2, pause = 0.001, concurrency = 4 }
    local reason = reason_of(j.ask, j, judge.requests(100))
    has(reason, "the last 10 requests had no answer")
    assert.is_true(j.client.sent < 40)
    j:close()
  end)

  test("asks again what cannot be read, a bounded number of times", function()
    local j = open()
    local replies = j:ask { ask("[[garble]]", { accept = is_judgement }), ask("[[nonsense]]", { accept = is_judgement }),
      ask("[[nonsense]] once", { accept = is_judgement, retries = 0 }), ask("[[nonsense]] unasked") }
    assert.same({ 2, 3, 1, 1 }, { replies[1].attempts, replies[2].attempts, replies[3].attempts, replies[4].attempts })
    assert.is_nil(replies[1].accepted)
    assert.is_false(replies[2].accepted)
    assert.equal("What?", replies[2].text)
    assert.is_false(replies[3].accepted)
    assert.same({ 7, 2, 2 }, { j.counts.sent, j.counts.unreadable, j.counts.asked_again })
    -- A later run follows the same answers.
    local path, asked = j.journal.path, server:asked()
    j:close()
    j = open { journal = path }
    assert.same(replies[1], j:ask({ ask("[[garble]]", { accept = is_judgement }) })[1])
    assert.equal(asked, server:asked())
    j:close()
  end)

  test("asks equal requests once, unless their sample differs", function()
    local j = open()
    local replies = j:ask { ask "same", ask "same", ask("same", { sample = 1 }), ask("same", { sample = 2 }), ask "other" }
    assert.equal(3, j.counts.sent)
    assert.equal(replies[1].text, replies[3].text)
    j:close()
  end)

  test("keeps no more requests in flight than it may, and no more a minute", function()
    local slow = judge.start { delay = 30 }
    local j = slow:judge { journal = new_path(), concurrency = 5 }
    j:ask(judge.requests(60))
    local most = 0
    for _, line in ipairs(slow:log()) do most = math.max(most, line.flying or 0) end
    assert.equal(5, most)
    j:close()
    j = slow:judge { journal = new_path(), concurrency = 50, requests_per_minute = 1200 }
    local from = lucid.time()
    j:ask(judge.requests(140, "limited"))           -- 120 at once, 18 a second
    assert.is_true(lucid.time() - from >= 20 / 18)
    j:close()
    slow:stop()
  end)

  test("stops at its budget in one line and goes on with a larger one", function()
    local j = open { max_requests = 3, concurrency = 2 }
    local path, list = j.journal.path, judge.requests(5, "budget")
    local reason = reason_of(j.ask, j, list)
    has(reason, "--max-requests 3 is reached; 3 of 5 requests are answered")
    has(reason, "2 are left; the same command with a larger --max-requests goes on from there")
    assert.is_nil(reason:find("\n"))
    j:close()
    j = open { max_requests = 5, journal = path }
    assert.equal(5, #j:ask(list))
    assert.equal(2, j.counts.sent)
    j:close()

    -- Per request about 50 + 20 tokens are billed, but up to 66 + 800 can be.
    j = open { max_cost = 0.002, price_in = 1, price_out = 2, concurrency = 8 }
    reason = reason_of(j.ask, j, judge.requests(50, "cost"))
    has(reason, "--max-cost 0.002 leaves too little for the next request")
    assert.is_true(j.budget.cost <= 0.002)
    assert.is_true(j.budget.cost > 0.0001)
    assert.equal(0, j.budget.aside)
    local cost = j.budget.cost
    path = j.journal.path
    j:close()
    j = open { max_cost = 1, price_in = 1, price_out = 2, journal = path }
    assert.equal(cost, j.budget.cost)
    j:close()
    has(reason_of(open, { max_cost = 1, model = "no-such-model" }), "give --price-in and --price-out")
  end)

  test("asks by a batch file, at half the price", function()
    local batch = dir .. "/batch.jsonl"
    local opt = { journal = new_path(), batch_file = batch, price_in = 1e6, price_out = 0 }
    local list = { ask "one", ask("two", { accept = is_judgement }), ask "three", ask "four" }
    local j, asked = open(opt), server:asked()
    local reason = reason_of(j.ask, j, list)
    has(reason, ("4 requests are written to %s"):format(batch))
    has(reason, dir .. "/batch.output.jsonl")
    local ids = {}
    for line in json.each(batch) do
      assert.same({ "POST", "/v1/chat/completions" }, { line.method, line.url })
      ids[line.body.messages[1].content] = line.custom_id
    end
    local function answer(id, content)
      return json.encode { custom_id = id, response = { status_code = 200, body = { choices = { { message = { content = content } } },
        usage = { prompt_tokens = 10, completion_tokens = 1 } } }, error = json.null } .. "\n"
    end
    file.write(batchfile.output(batch), answer(ids.two, "What?") .. answer(ids.one, "1")
      .. json.encode { custom_id = ids.three, response = { status_code = 500, body = {} } } .. "\n")
    file.write(dir .. "/batch.error.jsonl", json.encode { custom_id = ids.four, response = { status_code = 400,
      body = { error = { code = "context_length_exceeded", message = "" } } } } .. "\n")
    reason = reason_of(j.ask, j, list)
    has(reason, "2 requests are written")           -- two anew, and three
    has(reason, "2 of 4 requests are answered")
    assert.equal(10, j.budget.cost)
    local second = {}
    for line in json.each(batch) do second[line.body.messages[1].content] = line.custom_id end
    assert.equal(ids.three, second.three)
    assert.is_true(second.two ~= ids.two)
    file.write(batchfile.output(batch), answer(second.two, "Judgement:") .. answer(second.three, "3"))
    local replies = j:ask(list)
    assert.same({ "1", "Judgement:", "3", "" }, { replies[1].text, replies[2].text, replies[3].text, replies[4].text })
    assert.is_true(replies[4].too_long)
    assert.equal(asked, server:asked())
    j:close()

    -- A budget bounds what a batch holds: 2 more requests, though 3 are new.
    j = open { journal = opt.journal, batch_file = batch, max_requests = 7 }
    has(reason_of(j.ask, j, { ask "five", ask "six", ask "seven" }), "2 requests are written")
    j:close()
  end)

  test("believes no certificate that it cannot trust, and sends such a server nothing", function()
    if os.execute("openssl version >/dev/null 2>&1") ~= 0 then return pending("no openssl") end
    -- What the certificate names, what is trusted, and whether the judge may be believed.
    for i, case in ipairs { { "IP:127.0.0.1", true, true }, { "IP:127.0.0.1", false, false }, { "DNS:other.invalid", true, false } } do
      local key, cert = ("%s/%d.key"):format(dir, i), ("%s/%d.crt"):format(dir, i)
      assert.equal(0, os.execute(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=%s "
        .. "-keyout %s -out %s 2>/dev/null"):format(case[1], key, cert)))
      local tls = judge.start { key = key, cert = cert }
      local j = tls:judge { journal = new_path(), ca_file = case[2] and cert or nil, tries = 2 }
      local ok, replies = pcall(j.ask, j, judge.requests(20))
      assert.equal(case[3], ok, tostring(replies))
      if ok then
        assert.equal(20, tls:asked())
      else
        assert.is_truthy(replies:lower():find("certificate", 1, true), replies)
        has(replies, "0 of 20 requests are answered")
        assert.equal(0, tls:asked())
      end
      j:close()
      tls:stop()
    end
  end)

  test("follows no redirect", function()
    local j = open()
    has(reason_of(j.ask, j, { ask "[[redirect]]" }), "HTTP 302")
    for _, line in ipairs(server:log()) do assert.are_not.equal("elsewhere", line.what) end
    j:close()
  end)

  test("lets what is in flight arrive when it is interrupted", function()
    local slow = judge.start { delay = 300 }
    os.execute(("{ LUA_PATH='./?.lua;;' %s tests/support/judge_client.lua %s %s/int.jsonl 500 8 %s/int.txt 2>%s/stderr & "
      .. "echo $! >%s/pid; wait $!; echo $? >%s/status; } &"):format(program, slow.url, dir, dir, dir, dir, dir))
    local function wait_for(what, condition)
      local from = lucid.time()
      repeat
        os.execute("sleep 0.05")
        assert.is_true(lucid.time() - from < 60, what)
      until condition()
    end
    wait_for("requests", function() return slow:asked() > 10 end)
    os.execute(("kill -INT $(cat %s/pid)"):format(dir))
    wait_for("its end", function() return file.exists(dir .. "/status") and file.read(dir .. "/status") ~= "" end)
    local words, lines = file.read(dir .. "/stderr"), 0
    assert.equal("130\n", file.read(dir .. "/status"), words)
    has(words, "interrupted")
    for _ in json.each(dir .. "/int.jsonl") do lines = lines + 1 end
    assert.is_true(lines > 0 and lines < 500)
    assert.equal(slow:asked(), lines)
    slow:stop()
  end)

  it("takes no endpoint with a password, even to write a batch file", function()
    local reason = reason_of(lucid.judge.openai.new, { journal = new_path(), batch_file = dir .. "/secret.jsonl", base_url = "https://me:word@host/v1" })
    has(reason, "the endpoint holds a name or a password")
    assert.is_nil(reason:find("word@", 1, true))
  end)

  test("shows its key to nobody", function()
    local place = dir .. "/canary"
    file.mkdir(place)
    file.write(place .. "/client.lua", [==[
      local judge = require "tests.support.judge"
      local url, dir = unpack(arg)
      for i, word in ipairs { "[[echo]]", "[[spell]]", "[[401]]", "[[500]]", "[[forever]]", "[[fault:half]]" } do
        local j = require("lucid.judge.openai").new { base_url = url, model = "test", journal = dir .. "/j.jsonl", pause = 0.01, tries = 2 }
        local ok, reason = pcall(j.ask, j, { { kind = "judge", text = word } })
        print(word, ok, ok and reason[1].text or reason)
        j:close()
      end
      local f = io.open("/proc/self/cmdline", "rb")
      print((f:read("*a"):gsub("%z", " ")))
      print(pcall(require("lucid.http").open, { base = url, key_file = "tests/README.md" }))
    ]==])
    local status = os.execute(("OPENAI_API_KEY=%s LUA_PATH='./?.lua;;' %s %s/client.lua %s %s >%s/stdout 2>%s/stderr"):format(KEY, program,
      place, server.url, place, place, place))
    assert.equal(0, status, file.read(place .. "/stderr"))
    local said = file.read(place .. "/stdout")
    has(said, "your key is Bearer ******")
    has(said, "[[spell]]\ttrue\tBearer ******")
    has(said, "HTTP 401: Bearer ******")
    assert.equal(256, os.execute(("grep -r -q -e '%s' %s"):format(KEY, place)))
    assert.equal(256, os.execute(("grep -q -e '%s' %s/log"):format(KEY, server.dir)))
  end)

  test("loses nothing when it is killed", function()
    kills(dir, { requests = 300, concurrency = 8, kills = 3, delay = 20, seed = 5 })
  end)

  test("goes on after a full disk", function()
    if not file.exists("/dev/full") then return pending("no /dev/full") end
    local j = open { concurrency = 2 }
    local path, list = j.journal.path, judge.requests(20, "full")
    j.journal.path = "/dev/full"
    has(reason_of(j.ask, j, list), "No space left on device")
    j.journal.path = path
    assert.equal(20, #j:ask(list))
    j:close()
  end)

  test("stands memory that runs out, at every allocation of the client", function()
    local C = require("lucid.native").C
    local function one(n)
      C.lc_memory_fail_at(n)
      local ok, reason = pcall(function()
        local client = http.open { base = server.url, key_file = dir .. "/key", tries = 1, quiet = true }
        local value, fault
        local stopped = client:run {
          next = function()
            local job = not value and not fault and { path = "/chat/completions", body = json.encode { n = n } } or nil
            value = job and "asked" or value
            return job
          end,
          read = function(_, answer) return answer.status end,
          done = function(list) value, fault = list[1].value, list[1].fault end,
        }
        client:close()
        return stopped or fault or value
      end)
      C.lc_memory_fail_at(0)
      return ok and reason == 200, reason
    end
    file.write(dir .. "/key", KEY)
    os.execute(("chmod 600 %s/key"):format(dir))
    local n, failed = 0, 0
    repeat
      n = n + 1
      local done = one(n)
      failed = failed + (done and 0 or 1)
    until done or n == 50
    assert.is_true(failed >= 5, "allocations: " .. failed)
    assert.is_true(n < 50)
  end)

  it("is opened by the recipes' options", function()
    local opt = lucid.args({ common = "out quiet", groups = { lucid.judge.options } },
      { "--judge", "openai", "--quiet", "--out", dir .. "/run", "--max-cost", "2", "--judge-retries", "0", "--base-url", "http://127.0.0.1:1/v1/" })
    local j = lucid.judge.open(opt)
    assert.equal("gpt-4", j.model)
    assert.equal("http://127.0.0.1:1/v1", j.base)
    assert.equal(dir .. "/run/judge.jsonl", j.journal.path)
    assert.same({ 2, 30, 60 }, { j.budget.max_cost, j.budget.price_in, j.budget.price_out })
    assert.equal(0, j.opt.retries)
    j:close()
    opt = lucid.args({ common = "out quiet", groups = { lucid.judge.options } }, { "--judge", "openai" })
    has(reason_of(lucid.judge.open, opt), "give --journal FILE, or --out")
    assert.is_nil(lucid.judge.open { judge = "none" })
  end)
end)
