-- lucid serve from outside, over plain sockets: completions, their errors, who is let in, and its end.
local base64 = require "lucid.base64"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local served = require "tests.support.served"
local tiny = require "tests.support.tiny"

local QUESTION = "Is there a car in the image?"
local dir, m, pictures, server

if served.missing() then
  describe("lucid serve", function()
    it("serves", function() pending(served.missing()) end)
  end)
  return
end

setup(function()
  dir = folder.folder()
  m = tiny.model(dir, 3)
  pictures = tiny.pictures(dir, 3)
  server = served.start(("--model %s --name tiny --dtype f32 --max-body 0.25 --quiet"):format(dir))
end)
teardown(function()
  server:stop()
  folder.remove(dir)
end)

local function url_of(path) return "data:image/png;base64," .. base64.encode(file.read(path)) end

local function message(text, picture)
  if not picture then return { role = "user", content = text } end
  return { role = "user", content = { { type = "text", text = text }, { type = "image_url", image_url = { url = url_of(picture) } } } }
end

-- A completion's body.
local function body(fields)
  local b = { model = "tiny", messages = { message(QUESTION) }, max_tokens = 6 }
  for name, value in pairs(fields or {}) do b[name] = value end
  for i, one in ipairs(b.messages) do b.messages[i] = one end
  return json.encode(b)
end

local function complete(fields) return server:ask { path = "/v1/chat/completions", body = body(fields) } end

describe("a completion", function()
  it("is the answer that lucid describe gives, and what it cost", function()
    for _, picture in ipairs { false, unpack(pictures) } do
      local text, a = m:generate { image = picture or nil, prompt = QUESTION, max_new_tokens = 6 }
      local status, got = complete { messages = { message(QUESTION, picture) } }
      assert.same({ 200, text, "length", "assistant" }, { status, got.choices[1].message.content,
        got.choices[1].finish_reason, got.choices[1].message.role })
      assert.equal(#a.ids, got.usage.completion_tokens)
      assert.equal(got.usage.prompt_tokens + got.usage.completion_tokens, got.usage.total_tokens)
      assert.equal("chat.completion", got.object)
    end
  end)
end)

describe("the server", function()
  it("ends in order when it is told to", function()
    for _, signal in ipairs { "TERM", "INT" } do
      local own = served.start(("--model %s --quiet"):format(dir))
      assert.equal(200, (own:ask { path = "/healthz" }))
      own:signal(signal)
      assert.same({ 0, "" }, { own:ended() })
    end
  end)
end)
