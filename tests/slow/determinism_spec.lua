-- The same seed, twice with one and twice with two threads: four adapter files, one SHA-256.
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local tiny = require "tests.support.tiny"

describe("a llava run", function()
  it("has the same adapter with any number of threads", function()
    local dir = folder.folder()
    finally(function() folder.remove(dir) end)
    tiny.model(dir .. "/model", 3)
    files.write { dir = dir .. "/world", split = "eval", seed = 3, count = 6, seen = 24 }
    local desc = json.array {}
    for i = 1, 6 do
      desc[i] = { image_id = 300000 + i, chosen = { "There is a red car." }, rejected = { "There is a blue cat." } }
    end
    file.mkdir(dir .. "/pairs")
    json.write(dir .. "/pairs/desc_data.json", desc)
    file.write(dir .. "/pairs/pope_data.json", "[]")
    local hash
    for i, threads in ipairs { 1, 1, 2, 2 } do
      local out = ("%s/%d"):format(dir, i)
      assert.equal(0, os.execute(("bin/lucid llava --model %s/model --images %s/world --data %s/pairs --steps 4 --rank 8"
        .. " --alpha 16 --lr 1e-3 --batch 4 --seed 7 --quiet --threads %d --out %s >/dev/null"):format(dir, dir, dir,
        threads, out)))
      local own = file.hash(out .. "/adapter/adapter_model.safetensors")
      hash = hash or own
      assert.equal(hash, own)
    end
  end)
end)
