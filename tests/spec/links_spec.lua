-- Nothing is written, or removed, through a symbolic link, and what is written for a while is its owner's alone.
local cache = require "lucid.cache"
local checkpoints = require "lucid.checkpoints"
local file = require "lucid.file"
local image = require "lucid.image"
local journal = require "lucid.journal"
local lucid = require "lucid"
local support = require "tests.support.folder"

local LINK = "it is a symbolic link, and none is written through; take it away"

describe("a link in the place of", function()
  local folder, target
  before_each(function()
    folder = support.folder()
    target = folder .. "/target"
    file.write(target, "mine")
  end)
  after_each(function()
    assert.equal("mine", file.read(target))
    support.remove(folder)
  end)

  local function linked(name, to)
    file.link(to or target, folder .. "/" .. name)
    return folder .. "/" .. name
  end

  local function refused(f, path, ...)
    local ok, message = pcall(f, path, ...)
    assert.is_false(ok)
    assert.equal(path .. ": " .. LINK, message:match "([^:]*: it is.*)$")
  end

  it("what is appended to, cut or locked is refused", function()
    local path = linked "log"
    refused(file.append, path, "x", true)
    refused(file.truncate, path, 0)
    refused(file.lock, path)
    refused(journal.open, path)
    refused(file.append, linked("dangling", folder .. "/nowhere"), "x")
    assert.is_false(file.exists(folder .. "/nowhere"))
  end)

  it("what is written whole goes, and its target stays", function()
    local path = linked "report"
    file.write(path, "new")
    assert.equal("new", file.read(path))
    local picture = lucid.ones({ 2, 2, 3 }):to "u8"
    image.save(picture, linked "a.png")
    lucid.checkpoint.save(linked "a.safetensors", { a = picture })
    file.link("target", folder .. "/x.tmp." .. io.open "/proc/self/stat":read "*n")       -- the name of a write's first half
    file.write(folder .. "/x", "new")
  end)

  it("a checkpoint goes alone", function()
    local other = folder .. "/other"
    file.mkdir(other)
    file.write(other .. "/precious", "1")
    for _, name in ipairs { "checkpoint-3", "checkpoint-3.tmp", "checkpoint-4" } do linked(name, other) end
    checkpoints.write(folder, 3, function(dir) file.write(dir .. "/a", "1") end)
    checkpoints.write(folder, 5, function(dir) file.write(dir .. "/a", "1") end)
    checkpoints.go_back(folder, 3)
    checkpoints.tidy(folder)
    checkpoints.clear(folder)
    assert.same({ "precious" }, file.list(other))
    assert.same({ "other", "target" }, file.list(folder))
  end)

  it("the cache's store is refused", function()
    local store = require "lucid.store".open(folder .. "/store")
    file.mkdir(folder .. "/store")
    linked "store/data"
    store:put(cache.hash "a", lucid.ones({ 1, 2 }))
    refused(function() store:sync() end, folder .. "/store/data")
  end)
end)

describe("a checkpoint's manifest", function()
  it("names files of its folder alone", function()
    local out = support.folder()
    checkpoints.write(out, 1, function(dir) file.write(dir .. "/a", "1") end)
    local dir = out .. "/checkpoint-1"
    assert.is_nil(checkpoints.fault(dir))
    file.write(dir .. "/manifest.json", '{"files": {"../../etc/passwd": {"bytes": 1, "sha256": "0"}}}')
    assert.equal("its manifest.json names ../../etc/passwd, which is no file of its own", checkpoints.fault(dir))
    support.remove(out)
  end)
end)

describe("a temporary folder", function()
  it("is new, and its owner's alone", function()
    local one, two = file.temporary(), file.temporary()
    assert.not_equal(one, two)
    local pipe = io.popen(("stat -c '%%a %%u' '%s'; id -u"):format(one))
    assert.equal("700", pipe:read "*n" .. "")
    assert.equal(pipe:read "*n", pipe:read "*n")
    pipe:close()
    file.remove(one)
    file.remove(two)
  end)
end)

describe("a picture's bytes", function()
  it("are those of its file, without a file", function()
    local dir = support.folder()
    local picture = lucid.ones({ 5, 4, 3 }):to "u8"
    for _, suffix in ipairs { ".png", ".jpg", ".bmp" } do
      image.save(picture, dir .. "/x" .. suffix, { quality = 82 })
      assert.equal(file.read(dir .. "/x" .. suffix), image.encode(picture, suffix, { quality = 82 }))
    end
    assert.has_error(function() image.encode(picture, ".gif") end)
    support.remove(dir)
  end)
end)
