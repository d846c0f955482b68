-- Bad input from outside: one line that names the fault, the right status, earlier results intact.
local build = require "tests.support.torchfile"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local program = require "tests.support.program"
local tiny = require "tests.support.tiny"

local dir, model, world, pairs_dir, picture

-- Runs lucid; status, stderr.
local function lucid(words)
  local status = os.execute(("LUCID_DEBUG= %s %s >%s/out 2>%s/err </dev/null"):format(program, words, dir, dir))
  if status > 255 then status = math.floor(status / 256) end
  return status, file.read(dir .. "/err")
end

local function fails(words, expected, ...)
  local status, text = lucid(words)
  assert.equal(expected, status, words .. "\n" .. text)
  local _, lines = text:gsub("\n", "")
  assert.equal(1, lines, text)
  assert.falsy(text:find("lucid/[%w_/]+%.lua:%d+:"), "a place in lucid's own files: " .. text)
  assert.falsy(text:find("recipes/[%w_/]+%.lua:%d+:"), "a place in a recipe: " .. text)
  for _, part in ipairs { ... } do
    assert.truthy(text:find(part, 1, true), ("'%s' is not in: %s"):format(part, text))
  end
end

local function put(name, text)
  file.write(dir .. "/" .. name, text)
  return dir .. "/" .. name
end

local function describe_with(more)
  return ("describe --model %s --image %s --max-new-tokens 4 %s"):format(model, picture, more)
end

local function train_with(more)
  return ("llava --model %s --images %s --data %s --steps 1 --rank 2 --lr 1e-4 --quiet --overwrite --out %s/run %s"):format(
    model, world, pairs_dir, dir, more)
end

local function tuned_with(data)
  return ("sft --model %s --data %s --images %s --steps 1 --quiet --overwrite --out %s/sft"):format(model, data, world, dir)
end

local function write_pairs(id)
  file.write(pairs_dir .. "/desc_data.json", ([[[{"image_id": "%d", "chosen": ["a red car."], "rejected": ["a blue cat."]}]
]]):format(id))
  file.write(pairs_dir .. "/pope_data.json", ([[[{"image_id": "%d", "question": "Is there a cat in the image?",
    "answer": "no", "chosen": "No.", "reject": "Yes.", "correct": false}]
]]):format(id))
end

describe("bad input", function()
  setup(function()
    dir = folder.folder()
    model, world, pairs_dir = dir .. "/model", dir .. "/world", dir .. "/pairs"
    tiny.model(model, 3)
    files.write { dir = world, split = "eval", seed = 3, count = 6, seen = 24 }
    picture = world .. "/VG_100K/300001.jpg"
    file.mkdir(pairs_dir)
    write_pairs(300001)
  end)
  teardown(function() folder.remove(dir) end)

  it("refuses wrong options with status 2", function()
    for more, part in pairs {
      ["--tempperature 1"] = "--temperature", ["--seed x"] = "'x' is not a number", ["--seed 1.5"] = "whole",
      ["--max-new-tokens 0"] = "--max-new-tokens", ["--temperature -1"] = "--temperature", ["--top-p 7"] = "--top-p",
      ["--threads -3"] = "--threads", ["--dtype nonsense"] = "none of auto, f32, bf16, f16", ["--seed nan"] = "--seed",
      ["--stop"] = "a value is missing", ["--beams 0"] = "--beams", ["--length-norm x"] = "none of full, new",
      ["--as-published x"] = "none of shr, pope", ["--repetition-penalty 0"] = "--repetition-penalty",
    } do fails(describe_with(more), 2, part) end
    fails("describe --model " .. model, 2, "--image is required")
    for more, part in pairs {
      ["--batch 0"] = "--batch", ["--rank 0"] = "--rank", ["--steps -1"] = "--steps", ["--lr -1"] = "--lr",
      ["--schedule x"] = "none of cosine, linear", ["--sampling x"] = "offline, all, zip",
      ["more"] = "'more' is not an option",
    } do fails(train_with(more), 2, part) end
    for _, host in ipairs { "0.0.0.0", "::", "nowhere" } do
      fails(("serve --model %s --host %s"):format(model, host), 2, "--host " .. host, "a key is needed", "--api-key-file")
    end
    fails(("serve --model %s --judge annotation"):format(model), 2, "--images")
  end)

  it("names pictures that cannot be read", function()
    local whole = file.read(picture)
    put("cut.jpg", whole:sub(1, 600))
    put("empty.jpg", "")
    for _, name in ipairs { "cut.jpg", "empty.jpg", "none.jpg" } do
      fails(("describe --model %s --image %s/%s"):format(model, dir, name), 1, name)
    end
    file.write(picture, whole:sub(1, 600))
    fails(train_with(""), 1, "300001.jpg", "damaged")
    file.write(picture, whole)
    assert.falsy(file.exists(dir .. "/run/adapter"))
  end)

  it("names pairs whose picture is missing, or counts them", function()
    write_pairs(77)
    fails(train_with("--out " .. dir .. "/missing"), 1, "desc/1/1", "77", "--skip-missing")
    assert.falsy(file.exists(dir .. "/missing"))
    fails(train_with("--skip-missing"), 1, "2 without their picture")
    write_pairs(300001)
  end)

  it("names small files beside the weights that are none of theirs", function()
    for name, texts in pairs {
      ["generation_config.json"] = { "5", "null", "[1]" }, ["tokenizer_config.json"] = { "[]", "null" },
      ["special_tokens_map.json"] = { "true" }, ["preprocessor_config.json"] = { "[]", '{"image_mean": [1]}', '{"image_std": "x"}' },
    } do
      local path = model .. "/" .. name
      local before = file.exists(path) and file.read(path)
      for _, text in ipairs(texts) do
        file.write(path, text)
        fails(describe_with(""), 1, name)
      end
      if before then file.write(path, before) else file.remove(path) end
    end
    file.write(model .. "/tokenizer.json", '{"added_tokens": [5, {"id": "x", "content": "<q>"}]}')
    assert.equal(0, (lucid(describe_with(""))))
    file.write(model .. "/tokenizer.json", '{"added_tokens": 5}')
    assert.equal(0, (lucid(describe_with(""))))
    file.remove(model .. "/tokenizer.json")
    file.mkdir(dir .. "/number")
    put("number/config.json", "5")
    fails(("describe --explain --model %s/number"):format(dir), 1, "number/config.json: a JSON object is expected")
  end)

  it("names models, devices and adapters that do not work", function()
    local broken = dir .. "/broken"
    os.execute(("cp -r '%s' '%s'"):format(model, broken))
    local words = ("describe --model %s --image %s"):format(broken, picture)
    file.write(broken .. "/model.safetensors", "")
    fails(words, 1, "model.safetensors", "0 bytes")
    file.write(broken .. "/config.json", "[1,\n")
    fails(words, 1, "config.json:2:1")
    fails(("describe --model %s/none --image %s"):format(dir, picture), 1, "none", "no such folder")
    fails(describe_with("--adapter " .. world), 1, "adapter_config.json")
    fails(describe_with("--device gpu"), 2, "gpu")
  end)

  it("names data files, records and keys", function()
    fails(tuned_with(put("a.json", [=[[{"id": "1", "conversation": []}]]=])), 1, "a.json", "record 1", "conversations")
    fails(tuned_with(put("b.json", "[3]")), 1, "b.json", "record 1")
    fails(tuned_with(put("c.json", "[]")), 1, "c.json", "no conversations")
    fails(tuned_with(put("d.json", "[{\n,")), 1, "d.json:2:1")
    local asked = ("pope --model %s --images %s --quiet --questions "):format(model, world)
    fails(asked .. put("q.json", '[{"image": "a.jpg", "text": "?", "labl": "no"}]'), 1, "q.json", "question 1", "label")
    fails(asked .. put("e.json", ""), 1, "e.json", "no questions")
    file.write(pairs_dir .. "/desc_data.json", '[{"image_id": "300001", "choosen": ["a"], "rejected": ["b"]}]')
    fails(train_with(""), 1, "desc_data.json", "record 1", "chosen")
    file.write(pairs_dir .. "/desc_data.json", "[]")
    file.write(pairs_dir .. "/pope_data.json", "[]")
    fails(train_with(""), 1, "no pairs")
    write_pairs(300001)
  end)

  it("names files of the user's own that do not hold what they should", function()
    local three, bad, nothing = put("three.lua", "return 3"), put("bad.lua", "return 3 +"), put("nothing.lua", "")
    fails(train_with("--loss " .. three), 1, "three.lua", "a number, not a function")
    fails(train_with("--loss " .. nothing), 1, "nothing.lua", "returns nothing")
    fails(train_with("--loss " .. bad), 1, "bad.lua:1: unexpected symbol")   -- theirs: the place helps
    fails(train_with("--loss " .. dir .. "/none.lua"), 1, "none.lua", "No such file")
    fails(train_with("--loss hinge --label-smoothing 0.1"), 2, "--label-smoothing", "hinge does not take it")
    fails(train_with("--loss sigmoid,aot --mix desc:1"), 2, "--mix", "aot does not take it")
    fails(train_with("--ld-alpha 2"), 2, "--ld-alpha", "at most 1")
    fails(describe_with("--template " .. three), 1, "three.lua", "{ text = ... }")
    fails(describe_with("--template " .. put("t.lua", "return { text = 'Q: {q}' }")), 1, "t.lua", "<image>")
    local described = ("shr --model %s --data %s/shr --images %s --quiet "):format(model, world, world)
    fails(described .. "--judge " .. three, 1, "three.lua", "'new'")
    fails(described .. "--metric " .. three, 1, "three.lua", "'score'")
    fails(described .. "--metric pope", 1, "metric pope needs answers")
    fails(described .. "--prompt " .. three, 1, "three.lua", "a number, not a function")
    local asked = ("pope --model %s --questions %s/pope/coco_pope_random.json --images %s --limit 1 --quiet --metric "):format(
      model, world, world)
    fails(asked .. "repetition", 1, "metric repetition needs descriptions")
    for text, part in pairs {
      ["nil"] = "returns a nil", ["{ a = 1 }"] = "a has no value", ["{ a = { value = 0/0 } }"] = "a has no value",
    } do
      fails(asked .. put("m.lua", ("return { score = function() return %s end }"):format(text)), 1, "m.lua", part)
    end
    for body, part in pairs {
      [""] = "returns a nil, not a tensor", ["return p.chosen"] = "a tensor of 3 elements, not a tensor of one number",
      ["return p.chosen:sum(), 3"] = "what it logs is a number, not a table",
      ["return p.chosen:sum(), { a = 'x' }"] = "it logs a string as 'a'",
      ["return p.chosen:sum(), { a = p.chosen }"] = "it logs a tensor of 3 elements as 'a'",
      ["return p.chosen:sum(), { 2 }"] = "it logs a number as '1'",
    } do
      fails(train_with("--loss " .. put("l.lua", ("return function(p) %s end"):format(body))), 1, "l.lua", part)
      fails(train_with(("--loss sft,%s/l.lua:1"):format(dir)), 1, "l.lua", part)
    end
    assert.equal(0, (lucid(train_with("--loss " .. put("l.lua", "return function(p) return p.chosen:sum() end")))))
    fails(described .. "--prompt " .. dir .. "/none.lua", 1, "none.lua")
    fails(described .. "--nouns " .. dir .. "/none.json", 1, "none.json")
    for text, part in pairs {
      ['{"a": 1}'] = "no categories", ['{"categories": 5}'] = "not a list",
      ['[{"name": "car", "synonyms": [5]}]'] = "category 1: its synonyms are not a list of texts",
      ['{"categories": [{"name": "car"}], "colours": 5}'] = "its colours are not",
    } do fails(described .. "--nouns " .. put("n.json", text), 1, "n.json", part) end
    fails(described .. "--responses " .. put("r.json", '{"300001": 3}'), 1, "r.json", "300001")
  end)

  it("lists what there is where an option names something that is not", function()
    fails(train_with("--loss nix"), 2, "--loss: there is no loss 'nix'; aot, ", ", sppo_hard are known, or a file")
    fails(train_with("--loss sft:1,nix:2"), 2, "no loss 'nix'")
    fails(train_with("--loss sft:0"), 2, "--loss: loss 'sft:0': a weight is above 0")
    for _, words in ipairs { train_with("--template nix"), describe_with("--template nix") } do
      fails(words, 2, "--template: there is no template 'nix'; instructblip, ", "vicuna_v1 are known")
    end
    local described = ("shr --model %s --data %s/shr --images %s --quiet "):format(model, world, world)
    fails(described .. "--judge nix", 2, "--judge: there is no judge 'nix'; annotation, ", "replay are known")
    fails(described .. "--metric nix", 2, "--metric: there is no metric 'nix'; amber, ", "shr_published are known")
    for option, part in pairs { group = "image, pair, none", recompute = "auto, on, off", quant = "none, q8_0, nf4, fp4",
      ["f-divergence-type"] = "reverse_kl, forward_kl", ["gamma-on"] = "chosen, captions", sync = "all_reduce, none",
      ["non-finite"] = "stop, skip", ["over-long"] = "error, skip", ["bco-shift"] = "running, none", ["reference-cache"] = "on, off" } do
      fails(train_with(("--%s nix"):format(option)), 2, ("--%s: 'nix' is none of "):format(option), part)
    end
  end)

  it("names lists in options that are none", function()
    for more, part in pairs {
      ["--mix desc:0"] = "1 or more", ["--mix desc"] = "'desc' is not KIND:COUNT", ["--repeat desc:x"] = "KIND:COUNT",
      ["--mix dsc:3"] = "'dsc:3': kinds are desc and pope", ["--repeat dsc:3"] = "'dsc:3': kinds are desc and pope",
      ["--mix desc:1,desc:2"] = "desc has a count already", ["--pope-weight 4"] = "--pope-weight is used with --mix",
      ["--captions x --gamma-on captions --gamma 0"] = "--captions: --gamma 0 leaves them out",
    } do fails(train_with(more), 2, part) end
    fails(train_with("--targets q_proj,nix"), 2, "--targets: 'nix' is none of q_proj, k_proj")
    fails(train_with("--targets q_proj,"), 2, "--targets: '' is none of q_proj, k_proj")
    fails((train_with("--epochs 0"):gsub("%-%-steps 1", "")), 2, "--epochs", "train nothing")
    local words = tuned_with(dir .. "/none.json")
    for more, part in pairs {
      ["--train ear"] = "'ear' is none of vision", ["--weights a:b"] = "'a:b' is not NAME:WEIGHT", ["--weights a"] = "'a'",
    } do fails(words .. " " .. more, 2, part) end
    fails(tuned_with(","), 2, "--data")
    local turns = '[{"id": "t7", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "%s"}]}]'
    fails(tuned_with(put("turns.json", turns:format("b"))) .. " --weights trns:2", 2, "--weights", "trns")
    fails(("sft --model %s --data %s/turns.json --epochs 0 --out %s/sft"):format(model, dir, dir), 2, "--epochs")
    fails(tuned_with(put("long.json", turns:format(("word "):rep(600)))), 1, "long.json", "t7 (", "positions")
    fails(words, 1, "none.json")
  end)

  it("names conversations whose picture is missing, or leaves them out", function()
    local turns = '"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]'
    local path = put("two.json", ('[{"id": "p", "image": "nix.jpg", %s}, {"id": "q", %s}]'):format(turns, turns))
    fails(tuned_with(path), 1, "two.json", "nix.jpg", "--skip-missing")
    assert.equal(0, (lucid(tuned_with(path) .. " --skip-missing --no-quiet")))
    assert.truthy(file.read(dir .. "/err"):find("1 records are left out", 1, true))
    file.write(path, ('[{"id": "p", "image": "nix.jpg", %s}]'):format(turns))
    fails(tuned_with(path) .. " --skip-missing", 1, "two.json", "no conversations")
  end)

  it("names answers, questions and runs that are not there", function()
    local questions = world .. "/pope/coco_pope_random.json"
    fails(("pope --questions %s --answers %s/none.jsonl"):format(questions, dir), 1, "none.jsonl")
    fails(("pope --questions %s --answers %s"):format(questions, put("a.jsonl", '{"question_id": 1}\n')), 1, "a.jsonl", "'answer'")
    fails(("pope --questions %s --answers %s"):format(questions, put("a.jsonl", '{"question_id": 1')), 1, "a.jsonl:1:18")
    fails(("pope --questions %s --images %s"):format(questions, world), 1, "--model")
    fails("pope --questions , --images " .. world, 2, "--questions", "no file")
    fails(("pope --questions %s,%s --images %s"):format(questions, questions, world), 2, "both named random")
    fails(("pope --questions %s --model %s --quiet"):format(questions, model), 1, "--images", "not given")
    fails("pope --model " .. model, 2, "--questions", "--annotations")
    fails(("pope --questions %s --annotations x --out y"):format(questions), 2, "--questions, or --annotations")
    fails("pope --annotations x", 2, "--out")
    fails(("pope --annotations %s --out %s/new"):format(put("o.jsonl", '{"image": "a.jpg", "objects": "cat"}\n'), dir), 1, "o.jsonl",
      "picture 1", "'objects'")
    fails(("pope --annotations %s --out %s/new"):format(put("o.jsonl", '{"image": "a.jpg", "objects": ["cat"]}\n'), dir), 1,
      "none of 1 pictures holds 3 things")
    fails(("pope --annotations %s --out %s/new"):format(put("o.json", "[]"), dir), 1, "o.json", "no pictures")
    fails(("pope --questions %s --answers a,b"):format(questions), 2, "2 files for 1")
    fails(("pope --questions %s --answers a --as-published"):format(questions), 2, "--as-published")
    fails(("pope --questions %s --answers a --bootstrap -1"):format(questions), 2, "--bootstrap")
    fails(("pope --questions %s --answers a --compare %s/none"):format(questions, dir), 1, "none")
    fails(("pope --questions %s --answers a --compare %s"):format(questions, dir), 1, "samples.jsonl")
    fails(("pope --questions %s --answers a --compare %s"):format(questions, put("b.jsonl", '{"question_id": 99999, "answer": "no"}\n')),
      1, "b.jsonl", "none of its 1 answers")
    fails(("pope --questions %s --answers a"):format(put("config.json", "[]")), 2, "config.json", "rename")
    fails(("pope --questions %s --images %s/none --model %s --quiet"):format(questions, dir, model), 1, "300001.jpg", "--images")
    fails(("score --model %s --images %s --data %s --explain 99"):format(model, world, pairs_dir), 1, "--explain 99")
    fails(("mine --model %s --images %s --out %s/mined --min-objects 99"):format(model, world, dir), 1, "--min-objects")
    local page = (" --out %s/page.html"):format(dir)
    fails("report" .. page, 2, "at least one")
    fails(("report %s/none"):format(dir) .. page, 1, "no such folder")
    fails("report " .. world .. page, 1, "no run's folder")
    file.mkdir(dir .. "/odd")
    for text, part in pairs { ["3"] = "a JSON object", ["{"] = "results.json:1:2" } do
      put("odd/results.json", text)
      fails(("report %s/odd"):format(dir) .. page, 1, "results.json", part)
    end
    assert.falsy(file.exists(dir .. "/page.html"))
  end)

  it("names the parts of a model's folder that are broken", function()
    local broken = dir .. "/parts"
    local words = ("describe --model %s --image %s"):format(broken, picture)
    for name, cases in pairs {
      ["tokenizer.model"] = { [""] = "tokenizer.model", ["x"] = "tokenizer.model" },
      ["preprocessor_config.json"] = { [""] = ":1:1", ["null"] = "a JSON object", ["[1]"] = "a JSON object",
        ['{"size": "x"}'] = "shortest_edge", ['{"size": {"shortest_edge": "x"}}'] = "shortest_edge",
        ['{"crop_size": {"height": 64}}'] = "crop_size", ['{"image_mean": [1, "x", 1]}'] = "image_mean needs three numbers",
        ['{"image_std": 5}'] = "image_std", ['{"rescale_factor": "x"}'] = "rescale_factor", ['{"resample": 9}'] = "resample 9", ["{}"] = "224 x 224" },
      ["config.json"] = { [""] = ":1:1", ["null"] = "object", ['{"model_type": 3}'] = "model_type" },
      ["model.safetensors"] = { [""] = "0 bytes", ["12345678{}"] = "header" },
    } do
      for text, part in pairs(cases) do
        os.execute(("rm -rf '%s' && cp -r '%s' '%s'"):format(broken, model, broken))
        put("parts/" .. name, text)
        fails(words, 1, name, part)
      end
    end
  end)

  -- A fresh copy of the model's folder; its describe command.
  local function copied()
    os.execute(("rm -rf '%s/copy' && cp -r '%s' '%s/copy'"):format(dir, model, dir))
    return ("describe --model %s/copy --image %s --max-new-tokens 4"):format(dir, picture)
  end

  local function edit(name, change)
    local path = dir .. "/copy/" .. name
    local value = json.read(path)
    change(value)
    json.write(path, value)
  end

  -- The copy's weights in two parts with an index.
  local function split()
    local words, tensors, map = copied(), { {}, {} }, {}
    local c = checkpoint.open(model)
    for i, name in ipairs(c:names()) do
      tensors[1 + i % 2][name] = c:tensor(name)
      map[name] = ("model-0000%d-of-00002.safetensors"):format(1 + i % 2)
    end
    for i = 1, 2 do checkpoint.save(("%s/copy/model-0000%d-of-00002.safetensors"):format(dir, i), tensors[i]) end
    file.remove(dir .. "/copy/model.safetensors")
    put("copy/model.safetensors.index.json", json.encode { weight_map = map })
    return words, c:names()
  end

  it("names what does not fit among weights in parts", function()
    assert.equal(0, (lucid((split()))))
    local index, first, second = "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    for _, row in ipairs {
      { nil, first .. ": the index names this file, but it is not there; get it, too" },
      { "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", first .. ": it is a Git LFS pointer", "git lfs pull" },
      { "<!DOCTYPE html><html></html>", first .. ": it is an HTML page", "get it again" },
    } do
      local words = split()
      file.remove(dir .. "/copy/" .. first)
      if row[1] then put("copy/" .. first, row[1]) end
      fails(words, 1, row[2], row[3])
    end
    for _, row in ipairs {
      { "model-00003-of-00003.safetensors", "/model-00003-of-00003.safetensors: the index names this file" },
      { "../model/model.safetensors", index, "'../model/model.safetensors' is no file beside the index" },
      { "/etc/passwd", index, "'/etc/passwd' is no file beside the index; get the index again" },
      { 3, index, "is no file beside the index" },
      { second, index, "the index does not fit its files" },
    } do
      local words, names = split()
      edit(index, function(t) t.weight_map[names[2]] = row[1] end)
      fails(words, 1, row[2], row[3])
    end
    local words = split()
    put("copy/" .. index, "{}")
    fails(words, 1, index .. ": it has no weight_map")
  end)

  it("names sizes that are not the weights'", function()
    local function sized(section, key, value, ...)
      local words = copied()
      edit("config.json", function(t) t[section][key] = value end)
      fails(words, 1, "/copy", ...)
    end
    sized("text_config", "hidden_size", 64, "embed_tokens.weight (f32 [512, 128], expected [512, 64])")
    sized("text_config", "vocab_size", 600, "lm_head.weight (f32 [512, 128], expected [600, 128])")
    sized("text_config", "num_hidden_layers", 4, "layers.3.mlp.up_proj.weight (missing)")
    sized("text_config", "num_hidden_layers", 2, "layers.2.mlp.up_proj.weight (not part of this model)")
    sized("text_config", "num_hidden_layers", 1e9, '"num_hidden_layers" is 1000000000; 1 to 1024 is possible')
    sized("text_config", "num_key_value_heads", 3, "config.json: language sizes do not fit")
    sized("text_config", "rms_norm_eps", -1, '"rms_norm_eps" is -1, a number above 0 is expected')
    sized("text_config", "rope_theta", 0, '"rope_theta" is 0, a number above 0 is expected')
    sized("vision_config", "intermediate_size", 100, "fc1.bias (f32 [512], expected [100])")
    sized("vision_config", "patch_size", 7, "config.json: vision sizes do not fit")
  end)

  it("names the tokenizer of another model, and what lies in a tokenizer's place", function()
    local own, lines = "tests/golden/tokenizer/tokenizer.model", "tests/golden/tokenizer/lines/vocab.txt"
    for text, parts in pairs {
      [file.read(own)] = { "it has 400 pieces, but the model's vocabulary has 512", "get the one that belongs" },
      [file.read(lines)] = { "not a SentencePiece model", "get the model's tokenizer.model again" },
      ["version https://git-lfs.github.com/spec/v1\n"] = { "it is a Git LFS pointer", "git lfs pull gets it" },
      ["<html></html>"] = { "it is an HTML page, not a tokenizer", "get it again" },
    } do
      local words = copied()
      put("copy/tokenizer.model", text)
      fails(words, 1, "copy/tokenizer.model: ", unpack(parts))
    end
    local words = copied()
    file.remove(dir .. "/copy/tokenizer.model")
    put("copy/vocab.txt", file.read(lines))
    fails(words, 1, "there is no tokenizer.model; put the model's own there")
    local llama = "../shared/data/tokenizer/llama/tokenizer.model"
    if not file.exists(llama) then return pending(llama .. " is not here") end
    words = copied()
    put("copy/tokenizer.model", file.read(llama))
    fails(words, 1, "it has 32000 pieces, but the model's vocabulary has 512")
  end)

  it("names the Q-Former's vocabulary that is none, or another's", function()
    local parts, words = "tests/golden/bridges/", copied()
    os.execute(("cp %slanguage/* %s/copy && cp tests/golden/llava_tiny/classic/tokenizer.model %s/copy"):format(parts, dir, dir))
    words = ("%s --vision %stower.pth --bridge %sqformer.pth --bert "):format(words, parts, parts)
    fails(words .. model, 1, model .. ": BERT's vocab.txt is expected")
    fails(words .. "tests/golden/tokenizer/lines", 1, "golden/tokenizer/lines: it has ", "the Q-Former's vocabulary has 50")
    fails(words .. dir .. "/none", 1, "/none: there is no such tokenizer")
    fails(words .. put("vocab.txt", "<html></html>"), 1, "vocab.txt: it is an HTML page, not a tokenizer")
  end)

  it("runs nothing of a pickle that asks for more than tensors", function()
    local words = copied()
    file.remove(dir .. "/copy/model.safetensors")
    put("copy/pytorch_model.bin", build.file(build.call(build.global("posix", "system"), build.text("touch " .. dir .. "/ran"))))
    fails(words, 1, "copy/pytorch_model.bin: its pickle asks for posix.system", "nothing of it was run", "save its state_dict()")
    assert.falsy(file.exists(dir .. "/ran"))
  end)

  it("keeps the place in scripts, and of faults in lucid itself when asked", function()
    local script = put("s.lua", "local lucid = require 'lucid'\nlucid.zeros{2, 3}:matmul(lucid.zeros{2, 3})")
    fails(script, 1, "s.lua:2: matmul", "[2, 3]")
    fails(put("s.lua", "\nerror 'theirs'"), 1, "s.lua:2: theirs")
    fails(put("s.lua", "\n\nlocal x = nil + 1"), 1, "s.lua:3: attempt")
    fails(put("s.lua", "require 'no.such.module'"), 1, "s.lua:1: module 'no.such.module' not found")
    fails(dir .. "/none.lua", 1, "none.lua")
    os.execute(("LUCID_DEBUG=1 %s %s 2>%s/err"):format(program, describe_with "--model nowhere", dir))
    local text = file.read(dir .. "/err")
    assert.truthy(text:find("describe%.lua:%d+: nowhere: there is no such folder") and text:find("stack traceback", 1, true), text)
  end)

  it("stops merge and export before they write", function()
    local original = "tests/golden/llava_original/model"
    local merge = ("merge --model %s --adapter tests/golden/torchfile/adapter04 --out "):format(original)
    fails(merge .. original, 1, original .. ": it is there already; name a new folder with --out")
    fails(merge .. dir .. "/merged --dtype f8", 2, "--dtype: 'f8' is none of f32, bf16, f16")
    fails(("merge --model %s --adapter %s --out %s/merged"):format(original, dir, dir), 1, "there is no adapter_config.json")
    fails(("export --model %s --layout hf --out %s/exported"):format(original, dir), 1, "give --vision, CLIP's folder")
    fails(("export --model %s --layout both --out %s/exported"):format(original, dir), 2, "'both' is none of hf, original")
    fails(describe_with("--vision tests/golden/bridges/tower.pth --model " .. original), 1, "give --vision, the folder of")
    for _, name in ipairs { "merged", "exported", "merged.partial", "exported.partial" } do
      assert.is_false(file.exists(dir .. "/" .. name))
    end
  end)

  it("says where it cannot write", function()
    put("file", "kept")
    fails(train_with(("--out %s/file"):format(dir)), 1, dir .. "/file")
    assert.equal("kept", file.read(dir .. "/file"))
    if os.execute("unshare -rm true 2>/dev/null") ~= 0 then pending("no user namespaces here") end
    local full = dir .. "/full"
    file.mkdir(full)
    local script = put("full.sh", ("mount -t tmpfs -o size=32k none %s && echo old >%s/keep && %s %s 2>%s/err"
      .. " >/dev/null; s=$?; grep -q old %s/keep && exit $s\n"):format(full, full, program,
      train_with("--rank 16 --out " .. full), dir, full))
    local status = os.execute("unshare -rm sh " .. script)
    assert.equal(1, status > 255 and status / 256 or status)
    local text = file.read(dir .. "/err")
    assert.truthy(text:find("No space left on device", 1, true), text)
    assert.equal(1, (select(2, text:gsub("\n", ""))))
  end)
end)
