-- Bad input from outside: one line that names the fault, the right status, earlier results intact.
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local folder = require "tests.support.folder"
local tiny = require "tests.support.tiny"

local dir, model, world, pairs_dir, picture

-- Runs bin/lucid; status, stderr.
local function lucid(words)
  local status = os.execute(("LUCID_DEBUG= bin/lucid %s >%s/out 2>%s/err </dev/null"):format(words, dir, dir))
  if status > 255 then status = math.floor(status / 256) end
  return status, file.read(dir .. "/err")
end

local function fails(words, expected, ...)
  local status, text = lucid(words)
  assert.equal(expected, status, words .. "\n" .. text)
  local _, lines = text:gsub("\n", "")
  assert.equal(1, lines, text)
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
  return ("llava --model %s --images %s --data %s --steps 1 --rank 2 --lr 1e-4 --quiet --out %s/run %s"):format(
    model, world, pairs_dir, dir, more)
end

local function tuned_with(data)
  return ("sft --model %s --data %s --images %s --steps 1 --quiet --out %s/sft"):format(model, data, world, dir)
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
      ["--threads -3"] = "--threads", ["--dtype nonsense"] = "none of f32, bf16, f16", ["--seed nan"] = "--seed",
      ["--stop"] = "a value is missing", ["more"] = "'more' is not an option",
    } do fails(describe_with(more), 2, part) end
    fails("describe --model " .. model, 2, "--image is required")
    for more, part in pairs {
      ["--batch 0"] = "--batch", ["--rank 0"] = "--rank", ["--steps -1"] = "--steps", ["--lr -1"] = "--lr",
      ["--schedule x"] = "cosine, linear, constant", ["--sampling x"] = "offline, all, zip",
    } do fails(train_with(more), 2, part) end
  end)

  it("names pictures that cannot be read", function()
    local whole = file.read(picture)
    put("cut.jpg", whole:sub(1, 600))
    put("empty.jpg", "")
    for _, name in ipairs { "cut.jpg", "empty.jpg", "none.jpg" } do
      fails(("describe --model %s --image %s/%s"):format(model, dir, name), 1, name)
    end
    assert.equal(0, (lucid(train_with(""))))
    local adapter = dir .. "/run/adapter/adapter_model.safetensors"
    local before = file.hash(adapter)
    file.write(picture, whole:sub(1, 600))
    fails(train_with(""), 1, "300001.jpg", "damaged")
    file.write(picture, whole)
    assert.equal(before, file.hash(adapter))
  end)

  it("names pairs whose picture is missing, or counts them", function()
    write_pairs(77)
    fails(train_with("--out " .. dir .. "/missing"), 1, "desc/1/1", "77", "--skip-missing")
    assert.falsy(file.exists(dir .. "/missing"))
    fails(train_with("--skip-missing"), 1, "2 without their picture")
    write_pairs(300001)
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
    fails(describe_with("--device gpu"), 1, "gpu")
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

  it("says where it cannot write", function()
    put("file", "kept")
    fails(train_with(("--out %s/file"):format(dir)), 1, dir .. "/file")
    assert.equal("kept", file.read(dir .. "/file"))
    if os.execute("unshare -rm true 2>/dev/null") ~= 0 then pending("no user namespaces here") end
    local full = dir .. "/full"
    file.mkdir(full)
    local script = put("full.sh", ("mount -t tmpfs -o size=32k none %s && echo old >%s/keep && bin/lucid %s 2>%s/err"
      .. " >/dev/null; s=$?; grep -q old %s/keep && exit $s\n"):format(full, full,
      train_with("--rank 16 --out " .. full), dir, full))
    local status = os.execute("unshare -rm sh " .. script)
    assert.equal(1, status > 255 and status / 256 or status)
    local text = file.read(dir .. "/err")
    assert.truthy(text:find("No space left on device", 1, true), text)
    assert.equal(1, (select(2, text:gsub("\n", ""))))
  end)
end)
