-- A model of Lucid's own as the judge: replies depend on the request alone, and a journal keeps them.
local folder = require "tests.support.folder"
local file = require "lucid.file"
local lucid = require "lucid"
local native = require "lucid.native"

local MODEL = native.root .. "tests/golden/llava_tiny/classic"

describe("the judge local", function()
  local dir, judge
  setup(function()
    dir = folder.folder()
    judge = lucid.judge["local"].new { model = MODEL, quiet = true, batch = 3 }
  end)
  teardown(function() folder.remove(dir) end)

  local function request(text, more)
    local r = { kind = "judge", text = "Judge what follows. " .. text }
    for name, value in pairs(more or {}) do r[name] = value end
    return r
  end

  local function never() return false end

  it("answers each request as if it were alone, as the model does", function()
    local list = { request "a dog", request "a car", request "a dog and a car", request("in the image", { kind = "ask" }), request "a dog" }
    local replies, m = judge:ask(list), lucid.model(MODEL)
    for i, r in ipairs(list) do
      local alone = m:generate_all({ { prompt = r.text } }, { max_new_tokens = r.kind == "ask" and 300 or 800,
        stop = r.kind == "judge" and { "###" } or nil })[1]
      assert.equal(alone.text, replies[i].text)
      assert.equal(#alone.ids, replies[i].usage.completion_tokens)
    end
  end)

  it("draws unreadable answers anew, the same each time and in any company", function()
    local replies = judge:ask { request("a dog", { accept = never }), request("a car", { accept = never, retries = 1 }) }
    assert.same({ 3, 2 }, { replies[1].attempts, replies[2].attempts })
    assert.is_false(replies[1].accepted)
    local other = lucid.judge["local"].new { model = MODEL, quiet = true, batch = 2 }
    local again = other:ask { request "something else", request("a dog", { accept = never }), request("a dog", { sample = 2 }) }
    assert.equal(replies[1].text, again[2].text)
    assert.are_not.equal(again[2].text, again[3].text)
  end)

  it("counts what the model cannot read whole", function()
    local own = lucid.judge["local"].new { model = MODEL, quiet = true }
    local replies = own:ask { request(("a dog "):rep(2000)), request "a dog" }
    assert.is_true(replies[1].too_long)
    assert.is_nil(replies[2].too_long)
    assert.equal(1, own.counts.too_long)
  end)

  it("answers from its journal", function()
    local opt = { model = MODEL, quiet = true, journal = dir .. "/j.jsonl", cache = dir .. "/cache" }
    local first = lucid.judge["local"].new(opt)
    local replies = first:ask { request "a dog", request "a car" }
    first:close()
    local text = file.read(dir .. "/j.jsonl")
    local second = lucid.judge["local"].new(opt)
    assert.same(replies, second:ask { request "a dog", request "a car" })
    second:close()
    assert.equal(text, file.read(dir .. "/j.jsonl"))
  end)

  it("takes an adapter, whose answers are its own in a journal, too", function()
    local adapted = lucid.model(MODEL)
    adapted:lora { rank = 2, alpha = 64 }
    for _, p in ipairs(adapted:all_parameters()) do
      if p.name:find "lora_B" then p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = 3 })) end
    end
    adapted:save_adapter(dir .. "/run/adapter")
    local opt = { model = MODEL, quiet = true, journal = dir .. "/adapted.jsonl", cache = dir .. "/cache" }
    local function answer()
      local j = lucid.judge["local"].new(opt)
      local text = j:ask({ request "a dog" })[1].text
      j:close()
      return text, select(2, file.read(opt.journal):gsub("\n", ""))
    end
    local plain, lines = answer()
    assert.equal(1, lines)
    opt.adapter = dir .. "/run"
    local own
    own, lines = answer()
    assert.equal(2, lines)
    assert.not_equal(plain, own)
    assert.equal(adapted:generate_all({ { prompt = request("a dog").text } }, { max_new_tokens = 800, stop = { "###" } })[1].text, own)
    local parsed = lucid.args({ groups = { lucid.judge.options } }, { "--judge", "local", "--judge-adapter", opt.adapter })
    assert.equal(opt.adapter, lucid.judge.settings(parsed).adapter)
  end)

  it("is opened by the recipes' options, and needs a model", function()
    local opt = lucid.args({ common = "device dtype quiet", groups = { lucid.judge.options } }, { "--judge", "local", "--quiet", "--judge-model", MODEL })
    assert.equal(1, #lucid.judge.open(opt):ask { request "a dog" })
    opt = lucid.args({ groups = { lucid.judge.options } }, { "--judge", "local" })
    local ok, reason = pcall(lucid.judge.open, opt)
    assert.is_false(ok)
    assert.is_truthy(reason:find("--judge-model", 1, true))
  end)
end)
