-- Who lucid serve lets in, what it takes of whom, and what becomes of clients that are slow or leave.
local lucid = require "lucid"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local served = require "tests.support.served"
local socket = require "tests.support.socket"
local tiny = require "tests.support.tiny"

local dir, server

if served.missing() then
  describe("lucid serve", function()
    it("lets in", function() pending(served.missing()) end)
  end)
  return
end

setup(function()
  dir = folder.folder()
  tiny.model(dir, 3)
  server = served.start(("--model %s --name tiny --quiet --queue 2 --max-body 0.125 --max-tokens 400 --allow-host lucid.test "
    .. "--head-timeout 1 --body-timeout 1.5 --stall 2"):format(dir))
end)
teardown(function() server:over(dir) end)

local function with(headers, fields)
  local request = served.completion(fields)
  request.headers = headers
  return request
end

local function refused(status, part, request, from)
  local got, body = (from or server):ask(request)
  assert.equal(status, got, json.encode(body))
  assert.truthy(body.error.message:find(part, 1, true), body.error.message)
  return body.error
end

describe("the gate", function()
  it("knows the names of this machine and those that are listed", function()
    for _, host in ipairs { "127.0.0.1", "localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:99", "lucid.test", "lucid.test:80" } do
      assert.equal(200, (server:ask { path = "/healthz", headers = { Host = host } }), host)
    end
    for _, host in ipairs { "evil.test", "localhost.evil.test", "127.0.0.1.evil.test", "192.168.0.1", "[::2]", "localhost:80x",
      "127.0.0.1:80:80", "", "localhost@evil.test", ":80", "[::1", ("a"):rep(300) } do
      local status = server:ask { path = "/healthz", headers = { Host = host } }
      assert.is_true(status == 403 or status == 400, host .. " " .. tostring(status))
    end
  end)

  it("takes a body of a POST alone", function()
    for _, method in ipairs { "GET", "PUT", "DELETE" } do
      refused(400, "only a POST has a body", { method = method, path = "/v1/models", body = "{}" })
    end
    refused(400, "only a POST has a body", { method = "GET", path = "/healthz", body = "0\r\n\r\n",
      headers = { ["Transfer-Encoding"] = "chunked", ["Content-Length"] = false } })
    assert.equal(200, (server:ask { path = "/healthz", headers = { ["Content-Length"] = "0" } }))
  end)

  it("refuses a path that begins with a NUL", function()        -- found by tests/fuzz
    local s = server:connect()
    s:send "GET \0/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert.equal(400, (s:answer()))
    s:close()
  end)

  it("refuses a field that is there twice, of which another program may believe the other one", function()
    local first = { Host = "localhost", Origin = "http://localhost", ["Content-Type"] = "application/json", ["Content-Length"] = "2",
      Authorization = "Bearer a" }
    for name, value in pairs(first) do
      local s = server:connect()
      s:send("POST /v1/chat/completions HTTP/1.1\r\n")
      for other, text in pairs(first) do s:send(("%s: %s\r\n"):format(other, text)) end
      s:send(("%s: %s\r\n\r\n{}"):format(name:upper(), name == "Content-Length" and "3" or value))
      assert.equal(400, (s:answer()), name)
      s:close()
    end
  end)

  it("lets no page of another origin in", function()
    for origin, status in pairs { ["http://127.0.0.1"] = 200, ["http://127.0.0.1:80"] = 403, ["http://evil.test"] = 403, null = 403,
      ["http://localhost"] = 403, ["ftp://127.0.0.1"] = 403, ["http://127.0.0.1.evil.test"] = 403 } do
      assert.equal(status, (server:ask(with { Origin = origin })), origin)
    end
    assert.equal(200, (server:ask(with { Host = "localhost:81", Origin = "http://localhost:81" })))
    local _, _, headers = server:ask(with { Origin = "http://127.0.0.1" })
    for name in pairs(headers) do assert.is_nil(name:find "access%-control") end
  end)

  it("takes JSON alone", function()
    for _, kind in ipairs { "text/plain", "application/x-www-form-urlencoded", "application/jsonx", false } do
      refused(415, "application/json", with { ["Content-Type"] = kind })
    end
    assert.equal(200, (server:ask(with { ["Content-Type"] = "Application/JSON; charset=utf-8" })))
    refused(415, "Content-Encoding", with { ["Content-Encoding"] = "gzip" })
  end)

  it("asks for the key, where there is one", function()
    local key = dir .. "/key"
    file.write(key, "secret-of-the-tests\n")
    os.execute("chmod 600 " .. key)
    local own = served.start(("--model %s --name tiny --host 0.0.0.0 --quiet --api-key-file %s"):format(dir, key))
    for _, sent in ipairs { false, "Bearer secret-of-the-test", "Bearer secret-of-the-tests2", "Bearer ", "secret-of-the-tests", "Basic x" } do
      local e = refused(401, "key", with { Authorization = sent }, own)
      assert.equal("authentication_error", e.type)
      assert.equal(401, (own:ask { path = "/v1/models", headers = { Authorization = sent } }))
    end
    assert.equal(200, (own:ask(with { Authorization = "Bearer secret-of-the-tests" })))
    assert.equal(200, (own:ask { path = "/healthz" }))
    assert.equal(200, (own:ask { path = "/" }))
    refused(401, "key", { method = "POST", path = "/", body = "{}" }, own)        -- a body is kept for nobody
    for host, status in pairs { ["10.0.0.1:80"] = 200, ["[fe80::1]"] = 200, ["evil.test"] = 403 } do
      assert.equal(status, (own:ask { path = "/healthz", headers = { Host = host } }), host)
    end
    local status, err = own:stop()
    assert.same({ 0, "" }, { status, err })
  end)
end)

describe("limits", function()
  it("are those of a body, declared or not", function()
    local large = ('{"model": "%s"}'):format(("x"):rep(140 * 1024))
    refused(413, "--max-body", { path = "/v1/chat/completions", body = large })
    local s = server:connect()
    s:request { method = "POST", path = "/v1/chat/completions",
      headers = { ["Content-Type"] = "application/json", ["Transfer-Encoding"] = "chunked" } }
    for _ = 1, 140 do s:send(("400\r\n%s\r\n"):format(("x"):rep(1024))) end
    s:send "0\r\n\r\n"
    assert.equal(413, (s:answer()))
    s:close()
    local long = server:connect()                -- would be read to no end, so it is refused by its head
    long:request { method = "POST", path = "/v1/chat/completions",
      headers = { ["Content-Type"] = "application/json", ["Content-Length"] = "10000000" } }
    assert.equal(413, (long:answer()))
    long:close()
    local endless = server:connect()
    endless:request { method = "POST", path = "/v1/chat/completions",
      headers = { ["Content-Type"] = "application/json", ["Transfer-Encoding"] = "chunked" } }
    local sent = 0
    while sent < 40000 and endless:send(("400\r\n%s\r\n"):format(("x"):rep(1024))) do sent = sent + 1 end
    assert.is_true(sent < 40000)
    endless:close()
  end)

  it("take a whole body in chunks", function()
    local request = served.completion()
    local s = server:connect()
    s:request { method = "POST", path = request.path,
      headers = { ["Content-Type"] = "application/json", ["Transfer-Encoding"] = "chunked" } }
    for i = 1, #request.body do s:send(("1\r\n%s\r\n"):format(request.body:sub(i, i))) end
    s:send "0\r\n\r\n"
    assert.equal(200, (s:answer()))
    s:close()
  end)

  it("are those of a head", function()
    local many, long = {}, { X = ("y"):rep(60000) }
    for i = 1, 120 do many["X-" .. i] = "y" end
    local status = server:ask { path = "/healthz", headers = many }
    assert.is_true(status == 431 or status == 400)
    status = server:ask { path = "/healthz", headers = long }
    assert.is_true(status == 431 or status == 400 or status == 413, tostring(status))
  end)

  it("refuse what is smuggled", function()
    local s = server:connect()
    local post = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for _, head in ipairs {
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        .. "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: -2\r\n\r\n",
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        .. "Transfer-Encoding: chunked\r\n\r\n-2\r\nxx\r\n0\r\n\r\n",
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        .. "Content-Length: 99999999999999999999999\r\n\r\n",
      post .. "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
      post .. "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
      post:gsub("1%.1", "1.0") .. "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
      "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: lucid.test\r\n\r\n",
      "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rY: b\r\n\r\n",
      "\0\1\2\3 nothing\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /healthz HTTP/1.1\r\n\r\n",
    } do
      s:close()
      s = server:connect()
      s:send(head)
      local status = s:head(5)
      assert.is_true(status == nil or status >= 400, head)
    end
    s:close()
    assert.equal(200, (server:ask { path = "/healthz" }))
  end)

  -- A proxy that reads the length otherwise takes the body for this request's, and this server for the next one.
  it("leave no doubt where a request ends: what is behind a doubtful one is not looked at", function()
    local body = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for _, field in ipairs { "Content-Length : %d", "Content-Length:\r\n %d", "Content-Length: 0\r\nContent-Length: %d",
      "X: a\r\n Content-Length: %d", "Transfer-Encoding : chunked" } do
      local s = server:connect()
      s:send(("GET /healthz HTTP/1.1\r\nHost: localhost\r\n" .. field .. "\r\n\r\n%s"):format(
        unpack(field:find "%%d" and { #body, body } or { body })))
      assert.is_true(s:closed(5), field)
      assert.same({ 1, 400 }, { select(2, s.buffer:gsub("HTTP/1%.1 ", "")), (s:head(0)) }, field)
      s:close()
    end
  end)

  it("are those of requests at a time", function()
    local held = {}
    for i = 1, 2 do
      held[i] = server:connect()
      held[i]:send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
    end
    local status, body, headers
    for _ = 1, 200 do
      status, body, headers = server:ask(served.completion())
      if status == 429 then break end
    end
    assert.same({ 429, "rate_limit_error", "1" }, { status, body.error.type, headers["retry-after"] })
    assert.equal(200, (server:ask { path = "/healthz" }))
    for _, s in ipairs(held) do s:close() end
    for _ = 1, 200 do
      status = server:ask(served.completion())
      if status == 200 then break end
    end
    assert.equal(200, status)
  end)
end)

describe("a client", function()
  local function within(seconds, f)
    local from = lucid.time()
    while not f() do
      if lucid.time() - from > seconds then return false end
    end
    return true
  end

  it("that sends too slowly is closed", function()
    for _, bytes in ipairs { "", "GET /healthz HT", "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
      .. "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{" } do
      local s, closed = server:connect(), false
      s:send(bytes)
      for _ = 1, 40 do
        if bytes ~= "" then s:send "x" end          -- a byte now and then does not help
        closed = s:closed(0.1)
        if closed then break end
      end
      assert.is_true(closed, bytes)
      s:close()
    end
  end)

  it("that leaves takes its sequences along", function()
    local left = server:metric "lucid_clients_left_total"
    local s = server:connect { receive = 4096 }
    s:request(served.completion { stream = true, max_tokens = 400, n = 8, temperature = 1, seed = 1, logprobs = true, top_logprobs = 20 })
    assert.equal(200, (s:head()))
    assert.is_true(within(5, function() return server:metric "lucid_sequences" > 0 end))
    s:close()
    assert.is_true(within(2, function()
      return server:metric "lucid_sequences" == 0 and server:metric "lucid_clients_left_total" > left
    end))
  end)

  it("that does not read holds nobody up, and is closed in the end", function()
    local slow = server:connect { receive = 4096 }
    slow:request(served.completion { stream = true, max_tokens = 400, n = 8, temperature = 1, seed = 1, logprobs = true, top_logprobs = 20 })
    slow:head()
    assert.is_true(within(2, function() return server:metric "lucid_sequences" > 0 end))
    for _ = 1, 5 do assert.equal(200, (server:ask(served.completion { max_tokens = 30 }))) end
    assert.is_true(within(20, function() return server:metric "lucid_sequences" == 0 end))
    slow:close()
  end)

  it("that reads slowly has its answers rest, and gets all of them", function()
    local s = server:connect { receive = 4096 }
    s:request(served.completion { stream = true, max_tokens = 400, n = 8, temperature = 1, seed = 1, logprobs = true,
      top_logprobs = 20 })
    s:head()
    assert.is_true(within(20, function() return server:metric "lucid_sequences_resting" > 0 end))
    local parts = {}
    repeat
      local part = s:chunk()
      parts[#parts + 1] = part
    until not part or part == ""
    s:close()
    local ends, events = 0, socket.events(table.concat(parts))
    for _, e in ipairs(events) do ends = ends + (e ~= "[DONE]" and e.choices[1].finish_reason ~= json.null and 1 or 0) end
    assert.same({ 8, "[DONE]" }, { ends, events[#events] })
  end)

  it("may ask again on its connection", function()
    local s = server:connect()
    for _ = 1, 3 do
      s:request(served.completion())
      assert.equal(200, (s:answer()))
    end
    s:close()
  end)
end)

describe("a stream that takes too long", function()
  it("ends with the reason, is counted and stands in the log", function()
    local own = served.start(("--model %s --name tiny --max-tokens 400 --timeout 0.2"):format(dir))
    local client = own:connect()
    client:request(served.completion { stream = true, n = 8, temperature = 1, max_tokens = 400 })
    assert.equal(200, (client:head()))
    local text = client:upto("longer than 0.2 seconds", 20)
    assert.truthy(text, "it was not broken off")
    client:close()
    assert.equal(1, own:metric "lucid_streams_broken_total")
    local _, err = own:stop()
    assert.truthy(err:find("200 tiny: broken off: the request took longer than 0.2 seconds", 1, true), err)
  end)
end)

describe("clients that have gone", function()
  it("are noticed however many there are", function()
    local own = served.start(("--model %s --name tiny --quiet --queue 600 --connections 700 --batch 1 --max-tokens 400"):format(dir))
    local clients = {}
    for i = 1, 300 do
      clients[i] = own:connect()
      clients[i]:request(served.completion { max_tokens = 400, temperature = 1, seed = i })
    end
    while own:metric "lucid_requests_waiting" < 290 do end
    for i = 281, 300 do clients[i]:close() end            -- the newest: they wait longest for their turn
    local finish, left = lucid.time() + 20, 0
    while left < 20 and lucid.time() < finish do left = own:metric "lucid_clients_left_total" end
    for i = 1, 280 do clients[i]:close() end
    own:stop()
    assert.equal(20, left)
  end)
end)
