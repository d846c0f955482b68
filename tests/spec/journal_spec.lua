-- The journal of answers: what is kept is on the disk, a torn end is repaired, one process writes.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local journal = require "lucid.journal"
local program = require "tests.support.program"

describe("a journal", function()
  local dir, path
  setup(function() dir = folder.folder() end)
  teardown(function() folder.remove(dir) end)
  before_each(function()
    path = dir .. "/deep/j.jsonl"
    folder.remove(dir .. "/deep")
  end)

  local function record(key, text) return { key = key, kind = "judge", reply = { text = text } } end

  it("keeps what it was given, once a key", function()
    local j = journal.open(path)
    assert.equal(2, #j:add { record("a", "1\n"), record("b", "2"), record("a", "3") })
    assert.equal(0, #j:add { record("b", "4") })
    assert.equal(j, journal.open(path))
    j:close()
    j = journal.open(path)
    assert.equal("1\n", j:get("a").reply.text)
    assert.equal("2", j:get("b").reply.text)
    assert.is_nil(j:get("c"))
    j:close()
    local _, lines = file.read(path):gsub("\n", "")
    assert.equal(2, lines)
  end)

  it("drops a last record that was cut off, at every byte, and no other", function()
    local j = journal.open(path)
    j:add { record("a", "caf\195\169"), record("b", "second") }
    j:close()
    local text = file.read(path)
    local first = text:find("\n", 1, true)
    for n = first, #text do
      file.write(path, text:sub(1, n))
      j = journal.open(path, true)
      assert.equal("caf\195\169", j:get("a").reply.text)
      -- Without its line end alone it is whole.
      assert.equal(n >= #text - 1, j:get("b") ~= nil)
      j:add { record("c", "third") }
      j:close()
      j = journal.open(path)
      assert.equal("third", j:get("c").reply.text)
      j:close()
    end
  end)

  it("names a line that is damaged", function()
    local j = journal.open(path)
    j:add { record("a", "1"), record("b", "2") }
    j:close()
    file.write(path, (file.read(path):gsub('"a"', '"a', 1)))
    local ok, reason = pcall(journal.open, path)
    assert.is_false(ok)
    assert.is_truthy(reason:find(path .. ": line 1 is damaged", 1, true))
  end)

  it("has one process that writes", function()
    local j = journal.open(path)
    os.execute(("%s -e 'require(\"lucid.journal\").open(\"%s\")' 2>%s/stderr"):format(program, path, dir))
    assert.is_truthy(file.read(dir .. "/stderr"):find("another process works on it", 1, true))
    j:close()
    assert.equal(0, os.execute(("%s -e 'require(\"lucid.journal\").open(\"%s\")'"):format(program, path)))
  end)

  it("says when its file may not grow", function()
    local status = os.execute(("(ulimit -f 1; exec %s -e 'require(\"lucid.journal\").open(\"%s\"):add { { key = \"a\", reply = { text = "
      .. "(\"b\"):rep(2000) } } }') 2>%s/stderr"):format(program, path, dir))
    assert.equal(256, status)
    assert.is_truthy(file.read(dir .. "/stderr"):find("^lucid: [^\n]*File too large\n$"), file.read(dir .. "/stderr"))
    assert.equal(0, file.size(path))
  end)

  it("says when the disk is full and goes on with what it had", function()
    if not file.exists("/dev/full") then return pending("no /dev/full") end
    local j = journal.open(path)
    j:add { record("a", "1") }
    local own = j.path
    j.path = "/dev/full"
    assert.is_false((pcall(j.add, j, { record("b", "2") })))
    assert.is_nil(j:get("b"))
    j.path = own
    j:add { record("b", "2") }
    j:close()
    assert.equal("2", journal.open(path):get("b").reply.text)
    journal.open(path):close()
  end)
end)
