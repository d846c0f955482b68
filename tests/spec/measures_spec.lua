-- The recipes shr, chair and amber by the command line, on a tiny model and on texts made elsewhere.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local program = require "tests.support.program"
local training = require "tests.support.training"

local dir
setup(function()
  dir = folder.folder()
  training.world(dir)
end)
teardown(function() folder.remove(dir) end)

-- What a command prints, and what it says on stderr; it has to end well.
local function lucid(words, ...)
  words = words:format(...)
  local pipe = io.popen(("%s %s 2>%s/stderr"):format(program, words, dir))
  local text = pipe:read("*a")
  pipe:close()
  local said = file.read(dir .. "/stderr")
  assert.is_nil(said:find("lucid: ", 1, true), said)
  return text, said
end

-- How a command fails: one line.
local function fails(words, expected)
  local ending, said = training.run(words, dir)
  assert.not_equal(0, ending)
  assert.truthy(said:find(expected, 1, true), said)
  assert.equal(1, select(2, said:gsub("\n", "\n")), said)
end

local function samples_of(out)
  local list = {}
  for s in json.each(out .. "/samples.jsonl") do list[#list + 1] = s end
  return list
end

describe("lucid shr", function()
  local function shr(more)
    return lucid("shr --data %s/world/shr --images %s/world --quiet --json %s", dir, dir, more)
  end

  it("describes, judges and writes both forms of its numbers", function()
    local out = dir .. "/shr"
    local printed = json.decode(shr(("--model %s/model --beams 2 --max-new-tokens 12 --as-published --out %s"):format(dir, out)))
    local results = json.read(out .. "/results.json")
    local metrics = json.read(out .. "/metrics.json")
    for _, name in ipairs { "shr", "sentences_per_image", "words_per_image", "gram_4", "unparsed", "too_long" } do
      assert.is_number(results.shr[name].value)
    end
    assert.equal(results.shr.shr.value, printed.shr.shr.value)
    assert.equal(6, results.published.num_images.value)
    assert.equal(results.published.hal_words_ratio.value, metrics.run1.hal_words_ratio)
    assert.equal(dir .. "/model", metrics.model_path)
    local judged = json.read(out .. "/judgement.json").run1
    for _, s in ipairs(samples_of(out)) do
      assert.equal(s.response, judged[tostring(s.image_id)].model_response)
    end
  end)

  it("scores texts and judgements that were made elsewhere", function()
    local texts = {}
    for i = 1, 6 do texts[i] = json.encode { question_id = 300000 + i, text = "A red car. A red car. There is a zebra." } end
    texts[7] = json.encode { question_id = 1, text = "Unused." }
    file.write(dir .. "/texts.jsonl", table.concat(texts, "\n"))
    local out = dir .. "/elsewhere"
    local printed = json.decode(shr(("--responses %s/texts.jsonl --as-published --out %s"):format(dir, out)))
    assert.equal(2, printed.shr.sentences_per_image.value)
    local judged = json.read(out .. "/judgement.json").run1["300001"]
    assert.equal("A red car. A red car. There is a zebra.", judged.mode_response)
    assert.is_nil(judged.model_response)
    assert.is_nil(json.read(out .. "/metrics.json").model_path)
    local again = json.decode((lucid("shr --judgements %s/judgement.json --json", out)))
    assert.same(printed.published, again.published)
    for _, name in ipairs { "shr", "words_per_image" } do assert.same(printed.shr[name], again.shr[name]) end
    printed = json.decode(shr(("--responses %s/texts.jsonl --max-prompt 10"):format(dir)))
    assert.equal(6, printed.shr.too_long.value)
    assert.is_true(printed.shr.shr.undefined)
    printed = json.decode(shr(("--responses %s/texts.jsonl --judge none --metric repetition"):format(dir)))
    assert.is_nil(printed.shr.shr)
    assert.is_true(printed.shr.gram_1.value < 1)
  end)

  it("says what it lacks", function()
    fails("shr --model x", "--data is required")
    fails(("shr --judgements %s/nowhere.json"):format(dir), "nowhere.json")
  end)
end)
