-- The installed tree, read-only, with an empty PATH: the user's own recipe, metric, judge, loss and prompt.
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local folder = require "tests.support.folder"
local tiny = require "tests.support.tiny"

local dir, prefix

local function sh(command) return os.execute(command) == 0 end

-- For root nothing is read-only: what root tests is run as nobody.
local ORDINARY = io.popen("id -u"):read("*l") == "0" and "setpriv --reuid=65534 --regid=65534 --clear-groups " or ""

-- Runs words in the user's folder, no compiler within reach; stdout.
local function run(words)
  local ok = sh(("cd %s/user && %s/usr/bin/env -i PATH=/nonexistent HOME=%s/user %s >%s/user/out 2>%s/user/err </dev/null")
    :format(dir, ORDINARY, dir, words, dir, dir))
  assert.truthy(ok, words .. "\n" .. file.read(dir .. "/user/err"))
  return file.read(dir .. "/user/out")
end

describe("the installed tree", function()
  setup(function()
    dir = folder.folder()
    prefix = dir .. "/prefix"
    assert(sh(("make -s install PREFIX=%s >%s/log 2>&1 && chmod -R a-w %s && mkdir %s/user"):format(prefix, dir,
      prefix, dir)))
    for from, to in pairs { ["examples/04_own_loss"] = "loss", ["examples/05_own_metric"] = "metric",
      ["examples/06_own_judge"] = "judge", ["examples/07_own_recipe"] = "my", ["recipes/prompts/judge"] = "prompt" } do
      file.write(("%s/user/%s.lua"):format(dir, to), file.read(from .. ".lua"))
    end
    tiny.model(dir .. "/model", 3)
    files.write { dir = dir .. "/world", split = "eval", seed = 3, count = 6, seen = 24 }
    file.mkdir(dir .. "/pairs")
    file.write(dir .. "/pairs/desc_data.json",
      '[{"image_id": "300001", "chosen": ["a red car."], "rejected": ["a blue cat."]}]')
    file.write(dir .. "/pairs/pope_data.json", '[{"image_id": "300001", "question": "Is there a cat in the image?",'
      .. '"chosen": "No.", "reject": "Yes."}]')
    if ORDINARY ~= "" then assert(sh(("chown -R 65534:65534 %s/user"):format(dir))) end
  end)
  teardown(function()
    sh(("chmod -R u+w '%s'"):format(dir))
    folder.remove(dir)
  end)

  it("cannot be written by who runs it", function()
    assert.is_false(sh(("%ssh -c ': >>%s/share/lucid/recipes/mine.lua' 2>/dev/null"):format(ORDINARY, prefix)))
  end)

  it("runs what the user wrote, without a compiler", function()
    local lucid = prefix .. "/bin/lucid"
    local common = ("--model %s/model --images %s/world --limit 2 --quiet "):format(dir, dir)
    assert.truthy(run(lucid .. " help"):find("llava", 1, true))
    local help = run(lucid .. [[ -e 'lucid.help "matmul" lucid.help(lucid.image.crop) lucid.help "chat"']])
    for _, words in ipairs { "lc_matmul", "lucid.image.crop(t, top, left", "--temperature N" } do
      assert.truthy(help:find(words, 1, true), help)
    end
    assert.truthy(run(("%s ./my.lua %s"):format(lucid, common)):find("SHR", 1, true))
    assert.truthy(run(("%s pope %s --questions %s/world/pope/coco_pope_random.json --metric ./metric.lua"):format(lucid,
      common, dir)):find("says_yes", 1, true))
    local shr = ("%s shr %s --data %s/world/shr --max-new-tokens 16 "):format(lucid, common, dir)
    assert.truthy(run(shr .. "--judge ./judge.lua"):find("shr", 1, true))
    assert.truthy(run(shr .. "--prompt ./prompt.lua"):find("shr", 1, true))
    run(("%s llava %s --data %s/pairs --steps 1 --rank 2 --loss ./loss.lua --out r"):format(lucid, common, dir))
    assert.truthy(file.exists(dir .. "/user/r/adapter/adapter_model.safetensors"))
  end)
end)
