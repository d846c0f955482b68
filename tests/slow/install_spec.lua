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

  it("has a library for C programs, which pkg-config knows", function()
    file.write(dir .. "/user/c.c", "#include <lucid.h>\nint main(void) { return lc_version() == LC_VERSION ? 0 : 1; }\n")
    local flags = ("PKG_CONFIG_PATH=%s/lib/pkgconfig pkg-config --cflags --libs lucid"):format(prefix)
    assert.truthy(sh(("${CC:-cc} -Wall -Werror -o %s/user/c %s/user/c.c $(%s)"):format(dir, dir, flags)))
    run(dir .. "/user/c")
  end)

  it("is found where it was moved to, through a link, by plain luajit", function()
    local moved = dir .. "/user/a folder"
    assert.truthy(sh(("cp -a %s '%s' && ln -s '%s/bin/lucid' %s/user/link"):format(prefix, moved, moved, dir)))
    assert.equal("2\n", run("./link -e 'print(lucid.zeros({ 2 }):count())'"))
    local sources = "for _, m in ipairs { [[model]], [[json]] } do print(debug.getinfo(require([[lucid]])[m].read or "
      .. "require([[lucid]])[m].open, [[S]]).source) end"
    assert.equal(("@%s/share/lucid/lua/lucid/model.lua\n@%s/share/lucid/lua/lucid/json.lua\n"):format(moved, moved),
      run(("./link -e '%s'"):format(sources)))
    if not sh "command -v luajit >/dev/null" then return pending "there is no luajit" end
    local path = io.popen("command -v luajit"):read "*l"
    assert.equal("2\n", run(("LUA_PATH='%s/share/lua/5.1/?.lua' %s -e 'print(require([[lucid]]).zeros({ 2 }):count())'"):format(moved, path)))
  end)

  it("goes whole", function()
    assert.truthy(sh(("chmod -R u+w '%s/user/a folder' && cp /dev/null '%s/user/a folder/bin/other'"):format(dir, dir)))
    assert.truthy(sh(("make -s uninstall PREFIX='%s/user/a folder'"):format(dir)))
    assert.equal(("%s/user/a folder/bin/other\n"):format(dir), io.popen(("find '%s/user/a folder' ! -type d"):format(dir)):read "*a")
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
