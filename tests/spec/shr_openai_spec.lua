-- lucid shr with the judge openai, from descriptions to numbers, beside the judge server: what faults, a budget that
-- ends and a second run make of it is what one quiet run does.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local judge = require "tests.support.judge"
local training = require "tests.support.training"

describe("lucid shr --judge openai", function()
  local missing, dir = judge.missing(), nil
  setup(function()
    dir = folder.folder()
    training.world(dir)
  end)
  teardown(function() folder.remove(dir) end)

  local function shr(server, out, more)
    return training.run(("shr --data %s/world/shr --images %s/world --judge openai --judge-model test --base-url %s --judge-timeout 1"
      .. " --judge-retries 1 --cache none --threads 1 --quiet --out %s/%s %s"):format(dir, dir, server.url, dir, out, more), dir)
  end

  local function results(out) return json.read(("%s/%s/results.json"):format(dir, out)).shr end

  local function test(name, f)
    it(name, function()
      if missing then return pending(missing) end
      local server = judge.start { faults = 40, seed = 4 }
      finally(function() server:stop() end)
      f(server)
    end)
  end

  test("describes, asks, counts what is lost, and asks nothing again", function(server)
    local words = ("--model %s/model --max-new-tokens 12 --beams 2"):format(dir)
    local status, said = shr(server, "a", words)
    assert.equal(0, status, said)
    local asked, samples = server:asked(), file.read(dir .. "/a/samples.jsonl")
    assert.is_true(asked >= 6)
    assert.is_truthy(samples:find "Judgement:")
    assert.same({ 0, "" }, { shr(server, "a", words) })
    assert.equal(asked, server:asked())
    assert.equal(samples, file.read(dir .. "/a/samples.jsonl"))
    assert.is_truthy(file.read(dir .. "/a/results.json"):find('"judge-identity":', 1, true))
  end)

  test("has the same results through faults and a budget as without", function(server)
    local texts = { "A dog", "A [[refuse]] cat", "A [[toolong]] tale", "A [[nonsense]] tale", "A car. A road", "A sun" }
    local list = {}
    for i, text in ipairs(texts) do list[("%d"):format(300000 + i)] = text .. "." end
    json.write(dir .. "/texts.json", list)
    local words, quiet = ("--responses %s/texts.json"):format(dir), judge.start()
    finally(function()
      quiet:stop()
      server:stop()
    end)
    assert.same({ 0, "" }, { shr(quiet, "quiet", words) })
    local r = results "quiet"
    -- The judge says one line; what it says of two sentences cannot be read.
    assert.same({ 1, 1, 2, 2 }, { r.refused.value, r.too_long.value, r.asked_again.value, r.unparsed.value - r.refused.value })

    local status, said = shr(server, "loud", words .. " --max-requests 3")
    assert.equal(256, status)
    assert.is_truthy(said:find("^lucid: judge openai: %-%-max%-requests 3 is reached[^\n]*larger %-%-max%-requests goes on[^\n]*\n$"), said)
    assert.is_nil(file.kind(dir .. "/loud/results.json"))
    assert.same({ 0, "" }, { shr(server, "loud", words) })
    assert.same(r, results "loud")
    assert.equal(file.read(dir .. "/quiet/samples.jsonl"), file.read(dir .. "/loud/samples.jsonl"))
    local faults = 0
    for _, line in ipairs(server:log()) do
      if line.word == "ask" and line.what ~= "answer" and line.what ~= "directed" then faults = faults + 1 end
    end
    assert.is_true(faults > 0)
  end)
end)
