-- The packages in clean roots: what .ci/package/check does, which says itself where that cannot be.
local folder = require "tests.support.folder"
local file = require "lucid.file"

describe("the packages", function()
  it("are built, work and go in clean roots", function()
    local dir = folder.folder()
    local status = os.execute(("make -s package-check >%s/log 2>&1"):format(dir))
    local said = file.read(dir .. "/log")
    folder.remove(dir)
    assert.equal(0, status, said)
    local reason = said:match "skipped: ([^\n]*)"
    if reason then return pending(reason) end
    assert.truthy(said:find "6 of 6 held\n$", said)
  end)
end)
