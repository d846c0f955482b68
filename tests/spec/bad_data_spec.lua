-- Bad data files: each is refused by its public reader in one line that names the file, the record and the
-- key. The rows below are whole messages behind the file's name.
local ccsbu = require "lucid.data.ccsbu"
local coco = require "lucid.data.coco"
local file = require "lucid.file"
local hadpo = require "lucid.data.hadpo"
local json = require "lucid.json"
local jsonl = require "lucid.data.jsonl"
local pictures = require "lucid.data.pictures"
local pope = require "lucid.data.pope"
local shr = require "lucid.data.shr"
local support = require "tests.support.folder"
local vg = require "lucid.data.vg"

local root = support.folder()
teardown(function() support.remove(root) end)

-- ---- the readers: the file each opens, and a record that it takes -----------------------------------

local IMAGES = '[{"image_id": 1, "url": "https://x.org/VG_100K/1.jpg", "width": 8, "height": 8}]'

local NO_PAIRS = "there are no pairs to work on: 0 without their picture, 0 already answered right"

local function pairs_of(opt)
  file.write(root .. "/image_data.json", IMAGES)
  opt.images = root
  return hadpo.read(opt)
end

local READERS = {
  desc = { name = "desc_data.json", read = function(path) return pairs_of { desc = path } end,
    good = { image_id = "1", chosen = { "a" }, rejected = { "b" } },
    keys = { image_id = "id", chosen = "texts", rejected = "texts" }, none = NO_PAIRS },
  questions = { name = "pope_data.json", read = function(path) return pairs_of { pope = path } end,
    good = { image_id = "1", question = "q", chosen = "c", reject = "r" },
    keys = { image_id = "id", question = "text", chosen = "text", reject = "text" }, none = NO_PAIRS },
  images = { name = "image_data.json", read = function() return vg.images(root) end,
    good = { image_id = 1, url = "https://x.org/VG_100K/1.jpg", width = 8, height = 8 },
    keys = { image_id = "id", url = "text", width = "number", height = "number" } },
  regions = { name = "region_descriptions.json",
    read = function()
      file.write(root .. "/image_data.json", IMAGES)
      local images = vg.images(root)
      local reader = vg.regions(root, images)
      return reader:get(1)
    end },
  listed = { name = "val_images_final.json", read = function()
      file.write(root .. "/image_data.json", IMAGES)
      file.write(root .. "/region_descriptions.json", "[]")
      return shr.read(root, root)
    end,
    good = { image_id = 1 }, keys = { image_id = "id" } },
  facts = { name = "shr_factual_part1.jsonl", read = function(path) return shr.facts(path) end },
  pope = { name = "coco_pope_random.json", read = function(path) return pope.read(path) end,
    good = { question_id = 1, image = "a.jpg", text = "Is there a cat?", label = "yes" }, noun = "question",
    keys = { image = "text", text = "text", label = "text" } },
  answers = { name = "answers.jsonl", read = function(path)
      return pope.answers(path, { { question_id = 1 }, { question_id = 2 } })
    end },
  pictures = { name = "objects.jsonl", read = function(path) return pictures.read(path) end, noun = "picture",
    good = { image = "a.jpg", objects = { "cat" } }, keys = { image = "text" } },
  captions = { name = "filter_cap.json", read = function() return ccsbu.read(root) end,
    good = { image_id = "1", caption = "A cat." }, keys = { caption = "text" },
    wrap = function(list) return { annotations = list } end },
  responses = { name = "responses.json", read = function(path) return shr.answers(path, { { image_id = 1 } }) end },
  coco = { name = "instances.json", read = function(path) return coco.read(path) end },
  talks = { name = "talks.json", read = function(path) return jsonl.conversations(path, {}) end },
}

-- The message of a reader for a file of these bytes, behind the file's path.
local function refusal(reader, text)
  local path = root .. "/" .. reader.name
  file.write(path, text)
  local ok, why = pcall(reader.read, path)
  assert.is_false(ok, "taken: " .. text)
  why = tostring(why)
  assert.is_nil(why:find("\n", 1, true), why)
  assert.equal(path .. ":", why:sub(1, #path + 1))
  return (why:sub(#path + 2):gsub("^ ", ""))
end

local count = 0
local function row(name, text, expected)
  count = count + 1
  it(("%s %d: %s"):format(name, count, expected:sub(1, 60)), function()
    assert.equal(expected, refusal(READERS[name], text))
  end)
end

-- ---- every key with every fault -------------------------------------------------------------------------

local NULL, LIST, OBJECT = json.null, json.array { 1 }, { a = 1 }

local FAULTS = {
  id = { { nil, "has no 'KEY'" }, { NULL, "has no 'KEY'" }, { "x", "its 'KEY' is no whole number: 'x'" },
    { 1.5, "its 'KEY' is no whole number: '1.5'" }, { -1, "its 'KEY' is no whole number: '-1'" },
    { 9007199254740993LL, "its 'KEY' is beyond 2^53, up to which ids are whole numbers: '9007199254740993'" },
    { true, "its 'KEY' is no whole number: 'true'" }, { LIST, "its 'KEY' is no whole number" } },
  text = { { nil, "has no 'KEY'" }, { NULL, "has no 'KEY'" }, { 7, "its 'KEY' is no text" },
    { LIST, "its 'KEY' is no text" }, { " ", "its 'KEY' is empty" }, { "a\0b", "its 'KEY' holds a NUL byte" } },
  texts = { { nil, "has no 'KEY'" }, { "a", "its 'KEY' is no list" }, { OBJECT, "its 'KEY' is no list" },
    { json.array {}, "its 'KEY' is an empty list" }, { { "a", 7 }, "its 'KEY' has a text 2 that is no text" },
    { { "a", "b", "" }, "its 'KEY' has a text 3 that is empty" },
    { { { "a" } }, "its 'KEY' has a text 1 that is no text" },
    { { "\0" }, "its 'KEY' has a text 1 that holds a NUL byte" } },
  number = { { nil, "has no 'KEY'" }, { "8", "its 'KEY' is no number" }, { 0, "its 'KEY' is not above 0: 0" } },
}

local function copy(t)
  local other = {}
  for k, v in pairs(t) do other[k] = v end
  return other
end

local function sorted(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

describe("a bad key", function()
  for _, name in ipairs(sorted(READERS)) do
    local reader = READERS[name]
    for _, key in ipairs(sorted(reader.keys or {})) do
      for _, fault in ipairs(FAULTS[reader.keys[key]]) do
        local bad = copy(reader.good)
        bad[key] = fault[1]
        local list = { bad }
        local what = fault[2]:gsub("KEY", key)
        row(name, json.encode(reader.wrap and reader.wrap(list) or list),
          ("%s 1%s %s"):format(reader.noun or "record", what:find("^its") and ":" or "", what))
      end
    end
  end
end)

-- ---- broken files ------------------------------------------------------------------------------------------

describe("a broken file", function()
  for _, name in ipairs { "desc", "questions", "images", "listed", "pope" } do
    local reader = READERS[name]
    local good, noun = json.encode(reader.good), reader.noun or "record"
    local none = reader.none or ("there are no %ss in it"):format(noun)
    row(name, "", none)
    row(name, "[]", none)
    row(name, "[7]", noun .. " 1 is no object")
    row(name, "[[" .. good .. "]]", noun .. " 1 is no object")
    row(name, "[null]", noun .. " 1 is no object")
    row(name, '{"data": [' .. good .. "]}", noun .. " 1 is no object")
    row(name, "[" .. good .. ",\n{\"a\": \"b", "2:7: this string has no end")
    row(name, "[" .. good, ("1:%d: the file ends within its records"):format(#good + 2))
    row(name, "[" .. good .. ",\n{\"a\": \"\0\"}]", "2:8: control character 0x00 within a string")
    row(name, "[" .. good .. ",\n{\"a\": \"\255\"}]", "2:8: byte 0xFF is not UTF-8")
    row(name, "\239\187\191[" .. good .. ",\n{\"a\": 01}]", "2:7: a number begins with 0")
  end
  row("desc", "\254\255\0[", "1:1: byte 0xFE stands where a value is expected")
  row("captions", "", "there is no list 'annotations' in it")
  row("captions", "[]", "there is no list 'annotations' in it")
  row("captions", '{"annotations": {}}', "there is no list 'annotations' in it")
  row("captions", '{"annotations": []}', "there are no captions in it")
  row("captions", '{"annotations": [7]}', "record 1 is no object")
  row("captions", '{"annotations": [{"caption": "a"}]}', "record 1 has no 'image_id'")
  row("captions", '{"annotations": [{"image_id": "../1", "caption": "a"}]}', "record 1: its 'image_id' names no picture: '../1'")
  row("captions", '{"annotations": [{"image_id": 1.5, "caption": "a"}]}', "record 1: its 'image_id' is no whole number: '1.5'")
  row("captions", '{"annotations": [{"image_id": "1", "caption": "a"', "1:50: the text ends where ',' or '}' is expected")
  row("captions", '{"annotations": [{"image_id": "9", "caption": "a"}]}',
    "record 1: there is no picture " .. root .. "/image/9.jpg. Get it, or pass --skip-missing")
end)

-- ---- ids, labels, parts -----------------------------------------------------------------------------------

local function region(change)
  local r = { image_id = 1, phrase = "a hat", x = 1, y = 2, width = 3, height = 4 }
  for k, v in pairs(change or {}) do r[k] = v end
  return r
end

local function regions(...) return json.encode { { id = 1, regions = json.array { ... } } } end

describe("a bad record", function()
  row("desc", '{"1": {"chosen": ["a"], "rejected": ["b"]}, "x": {"chosen": ["a"], "rejected": ["b"]}}',
    "record 2: its key is no image id: 'x'")
  row("desc", '{"1": {"chosen": ["a"], "rejected": ["b"]}, "1": {"chosen": ["a"], "rejected": ["b"]}}',
    "record 2 has the key of record 1: '1'")
  row("desc", '{"1": {"image_id": 2, "chosen": ["a"], "rejected": ["b"]}}', "record 1: its 'image_id' is not its key, which is '1'")
  row("desc", '{"1": ["a", "b"]}', "record 1 is no object")
  row("desc", '[{"image_id": 1, "chosen": ["a"], "reject": "b"}]', "record 1: its 'reject' is no list")
  row("questions", '[{"image_id": 1, "question": "q", "chosen": "c", "rejected": 1}]', "record 1: its 'rejected' is no text")
  row("questions", '[{"image_id": 1, "question": "q", "chosen": "c", "reject": "r", "correct": "false"}]',
    "record 1: its 'correct' is neither true nor false")
  row("questions", '[{"image_id": 1, "question": "q", "chosen": "c", "reject": "r", "answer": 1}]', "record 1: its 'answer' is no text")
  row("images", IMAGES:gsub("VG_100K/1.jpg", "", 1):gsub("x.org/", "x.org"), "record 1: its 'url' names no picture: https://x.org")
  row("images", "[" .. IMAGES:sub(2, -2) .. ", " .. IMAGES:sub(2, -2) .. "]", "record 2: its 'image_id' is that of record 1, too: 1")
  row("images", IMAGES:gsub("VG_100K", "..", 1), "record 1: its 'url' names no picture: https://x.org/../1.jpg")
  row("listed", '[{"image_id": 1}, {"image_id": "1"}]', "record 2: its 'image_id' is that of record 1, too: 1")

  row("regions", regions(region { phrase = 7 }), "record 1: region 1: its 'phrase' is no text")
  row("regions", regions(region(), region { phrase = json.null }), "record 1: region 2 has no 'phrase'")
  row("regions", regions(region(), region { x = "1" }), "record 1: region 2: its 'x' is no number")
  row("regions", regions(region { width = json.null }), "record 1: region 1 has no 'width'")
  row("regions", regions(region(), region { image_id = 2 }), "record 1: region 2: its 'image_id' is not its record's: 1")
  row("regions", regions(region(), 7), "record 1: region 2 is no object")
  row("regions", regions(region { image_id = json.null }), "record 1: its 'image_id' is no whole number")
  row("regions", regions { phrase = "a hat" }, "record 1 has no 'image_id'")
  row("regions", regions(7), "record 1 has no 'image_id'")
  row("regions", '[{"id": 1}]', "record 1 has no 'regions'")
  row("regions", '[{"regions": "a hat"}]', "record 1: its 'regions' is no list")
  row("regions", "[[]]", "1:2: the '{' of a record is expected here")
  row("regions", "", "1:1: the '[' of a list of records is expected here")
  row("regions", regions(region()):sub(1, -2), "1:87: the file ends within its records")
  row("regions", regions(region()):sub(1, -9), "1:2: the file ends within this record")
  row("regions", regions(region { phrase = "HERE" }):gsub("HERE", "\0"), "1:56: a control character in a string")
  row("regions", regions(region { phrase = "HERE" }):gsub("HERE", "\255"), "record 1:1:55: byte 0xFF is not UTF-8")
  row("regions", "[" .. regions(region()):sub(2, -2) .. "," .. regions(region()):sub(2),
    "record 2: its 'image_id' is that of record 1, too: 1")

  row("facts", '{"1": ["a"]}\n{"x": ["a"]}\n', "record 2: its key is no image id: 'x'")
  row("facts", '{"1": ["a"]}\n{"1": ["b"]}\n', "record 2 has the key of record 1: '1'")
  row("facts", '{"1": ["a"], "2": ["b"]}\n', "record 1 is not { \"image id\": [sentences] }")
  row("facts", "{}\n", "record 1 is not { \"image id\": [sentences] }")
  row("facts", '{"1": "a"}\n', "record 1: its '1' is no list")
  row("facts", '{"1": ["a", 2]}\n', "record 1: its '1' has a text 2 that is no text")
  row("facts", '{"1": ["a"]}\n["b"]\n', "record 2 is no object")
  row("facts", '{"1": ["a"]}\n{"2": ["b"\n', "3:1: the text ends where ',' or ']' is expected")

  row("pope", '{"question_id": true, "image": "a", "text": "t", "label": "yes"}\n{"question_id": 2}',
    "question 1: its 'question_id' is neither a whole number nor a text")
  row("pope", '{"question_id": 1, "image": "a", "text": "t"}', "question 1 has no 'label'")
  row("pope", '{"question_id": 1, "image": "a", "text": "t", "label": "maybe"}\n{}', "question 1: its 'label' is 'maybe'; yes and no are possible")
  for _, name in ipairs { "../a.jpg", "a/../../b.jpg", "..", "/../a.jpg", "a/.." } do
    row("pope", ('{"question_id": 1, "image": "%s", "text": "t", "label": "yes"}'):format(name),
      ("question 1: its 'image' leads out of the folder of pictures: '%s'"):format(name))
  end
  row("pictures", '{"image": "x/../../a.jpg", "objects": []}', "picture 1: its 'image' leads out of the folder of pictures: 'x/../../a.jpg'")
  row("talks", '[{"image": "../a.jpg", "conversations": []}]', "record 1: its 'image' leads out of the folder of pictures: '../a.jpg'")
  row("coco", '{"images": [{"id": 1, "file_name": "../a.jpg", "width": 8, "height": 8}], "annotations": [], "categories": []}',
    "image 1: its 'file_name' leads out of the folder of pictures: '../a.jpg'")
  row("answers", '{"question_id": 1, "answer": "Yes."}\n{"question_id": 2}\n', "record 2 has no 'answer'")
  row("answers", '{"question_id": 1, "answer": "Yes."}\n{"question_id": 1, "answer": "No."}\n', "record 2: its 'question_id' is that of record 1, too: 1")
  row("answers", '{"question_id": 1, "answer": "Yes."}\n{"answer": "No."}\n', "record 2 has no 'question_id', which those before it have")
  row("answers", '{"answer": "Yes."}\n{"question_id": 1, "answer": "No."}\n', "record 2 has a 'question_id', which those before it have not")
  row("answers", '{"question_id": 1, "answer": "Yes."}\n', "there is no answer to question 2")
  row("answers", '{"question_id": 1, "answer": true}\n{}', "record 1: its 'answer' is no text")

  row("responses", '{"1": 7}', "record 1: its '1' is no text")
  row("responses", '{"1": {"response": "a"}}', "record 1: its '1' is no text")
  row("responses", '{"2": "a", "2": "b"}', "record 2 has the key of record 1: '2'")
  row("responses", '{"x": "a"}', "record 1: its key is no image id: 'x'")
  row("responses", '{"2": "a"}', "there is no text for image 1")
  row("responses", '[{"image_id": 1}]', "record 1 has no 'response'")
  row("responses", '["a"]', "record 1 is no object")
  row("responses", '[{"id": 1, "caption": 3}]', "record 1: its 'caption' is no text")
  row("responses", '[{"question_id": "x", "text": "a"}]', "record 1: its 'question_id' is no whole number: 'x'")
  row("responses", '[{"image_id": 1, "text": "a"}, {"image": "COCO_0001.jpg", "text": "a"}]',
    "record 2: its 'image' is that of record 1, too: 1")
  row("responses", '{"run1": {"1": {}}}', "run 1 has no 'model_response'")
  row("responses", '{"run1": {"x": {}}}', "record 1: its key is no image id: 'run1'")
  row("responses", '{"image_id": 1, "response": "a"}', "record 1: its key is no image id: 'image_id'")

  row("coco", "[]", "1:2: an object is expected here")
  row("coco", "{}", "there is no list 'images' in it")
  row("coco", '{"images": [], "annotations": {}, "categories": []}', "its 'annotations' is no list")
  row("coco", '{"images": [7], "annotations": [], "categories": []}', "image 1 is no object")
  row("coco", '{"images": [{"id": 1, "file_name": "a", "width": 8}], "annotations": [], "categories": []}', "image 1 has no 'height'")
  row("coco", '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
    "category 2: its 'id' is that of category 1, too: 1")
  row("coco", '{"images": [], "annotations": [], "categories": [{"id": "b", "name": 7}]}', "category 1: its 'id' is no whole number: 'b'")
  row("coco", '{"images": [], "annotations": [7], "categories": []}', "annotation 1 is no object")

  row("talks", '[{"id": 1}]', "record 1 has no 'conversations'")
  row("talks", '[{"conversations": {}}]', "record 1: its 'conversations' is no list")
  row("talks", '[{"conversations": []}]', "record 1: its 'conversations' hold no answer")
  row("talks", '[{"conversations": ["Hm?"]}]', "record 1: message 1 is no object")
  row("talks", '[{"conversations": [{"from": "human"}]}]', "record 1: message 1 has no 'value'")
  row("talks", '[{"conversations": [{"value": "Hm?"}]}]', "record 1: message 1 has no 'from'")
  row("talks", '[{"conversations": [{"from": "human", "value": "Hm?"}]}]', "record 1: its 'conversations' end with a question")
  row("talks", '[{"conversations": [{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": ""}]}]', "record 1: message 2: its 'value' is empty")
  row("talks", '[{"conversations": [{"from": "human", "value": "Hm?"}, {"from": "human", "value": "Hm?"}]}]',
    "record 1: message 2 is from 'human'; human and gpt take turns")
  row("talks", '[{"image": 7, "conversations": []}]', "record 1: its 'image' is no text")
  row("talks", '[{"id": [], "conversations": [{"from": "human", "value": "Hm?"}, {"from": "gpt", "value": "A."}]}]',
    "record 1: its 'id' is neither a text nor a number")
end)

describe("the bad files", function()
  it("are more than a hundred", function() assert.is_true(count > 150) end)
end)
