-- Files: whole or the old one, errors that name the path, hashes.
local ffi = require "ffi"
local file = require "lucid.file"
local program = require "tests.support.program"
local native = require "lucid.native"
local support = require "tests.support.folder"

describe("files", function()
  local folder
  before_each(function() folder = support.folder() end)
  after_each(function() support.remove(folder) end)

  it("are written and read whole, any bytes", function()
    local path = folder .. "/a b.bin"
    for _, text in ipairs { "", "x", "\0\1\255\n", ("0123456789"):rep(100000) } do
      file.write(path, text)
      assert.equal(text, file.read(path))
      assert.equal(#text, file.size(path))
    end
    assert.same({ "a b.bin" }, file.list(folder))
  end)

  it("are appended to", function()
    local path = folder .. "/log"
    file.append(path, "a\n")
    file.append(path, "b\n", true)
    assert.equal("a\nb\n", file.read(path))
  end)

  it("have kinds", function()
    file.write(folder .. "/x", "")
    assert.equal("file", file.kind(folder .. "/x"))
    assert.equal("folder", file.kind(folder))
    assert.is_nil(file.kind(folder .. "/y"))
    assert.is_true(file.exists(folder .. "/x"))
    assert.is_false(file.exists(folder .. "/y"))
  end)

  it("stand in folders, made with their parents, listed in order", function()
    file.mkdir(folder .. "/a/b/c")
    file.mkdir(folder .. "/a/b/c/")
    for _, name in ipairs { "z", "B", "a", ".h" } do file.write(folder .. "/a/b/" .. name, "") end
    assert.same({ ".h", "B", "a", "c", "z" }, file.list(folder .. "/a/b"))
    assert.same({}, file.list(folder .. "/a/b/c"))
    assert.is_nil(file.list(folder .. "/a/b/z"))
    assert.is_nil(file.list(folder .. "/none"))
    file.remove(folder .. "/a/b/z")
    file.remove(folder .. "/a/b/c")
    assert.same({ ".h", "B", "a" }, file.list(folder .. "/a/b"))
    assert.has_error(function() file.remove(folder .. "/a") end)
  end)

  it("of a folder leave no halves of a write that was cut off", function()
    for _, name in ipairs { "a.json", "a.json.tmp.99999999", "a.tmp", "a.tmp.1.txt" } do file.write(folder .. "/" .. name, "") end
    require("lucid.run").open(folder, "test", {})
    assert.same({ ".lock", "a.json", "a.tmp", "a.tmp.1.txt", "config.json" }, file.list(folder))
    file.tidy(folder .. "/none")
  end)

  it("name themselves in errors", function()
    local function reason(f, ...) return select(2, pcall(f, ...)) end
    local none = folder .. "/none"
    assert.truthy(reason(file.read, none):find(none .. ": opening: No such file or directory", 1, true))
    assert.truthy(reason(file.read, folder):find(folder .. ": opening: it is a folder", 1, true))
    assert.truthy(reason(file.size, none):find(none .. ": looking: No such file", 1, true))
    assert.truthy(reason(file.write, none .. "/x", ""):find(none .. "/x: ", 1, true))
    assert.truthy(reason(file.hash, none):find(none, 1, true))
    file.write(none, "")
    assert.truthy(reason(file.mkdir, none .. "/x"):find(none .. ": making the folder: ", 1, true))
  end)

  it("stay as they are when the new one cannot be written", function()
    local path = folder .. "/x"
    file.write(path, "old")
    for n = 1, 3 do
      native.C.lc_memory_fail_at(n)
      local ok = native.C.lc_file_write(path, "new", 3) == 0
      native.C.lc_memory_fail_at(0)
      assert.equal("old", file.read(path))
      assert.is_false(ok)
      assert.same({ "x" }, file.list(folder))
    end
    file.mkdir(folder .. "/taken")
    file.write(folder .. "/taken/y", "")
    assert.is_false(pcall(file.write, folder .. "/taken", "new"))
    assert.same({ "taken", "x" }, file.list(folder))
  end)

  it("stay as they are on a full disk, in one line, with nothing left behind", function()
    local script = folder .. "/x.lua"
    local disk = folder .. "/disk"
    file.mkdir(disk)
    file.write(script, ([[
      local lucid, path = require "lucid", "%s/x"
      local file = lucid.file
      file.write(path, "old")
      local function try(f, ...)
        local ok, reason = pcall(f, ...)
        print(ok, tostring(reason):match("%%S+/x: .*"))
      end
      try(file.write, path, ("x"):rep(2 ^ 20))
      try(lucid.checkpoint.save, path, { a = lucid.zeros { 2 ^ 18 } })
      try(file.append, path, ("x"):rep(2 ^ 20))
      print(file.read(path), table.concat(file.list("%s"), " "))]]):format(disk, disk))
    local p = io.popen(([[unshare -rm sh -c 'mount -t tmpfs -o size=64k none "%s" || exit 3
      %s "%s"' 2>&1; echo $?]]):format(disk, program, script))
    local text = p:read("*a")
    p:close()
    if not text:find("\n0\n$") then
      pending("a small disk cannot be mounted here")
      return
    end
    local line = "false\t" .. disk .. "/x: writing: No space left on device\n"
    assert.equal(line:rep(3) .. "old\tx\n0\n", text)
  end)

  it("keep their mode, and new ones follow the umask", function()
    local path = folder .. "/x"
    file.write(path, "1")
    os.execute("chmod 640 '" .. path .. "'")
    file.write(path, "2")
    local pipe = io.popen("stat -c %a '" .. path .. "'")
    assert.equal("640", pipe:read "*l")
    pipe:close()
  end)

  it("are linked atomically", function()
    file.write(folder .. "/one", "1")
    file.write(folder .. "/two", "2")
    native.check(native.C.lc_symlink("one", folder .. "/latest"))
    assert.equal("1", file.read(folder .. "/latest"))
    native.check(native.C.lc_symlink("two", folder .. "/latest"))
    assert.equal("2", file.read(folder .. "/latest"))
    native.check(native.C.lc_rename(folder .. "/one", folder .. "/two"))
    assert.equal("1", file.read(folder .. "/latest"))
    assert.same({ "latest", "two" }, file.list(folder))
  end)
end)

describe("hashes", function()
  it("are SHA-256's", function()
    local hex = ffi.new("char[65]")
    local function sha256(s)
      native.check(native.C.lc_sha256(s, #s, hex))
      return ffi.string(hex)
    end
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", sha256 "")
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", sha256 "abc")
    assert.equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", sha256(("a"):rep(1000000)))
  end)

  it("of files follow their contents", function()
    local folder = support.folder()
    local path = folder .. "/x"
    file.write(path, "abc")
    local first = file.hash(path)
    assert.equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", first)
    assert.equal(first, file.hash(path))
    file.write(path, "abcd")
    assert.equal("88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589", file.hash(path))
    -- Another file of the same size and time, moved into the place.
    local other = folder .. "/y"
    file.write(other, "wxyz")
    assert.equal(0, os.execute(("touch -r '%s' '%s' && mv '%s' '%s'"):format(path, other, other, path)))
    assert.equal(file.hash(path), file.hash(folder .. "/./x"))
    support.remove(folder)
  end)
end)
