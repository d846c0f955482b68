-- lucid serve among good, bad, slow and half-closed clients: the good ones get the right answers throughout, and when
-- all have gone nothing of them is left. $LUCID_SOAK_SECONDS changes how long (make soak: twenty minutes).
local lucid = require "lucid"
local adapted = require "tests.support.adapted"
local rng = require "lucid.rng"
local served = require "tests.support.served"
local streams = require "tests.support.streams"

local SECONDS = tonumber(os.getenv "LUCID_SOAK_SECONDS" or 20)
local GOOD, LINGERING = 8, 12
local dir, m, pictures, server
local faults = {}               -- of answers to good clients

local function random_bytes(draw, n)
  local list = {}
  for i = 1, n do list[i] = string.char(draw:integer(256) - 1) end
  return table.concat(list)
end

-- What bad clients send, and the statuses that they may get; nil: the server may just close, or wait for more.
local BAD = {
  { about = "bytes", patience = 0.2, send = function(s, draw) s:send(random_bytes(draw, 200) .. "\r\n\r\n") end },
  { about = "another host", statuses = { [403] = true, [421] = true, [400] = true },
    send = function(s) s:request { path = "/v1/models", headers = { Host = "evil.example" } } end },
  { about = "broken JSON", statuses = { [400] = true },
    send = function(s) s:request { path = "/v1/chat/completions", body = '{"model": "tiny", "messages": [' } end },
  { about = "no picture", statuses = { [400] = true }, send = function(s, draw)
    local url = "data:image/jpeg;base64," .. lucid.base64.encode("\255\216\255" .. random_bytes(draw, 500))
    s:request(served.completion { messages = { { role = "user", content = { { type = "text", text = "What is it?" },
      { type = "image_url", image_url = { url = url } } } } } })
  end },
  { about = "an unknown model", statuses = { [404] = true },
    send = function(s) s:request(served.completion { model = "other" }) end },
  { about = "an unknown path", statuses = { [404] = true }, send = function(s) s:request { path = "/v2/nothing" } end },
  { about = "tokens without end", statuses = { [400] = true },
    send = function(s) s:request(served.completion { max_tokens = -5 }) end },
}

describe("lucid serve among all kinds of clients", function()
  if served.missing() then
    it("answers", function() pending(served.missing()) end)
    return
  end

  setup(function()
    dir, m, pictures = adapted(6)
    server = served.adapted(dir, "--dtype f32 --trunk-budget 0.2 --stall 10 --head-timeout 10 --body-timeout 10")
  end)
  teardown(function() server:over(dir) end)

  local function answered(client)
    local status, _, body = client.socket:answer(60)
    if status == 200 and body and streams.text(body) == client.kind.text then return true end
    faults[#faults + 1] = ("status %s, %s instead of %s"):format(status, body and streams.text(body), client.kind.text)
    return false
  end

  it("answers the good ones rightly, and keeps nothing of those that went", function()
    local list, draw = streams.kinds(m, pictures), rng.new(2)
    local good, lingering, count = {}, {}, { right = 0, wrong = 0, bad = 0, half = 0, left = 0, slow = 0 }
    local function open(kind, opt)
      local client = { socket = assert(server:connect(opt)), kind = kind or draw:pick(list) }
      if not (opt and opt.later) then client.socket:request(client.kind.request) end
      return client
    end

    -- Whether it has been answered rightly, and can be asked again.
    local function tally(client)
      local right = answered(client)
      count.right, count.wrong = count.right + (right and 1 or 0), count.wrong + (right and 0 or 1)
      return right
    end

    local function linger(client)
      lingering[#lingering + 1] = client
      if #lingering > LINGERING then table.remove(lingering, 1).socket:close() end
    end

    local chaos = {
      function()     -- a bad request
        local kind, s = draw:pick(BAD), assert(server:connect())
        kind.send(s, draw)
        local status = s:head(kind.patience or 20)
        assert.is_true(status == nil and not kind.statuses or (kind.statuses or { [400] = true })[status],
          ("%s: status %s"):format(kind.about, status))
        if status then s:close() else linger { socket = s } end      -- not waited for: the good ones' time would run out
        count.bad = count.bad + 1
      end,
      function()     -- one that is gone before its answer
        local client = open()
        if draw:integer(2) == 1 then client.socket:fill(0.05) end
        client.socket:close()
        count.left = count.left + 1
      end,
      function()     -- one that has nothing more to say, which is what one that has gone looks like
        local client = open()
        client.socket:shut()
        local status, _, body = client.socket:answer(60)
        if status and body then assert.equal(client.kind.text, streams.text(body)) end
        client.socket:close()
        count.half = count.half + 1
      end,
      function()     -- one that takes nothing, or says its request byte by byte
        local slow = draw:integer(2) == 1
        local client = open(nil, { receive = 1024, later = slow })
        if slow then client.rest = "GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" end
        linger(client)
        count.slow = count.slow + 1
      end,
    }

    local function files() return #lucid.file.list("/proc/" .. server.pid .. "/fd") end
    local before = files()
    for i = 1, GOOD do good[i] = open() end
    local from, early = lucid.time(), nil
    while lucid.time() - from < SECONDS do
      for i = 1, GOOD do
        if not tally(good[i]) or draw:integer(4) == 1 then
          good[i].socket:close()
          good[i] = open()
        else
          good[i].kind = draw:pick(list)
          good[i].socket:request(good[i].kind.request)
        end
        draw:pick(chaos)()
        for _, client in ipairs(lingering) do
          if client.rest and client.rest ~= "" then
            client.socket:send(client.rest:sub(1, 1))
            client.rest = client.rest:sub(2)
          end
        end
      end
      if not early and lucid.time() - from > SECONDS / 3 then early = server:memory() end
    end
    local late = server:memory()
    for i = 1, GOOD do
      tally(good[i])
      good[i].socket:close()
    end
    for _, client in ipairs(lingering) do client.socket:close() end
    local function soon(holds)
      local last = lucid.time() + 20
      while not holds() and lucid.time() < last do os.execute "sleep 0.2" end
      return holds()
    end
    io.write(("(%d right answers in %.0f s among %d bad, %d half-closed, %d gone and %d slow clients, %d wrong; memory "
      .. "%.1f MiB after a third, %.1f MiB at the end) "):format(count.right, lucid.time() - from, count.bad, count.half,
      count.left, count.slow, count.wrong, early / 2 ^ 20, late / 2 ^ 20))
    assert.equal(0, count.wrong, table.concat(faults, "\n", 1, math.min(5, #faults)))
    assert.is_true(soon(function() return server:metric "lucid_sequences" + server:metric "lucid_requests_waiting" == 0 end))
    assert.is_true(soon(function() return files() == before end))     -- apart: asking for a figure opens one
    assert.is_true(late < early + 8 * 2 ^ 20)
  end)
end)
