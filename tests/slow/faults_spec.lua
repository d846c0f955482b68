-- A short form of make faults: some of the cases, spread over all. What each asserts stands in tests/crash/*.lua.
local file = require "lucid.file"
local program = require "tests.support.program"

local LIBRARY = (os.getenv "LUCID_LIB" or "build/liblucid.so"):match "^(.*)/[^/]*$" .. "/faults.so"
local CASES = 40

describe("a train-eval cycle", function()
  for name, what in pairs {
    allocations = "that is refused memory ends in an error or in the right answer, and holds none",
    disk = "whose disk fails ends in an error or in the right answer, and can be gone on with",
    power = "whose power goes can be gone on with, to the right answer",
  } do
    it(what, function()
      local said = os.tmpname()
      local status = os.execute(("LD_PRELOAD=$(realpath %s) %s tests/crash/%s.lua %d >%s 2>/dev/null"):format(LIBRARY, program, name,
        CASES, said))
      local text = file.read(said)
      os.remove(said)
      assert.equal(0, status, text)
      assert.truthy(text:find(("%d of %%d+ cases: "):format(CASES)), text)
    end)
  end
end)

describe("the disk of the power test", function()
  local disk_image = require "tests.crash.disk_image"

  local function after(text, lost)
    local image = disk_image.new()
    for _, call in ipairs(disk_image.read(text)) do image:apply(call) end
    return image:left(lost)
  end

  it("holds what was synced, and loses the rest", function()
    local made = "mkdir d\ncreate d/a\nwrite d/a 0 4\nold\nfsync d/a\nwrite d/a 4 4\nnew\n"
    assert.same({ d = true, ["d/a"] = "old\n" }, after(made, "data"))
    assert.same({ d = true, ["d/a"] = "old\nne" }, after(made, "torn"))
    assert.same({ d = true }, after(made, "names"))
    assert.same({ d = true, ["d/a"] = "old\n" }, after(made .. "fsync d\n", "names"))
    local renamed = made .. "fsync d\nrename d/a d/b\nsymlink d/l b\n"
    assert.same({ d = true, ["d/a"] = "old\n" }, after(renamed, "names"))
    assert.same({ d = true, ["d/b"] = "old\n", ["d/l"] = { link = "b" } }, after(renamed, "data"))
    assert.same({ d = true }, after(renamed .. "remove d/b\nremove d/l\nfsync d\n", "names"))
  end)
end)
