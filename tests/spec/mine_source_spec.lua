-- What is mined from: Visual Genome, COCO and plain records give the same pictures, one at a time.
local coco = require "lucid.data.coco"
local file = require "lucid.file"
local hadpo = require "lucid.data.hadpo"
local json = require "lucid.json"
local mine = require "lucid.mine"
local mining = require "tests.support.mining"
local source = require "lucid.mine.source"
local support = require "tests.support.folder"

local dir
before_each(function() dir = support.folder() end)
after_each(function() support.remove(dir) end)

local function put(name, text)
  file.write(dir .. "/" .. name, text)
  return dir .. "/" .. name
end

local function raises(part, f, ...)
  local ok, reason = pcall(f, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(reason):find(part, 1, true), reason)
end

local INSTANCES = [=[{"info": {"year": 2017, "notes": ["[", "{"]},
"annotations": [
 {"id": 1, "image_id": 9, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 0, "segmentation": [[1, 2, 3]]},
 {"id": 2, "image_id": 4, "category_id": 18, "bbox": [0, 0, 100, 50], "iscrowd": 0},
 {"id": 3, "image_id": 9, "category_id": 18, "bbox": [90, 90, 20, 20], "iscrowd": 0},
 {"id": 4, "image_id": 9, "category_id": 18, "bbox": [0, 0, 10, 10], "iscrowd": 1},
 {"id": 5, "image_id": 5, "category_id": 18, "bbox": [0, 0, 10, 10]}],
"images": [{"id": 9, "file_name": "9.jpg", "width": 100, "height": 100}, {"id": 4, "file_name": "4.jpg", "width": 200, "height": 100},
 {"id": 6, "file_name": "6.jpg", "width": 10, "height": 10}],
"categories": [{"id": 3, "name": "car", "supercategory": "vehicle"}, {"id": 18, "name": "dog"}]}]=]

local CAPTIONS = [=[{"images": [], "annotations": [{"image_id": 4, "id": 1, "caption": "A dog on grass."},
 {"image_id": 9, "id": 2, "caption": "A parked car."}, {"image_id": 4, "id": 3, "caption": "A sleeping dog."}, {"image_id": 77, "id": 4, "caption": "x"}]}]=]

describe("COCO", function()
  it("gives things with boxes, and captions as what is true", function()
    local s = source.open { annotations = put("instances.json", INSTANCES), captions = put("captions.json", CAPTIONS), images = "coco" }
    assert.same({ 9, 4, 6 }, s.ids)
    assert.same({ 2, 1, "coco/9.jpg" }, { s:size(9) })
    assert.same({ 1, 2, "coco/4.jpg" }, { s:size(4) })
    assert.same({ 0, 0, "coco/6.jpg" }, { s:size(6) })
    assert.same({ annotations = 2 }, s:passed())
    assert.same({ image_id = 9, image = "coco/9.jpg", regions = {}, facts = { "A parked car." }, objects = {
      { name = "car", attributes = {}, box = { 0.1, 0.2, 0.4, 0.6 } }, { name = "dog", attributes = {}, box = { 0.9, 0.9, 1, 1 } },
    } }, s:get(9))
    assert.same({ { name = "dog", attributes = {}, box = { 0, 0, 0.5, 0.5 } } }, s:get(4).objects)
    assert.same({}, s:get(6).objects)
    assert.equal("dog", s.categories[2].name)
  end)

  it("reads the real file's nasty rows", function()
    local path = "../shared/data/coco/mmyolo_coco_sample.json"
    if not file.exists(path) then return pending("no ../shared/data") end
    local s, whole, by_id, names = source.open { annotations = path, images = "" }, coco.read(path), {}, coco.categories(path)
    for i, p in ipairs(whole) do
      assert.equal(p.image_id, s.ids[i])
      by_id[p.image_id], p.objects = p, {}
    end
    for p, category, box in coco.boxes(path, by_id, names) do
      if p then table.insert(p.objects, { name = names[category], attributes = {}, box = box }) end
    end
    for _, p in ipairs(whole) do assert.same(p.objects, s:get(p.image_id).objects) end
  end)

  it("holds many boxes in their pictures' order", function()
    local images, annotations = {}, {}
    for i = 1, 50 do images[i] = { id = i, file_name = i .. ".jpg", width = 100, height = 100 } end
    for i = 1, 5000 do
      annotations[i] = { id = i, image_id = i * 7 % 50 + 1, category_id = 1, bbox = json.array { i % 90, 0, 1, 1 } }
    end
    local path = dir .. "/instances.json"
    json.write(path, { images = images, annotations = annotations, categories = json.array { { id = 1, name = "car" } } })
    local s = source.open { annotations = path, images = "" }
    for id = 1, 50 do
      local objects, k = s:get(id).objects, 0
      for i = 1, 5000 do
        if i * 7 % 50 + 1 == id then
          k = k + 1
          assert.equal(i % 90 / 100, objects[k].box[1])
        end
      end
      assert.equal(k, #objects)
    end
  end)
end)

describe("plain records", function()
  it("are an image, objects and sentences, each of which may be said shortly", function()
    local path = put("things.jsonl", '{"image": "a/b.jpg", "objects": ["dog", {"name": "red ball", "box": [0, 0.5, 1, 1]}], "sentences": ["A dog plays."]}\n'
      .. '\n{"image": "c.jpg"}\r\n{"image_id": "12", "image": "d.jpg", "objects": ["dog"]}')
    local s = source.open { annotations = path, images = "pics" }
    assert.same({ 1, 2, 12 }, s.ids)
    assert.same({ 2, 1, "pics/a/b.jpg" }, { s:size(1) })
    assert.same({ 0, 0, "pics/c.jpg" }, { s:size(2) })
    assert.same({ image_id = 1, image = "pics/a/b.jpg", regions = {}, facts = { "A dog plays." }, objects = {
      { name = "dog", attributes = {} }, { name = "red ball", attributes = {}, box = { 0, 0.5, 1, 1 } } } }, s:get(1))
    assert.equal("pics/d.jpg", s:get(12).image)
    assert.same({ { name = "dog" }, { name = "red ball" } }, s.categories)
  end)

  it("say which record is wrong, and how", function()
    for text, part in pairs {
      ['{"objects": []}'] = "record 1 has no 'image'", ["[]"] = "record 1 is no object", [""] = "there are no records in it",
      ['{"image": "a"}\n{"image": "b", "objects": [7]}'] = "record 2: object 1 is no object",
      ['{"image": "a", "objects": [{"name": "x", "box": [1, 2]}]}'] = "object 1: its 'box' is not four numbers",
      ['{"image": "a", "objects": [{"name": "x", "box": [10, 20, 300, 400]}]}'] = "object 1: its 'box' is not within the picture",
      ['{"image": "a", "objects": [{"name": "x", "box": [0.5, 0, 0.4, 1]}]}'] = "object 1: its 'box' does not have x1 <= x2",
      ['{"image": "a", "objects": [{"name": "x", "attributes": [1, null]}]}'] = "object 1: its 'attributes' has a text 1 that",
      ['{"image": "a", "image_id": 5}\n{"image": "b", "image_id": 5}'] = "its 'image_id' is that of record 1, too",
      ['{"image": "a", '] = "line 1",
    } do
      raises(part, source.open, { annotations = put("x.jsonl", text), images = "" })
    end
    raises("none.jsonl", source.open, { annotations = dir .. "/none.jsonl", images = "" })
  end)
end)

describe("what is mined", function()
  it("from other pictures than Visual Genome's is found again by the training recipes", function()
    local pictures = mining.pictures()
    mining.write(dir, pictures)
    mine.run(mining.options(dir), { model = mining.model(pictures), judge = mining.judge() })
    local list = hadpo.read { desc = dir .. "/out/desc_data.json", pope = dir .. "/out/pope_data.json", images = dir, sampling = "zip" }
    assert.is_true(#list > 6)
    for _, p in ipairs(list) do assert.equal(("%s/%d.png"):format(dir, p.image_id), p.image) end
  end)

  it("takes the names of things from the annotations where there is no table", function()
    put("instances.json", INSTANCES)
    for _, id in ipairs { 9, 4, 6 } do put(id .. ".png", "") end
    file.write(dir .. "/instances.json", (INSTANCES:gsub("%.jpg", ".png")))
    local said = { { image_id = 9, response = "There is a car. There is a dog." }, { image_id = 4, response = "There is a car. There is a dog." },
      { image_id = 6, response = "There is a dog." } }
    local report = mine.run(mining.options(dir, { annotations = dir .. "/instances.json", variants = 1 }), { model = mining.model(said) })
    assert.equal(1, report.descriptions.corrected)
    assert.same({ "There is a dog." }, json.read(dir .. "/out/desc_data.json")[1].chosen)
  end)
end)
