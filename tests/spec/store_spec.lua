-- Tensors on disk by their keys: what was put is there for other processes, and what is damaged is not.
local ffi = require "ffi"
local file = require "lucid.file"
local native = require "lucid.native"
local store = require "lucid.store"
local tensor = require "lucid.tensor"
local cache = require "lucid.cache"
local program = require "tests.support.program"
local support = require "tests.support.folder"

local function key(i) return cache.hash("key " .. i) end
local function value(i) return tensor.randn({ 3, i }, { seed = i }) end

describe("a store", function()
  local folder
  before_each(function() folder = support.folder() end)
  after_each(function() support.remove(folder) end)

  local function filled(n)
    local s = store.open(folder)
    for i = 1, n do s:put(key(i), value(i)) end
    s:sync()
    return s
  end

  it("gives back what was put, at once and later, in any dtype", function()
    local s = store.open(folder)
    for i, dtype in ipairs { "f32", "bf16", "f16" } do s:put(key(i), value(i):to(dtype)) end
    for _ = 1, 2 do
      for i, dtype in ipairs { "f32", "bf16", "f16" } do
        local t = s:get(key(i))
        assert.equal(dtype, t:dtype())
        assert.same(value(i):to(dtype):tolist(), t:tolist())
      end
      assert.is_nil(s:get(key(9)))
      s:sync()
      s = store.open(folder)
    end
    assert.same({ "data", "index" }, file.list(folder))
  end)

  it("has no folder before something is written", function()
    store.open(folder .. "/new"):sync()
    assert.is_false(file.exists(folder .. "/new"))
  end)

  it("drops a tail of the elements that no line stands for", function()
    filled(2)
    local whole = file.size(folder .. "/data")
    file.append(folder .. "/data", "half a tensor")
    local s = store.open(folder)
    s:put(key(3), value(3))
    s:sync()
    assert.equal(whole + 3 * 3 * 4, file.size(folder .. "/data"))
    for i = 1, 3 do assert.same(value(i):tolist(), store.open(folder):get(key(i)):tolist()) end
  end)

  it("drops a tail of the index that is no line, or that has no elements", function()
    filled(2)
    local line = file.read(folder .. "/index"):match("([^\n]*\n)$")
    for _, tail in ipairs { line:sub(1, 30), "zz 0 f32 1 1 00\n", (line:gsub(" %d+ f32", " 100000 f32")) } do
      local before = file.read(folder .. "/index")
      file.append(folder .. "/index", tail)
      local s = store.open(folder)
      assert.same(value(1):tolist(), s:get(key(1)):tolist())
      s:put(key(tail), value(4))
      s:sync()
      assert.equal(before, file.read(folder .. "/index"):sub(1, #before))
      assert.same(value(4):tolist(), store.open(folder):get(key(tail)):tolist())
    end
  end)

  it("does not give what is damaged, and takes it anew", function()
    filled(2)
    local bytes = file.read(folder .. "/data")
    file.write(folder .. "/data", bytes:sub(1, 4) .. string.char((bytes:byte(5) + 1) % 256) .. bytes:sub(6))
    local s = store.open(folder)
    assert.is_nil(s:get(key(1)))
    assert.same(value(2):tolist(), s:get(key(2)):tolist())
    s:put(key(1), value(1))
    s:sync()
    assert.same(value(1):tolist(), store.open(folder):get(key(1)):tolist())
  end)

  it("takes what several processes put at once", function()
    local chunk = ([[
      local store, tensor, cache = require "lucid.store", require "lucid.tensor", require "lucid.cache"
      local s = store.open("%s")
      for i = %%d, %%d do
        s:put(cache.hash("key " .. i), tensor.randn({ 3, i }, { seed = i }))
        s:sync()
      end]]):format(folder)
    local words = {}
    for i = 0, 2 do words[i + 1] = ("%s -e '%s' &"):format(program, chunk:format(20 * i + 1, 20 * i + 20)) end
    assert(os.execute(table.concat(words, "\n") .. "\nwait"))
    local s = store.open(folder)
    for i = 1, 60 do assert.same(value(i):tolist(), s:get(key(i)):tolist()) end
  end)

  it("that cannot be written says so", function()
    file.write(folder .. "/file", "")
    local s = store.open(folder .. "/file/cache")
    s:put(key(1), value(1))
    local ok, reason = pcall(s.sync, s)
    assert.is_false(ok)
    assert.is_truthy(reason:find(folder .. "/file", 1, true))
  end)
end)

describe("a part of a file", function()
  it("is read whole or not at all", function()
    local folder = support.folder()
    file.write(folder .. "/x", "0123456789")
    local to = ffi.new("char[4]")
    assert.equal(0, native.C.lc_file_read_at(folder .. "/x", 3, to, 4))
    assert.equal("3456", ffi.string(to, 4))
    assert.equal(-1, native.C.lc_file_read_at(folder .. "/x", 7, to, 4))
    assert.is_truthy(ffi.string(native.C.lc_error()):find("it ends within the 4 bytes from 7", 1, true))
    support.remove(folder)
  end)
end)
