-- What a model is given to read, told from its small files alone; and lucid describe --explain.
local lucid = require "lucid"
local file = require "lucid.file"
local json = require "lucid.json"
local support = require "tests.support.folder"

local TOKENIZER = "tests/golden/tokenizer/"
local dir

before_each(function()
  dir = support.folder()
  file.write(dir .. "/tokenizer.model", file.read(TOKENIZER .. "tokenizer.model"))
end)
after_each(function() support.remove(dir) end)

local function config(text) file.write(dir .. "/config.json", text) end

local LLAVA = [[{ "model_type": "llava", "vision_config": { "image_size": 28, "patch_size": 14 } }]]

describe("an explanation", function()
  it("needs no weights: kind, template and the picture's rows follow from config.json", function()
    config(LLAVA)
    local e = lucid.explain { model = dir, prompt = "Is it red?" }
    assert.same({ "llava", "llava_v1", 4 }, { e.kind, e.template, e.rows })
    local t = require("lucid.prompt").template "llava_v1"
    assert.same(t:tokens(lucid.tokenizer(dir), "Is it red?"), e.ids)
    assert.equal(lucid.IMAGE, e.ids[e.image])
    assert.same({}, e.spans)
    local text = e:text()
    assert.truthy(text:find("template   llava_v1, the usual one of llava", 1, true))
    assert.truthy(text:find(("picture    places %d to %d (4 rows)"):format(e.image, e.image + 3), 1, true))
    assert.truthy(text:find(("%d-%d   -200  <image>"):format(e.image, e.image + 3), 1, true))
    assert.truthy(text:find(("%d         the answer begins here"):format(#e.ids + 4), 1, true))
  end)

  it("counts the published models' rows", function()
    config [[{ "model_type": "llava" }]]
    assert.equal(576, lucid.explain({ model = dir, prompt = "Q" }).rows)
    config [[{ "model_type": "llava", "vision_feature_select_strategy": "full" }]]
    assert.equal(577, lucid.explain({ model = dir, prompt = "Q" }).rows)
    config [[{ "model_type": "instructblip" }]]
    assert.equal(32, lucid.explain({ model = dir, prompt = "Q" }).rows)
    config [[{ "model_type": "llama" }]]
    assert.equal(64, lucid.explain({ model = dir, prompt = "Q", template = "minigpt4" }).rows)
  end)

  it("counts the rows of files that are named beside it", function()
    config [[{ "model_type": "llama" }]]
    local root = "tests/golden/bridges/"
    local function rows(bridge)
      return lucid.explain({ model = dir, prompt = "Q", vision = root .. "tower.pth", bridge = root .. bridge }).rows
    end
    assert.equal(4, rows "joined.pth")
    assert.equal(5, rows "qformer.pth")
  end)

  it("shows which ids of an answer are scored", function()
    config(LLAVA)
    local e = lucid.explain { model = dir, prompt = "Is it red?", answer = "Yes.", template = "tiny_v1", train = true }
    local span = e.spans[1]
    assert.equal(#e.ids, span[2])
    assert.equal(2, e.ids[#e.ids])
    local scored = select(2, e:text():gsub("scored\n", "")) + (e:text():find("scored$") and 1 or 0)
    assert.equal(span[2] - span[1] + 1, scored)
    assert.truthy(e:text():find("tiny_v1, named by --template, in its training form", 1, true))
  end)

  it("has what the Q-Former reads, where BERT's vocabulary is known", function()
    config [[{ "model_type": "instructblip", "num_query_tokens": 4 }]]
    local without = lucid.explain { model = dir, prompt = "Is the car blue?" }
    assert.is_nil(without.qformer)
    assert.truthy(without:text():find("--bert names its vocabulary", 1, true))
    local e = lucid.explain { model = dir, prompt = "Is the car blue?", bert = TOKENIZER .. "lines/vocab.txt" }
    assert.equal("[CLS]", e.bert:piece(e.qformer[1]))
    assert.equal("[SEP]", e.bert:piece(e.qformer[#e.qformer]))
    assert.truthy(e:text():find("blue\n", 1, true))
    assert.error_matches(function() lucid.explain { model = dir, prompt = "Q", bert = TOKENIZER } end, "vocab.txt is expected")
    local long = lucid.explain { model = dir, prompt = ("car "):rep(300), bert = TOKENIZER .. "lines/vocab.txt" }
    assert.equal(128, #long.qformer)
  end)

  it("of a decoder's folder asks what the bridge makes of it", function()
    config [[{ "model_type": "llama" }]]
    assert.error_matches(function() lucid.explain { model = dir, prompt = "Q" } end, "name a template %(%-%-template%)")
    local e = lucid.explain { model = dir, prompt = "Q", bridge = "tests/golden/bridges/qformer.pth" }
    assert.same({ "instructblip", "instructblip" }, { e.kind, e.template })
    assert.equal("minigpt4", lucid.explain({ model = dir, prompt = "Q", bridge = "tests/golden/bridges/joined.pth" }).kind)
  end)

  it("of a tokenizer's folder works with a template", function()
    local e = lucid.explain { model = dir, prompt = "Q", template = "examples/08_own_template.lua" }
    assert.is_nil(e.rows)
    assert.truthy(e:text():find("how many rows is not known", 1, true))
  end)
end)

describe("lucid describe --explain", function()
  local BIN = require "tests.support.program"
  local function run(words)
    local status = os.execute(("%s %s >%s/out 2>%s/err"):format(BIN, words, dir, dir))
    return status, file.read(dir .. "/out"), file.read(dir .. "/err")
  end

  it("prints the explanation, also as JSON, and asks for a picture without it", function()
    config(LLAVA)
    local words = "describe --model " .. dir .. " --prompt 'Is it red?'"
    local e = lucid.explain { model = dir, prompt = "Is it red?" }
    local status, out = run(words .. " --explain")
    assert.equal(0, status)
    assert.equal(e:text() .. "\n", out)
    status, out = run(words .. " --explain --json --answer Yes.")
    assert.equal(0, status)
    local t = json.decode(out)
    assert.equal(#t.ids, #t.pieces)
    assert.equal(#t.ids, t.scored[2])
    assert.same({ at = e.image, rows = 4 }, t.image)
    local _, _, err = run(words)
    assert.equal("lucid: --image is required; --help lists all options\n", err)
  end)
end)
