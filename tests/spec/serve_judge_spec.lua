-- The judge of lucid serve: verdicts on answers about pictures that are annotated.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local judges = require "tests.support.judge"
local served = require "tests.support.served"
local tiny = require "tests.support.tiny"

if served.missing() then
  describe("lucid serve's judge", function()
    it("judges", function() pending(served.missing()) end)
  end)
  return
end

local dir, pictures, common

setup(function()
  dir = folder.folder()
  tiny.model(dir, 3)
  pictures = tiny.pictures(dir, 2)
  file.write(dir .. "/known.jsonl", json.encode { image = "1.png", objects = { "car", { name = "apple", attributes = { "red" } } },
    sentences = { "A car stands in the sun." } } .. "\n")
  common = ("--model %s --name tiny --quiet --images %s --annotations %s/known.jsonl "):format(dir, dir, dir)
end)
teardown(function() folder.remove(dir) end)

local function request(text, picture, name)
  return { path = "/judge", body = json.encode { image = served.url_of(picture or pictures[1]), name = name or "1.png", text = text } }
end

describe("lucid serve's judge", function()
  it("says which sentences are true by what is annotated, and why", function()
    local server = served.start(common .. "--judge annotation")
    local status, got = server:ask(request "There is a car. There is no apple. It is a nice day.")
    assert.equal(200, status)
    local labels = {}
    for i, s in ipairs(got.sentences) do labels[i] = s.label end
    assert.same({ "correct", "hallucination", "cannot judge" }, labels)
    assert.equal("There is no apple.", got.sentences[2].text)
    assert.equal("there is an apple", got.sentences[2].reason)
    assert.equal(0, #select(2, server:ask(request "  ")).sentences)
    -- the picture has to be the annotated one, whatever it is called
    for _, other in ipairs { request("A car.", pictures[2]), request("A car.", pictures[1], "2.png"), request("A car.", pictures[1], "../1.png") } do
      local code, body = server:ask(other)
      assert.same({ 404, "unknown_picture" }, { code, body.error.code })
    end
    for part, wrong in pairs {
      ["text: a text"] = { image = served.url_of(pictures[1]), name = "1.png" },
      ["name: a text"] = { image = served.url_of(pictures[1]), text = "a", name = 5 },
      ["data:image/png"] = { image = "http://localhost/1.png", text = "a", name = "1.png" },
      ["20000 at most"] = { image = served.url_of(pictures[1]), name = "1.png", text = ("a. "):rep(7000) },
      ["a JSON object"] = { 1 },
    } do
      local code, body = server:ask { path = "/judge", body = json.encode(wrong) }
      assert.equal(400, code)
      assert.truthy(body.error.message:find(part, 1, true), body.error.message)
    end
    local _, page = server:ask { path = "/" }
    assert.truthy(page:find("judged = true", 1, true))
    assert.equal(405, (server:ask { path = "/judge" }))
    assert.same({ 0, "" }, { server:stop() })
  end)

  it("keeps nobody waiting while its endpoint thinks", function()
    local reason = judges.missing()
    if reason then return pending(reason) end
    local endpoint = judges.start { delay = 1500 }
    local server = served.start(common .. ("--judge openai --base-url %s --journal %s/judge.jsonl"):format(endpoint.url, dir))
    local slow, second = server:connect(), server:connect()
    slow:request(request "There is a car.")
    second:request(request "There is a dog.")
    for _ = 1, 3 do assert.equal(200, (server:ask(served.completion()))) end
    assert.is_false(slow:fill(0))
    assert.equal(200, (slow:head(20)))
    second:close()                                     -- before it is judged
    assert.equal(200, (server:ask(served.completion())))
    -- what was paid for is not asked again
    assert.equal(200, (server:ask(request "There is a car.")))
    assert.is_true(endpoint:asked() <= 2)
    -- a signal lets what was accepted be answered
    slow:close()
    local last = server:connect()
    last:request(request "There is an apple.")
    last:fill(0.3)
    server:signal "TERM"
    assert.equal(200, (last:head(20)))
    last:close()
    assert.same({ 0, "" }, { server:ended() })
    endpoint:stop()
  end)

  it("says what goes wrong, and what takes too long", function()
    file.write(dir .. "/broken.lua", [[return { new = function() return { ask = function(_, requests)
      if requests[1].sentences[1] == "Wait" then while true do coroutine.yield() end end
      error("judge: out of order", 0) end } end }]])
    local server = served.start(common .. ("--judge %s/broken.lua --timeout 0.5"):format(dir))
    local waits, behind = server:connect(), server:connect()
    waits:request(request "Wait.")
    waits:fill(0.1)
    behind:request(request "A car.")
    assert.equal(503, (waits:head(10)))
    assert.equal(503, (behind:head(10)))
    waits:close()
    behind:close()
    assert.equal(0, (server:stop()))
    server = served.start(common .. ("--judge %s/broken.lua"):format(dir))
    local status, body = server:ask(request "A car.")
    assert.same({ 500, "judge: out of order" }, { status, body.error.message })
    assert.equal(200, (server:ask(served.completion())))
    server:stop()
  end)

  it("is not there unless it is asked for", function()
    local server = served.start(("--model %s --name tiny --quiet"):format(dir))
    local status, body = server:ask(request "A car.")
    assert.same({ 404, "this server has no judge; --judge names one" }, { status, body.error.message })
    assert.truthy(select(2, server:ask { path = "/" }):find("judged = false", 1, true))
    server:stop()
  end)
end)
