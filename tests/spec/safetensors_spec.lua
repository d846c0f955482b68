-- safetensors: files load exactly or are refused by name; what is written reads back.
local ffi = require "ffi"
local bit = require "bit"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"
local tensor = require "lucid.tensor"
local support = require "tests.support.folder"

local C = native.C
local DATA = "../shared/data/safetensors"

-- A file of a header's text and data; length: another one than the header's.
local function bytes(header, data, length)
  local n, word = length or #header, {}
  for i = 1, 8 do
    word[i] = string.char(n % 256)
    n = math.floor(n / 256)
  end
  return table.concat(word) .. header .. (data or "")
end

local function open(path)
  local c = C.lc_checkpoint_open(path)
  if c == nil then return nil, ffi.string(C.lc_error()) end
  return ffi.gc(c, C.lc_checkpoint_close)
end

local function load(c, name)
  local t = C.lc_checkpoint_tensor(c, name)
  if t == nil then return nil, ffi.string(C.lc_error()) end
  return native.adopt(t)
end

local function names(c)
  local list = {}
  for i = 0, C.lc_checkpoint_count(c) - 1 do list[i + 1] = ffi.string(C.lc_checkpoint_name(c, i)) end
  return list
end

local function raw(t)
  local n = tonumber(C.lc_tensor_count(t)) * tonumber(C.lc_dtype_bytes(C.lc_tensor_dtype(t)))
  local out = ffi.new("char[?]", n + 1)
  native.check(C.lc_tensor_read(t, out, n))
  return ffi.string(out, n)
end

local function write(path, tensors, metadata)
  local w = native.check(C.lc_writer_new(path))
  for k, v in pairs(metadata or {}) do native.check(C.lc_writer_metadata(w, k, v)) end
  for name, t in pairs(tensors) do native.check(C.lc_writer_add(w, name, t)) end
  if C.lc_writer_finish(w) ~= 0 then return nil, ffi.string(C.lc_error()) end
  return true
end

describe("safetensors", function()
  local folder, path
  before_each(function()
    folder = support.folder()
    path = folder .. "/x.safetensors"
  end)
  after_each(function()
    collectgarbage()
    support.remove(folder)
  end)

  local function refusal(header, data, length)
    file.write(path, bytes(header, data, length))
    local c, reason = open(path)
    assert.is_nil(c, header)
    assert.equal(path, reason:sub(1, #path))
    assert.is_nil(reason:find("\n"))
    return reason
  end

  it("takes the good files and refuses the bad ones", function()
    local list = file.list(DATA)
    if not list then return pending("the files are not here") end
    for _, name in ipairs(list) do
      local c, reason = open(DATA .. "/" .. name)
      assert.equal(name:match("^ok_") ~= nil, c ~= nil, name)
      if c then
        for _, each in ipairs(names(c)) do assert.truthy(load(c, each)) end
      else
        assert.truthy(reason:find(name, 1, true), reason)
      end
    end
  end)

  it("refuses what the header may not say", function()
    local function one(dtype, shape, offsets)
      return ('{"a":{"dtype":%s,"shape":%s,"data_offsets":%s}}'):format(dtype, shape, offsets)
    end
    local four = ("\0"):rep(4)
    file.write(path, bytes(one('"F32"', "[1]", "[0,4]"), four))
    assert.truthy(open(path))
    local cases = {
      { "bytes follow", one('"F32"', "[1]", "[0,4]"), ("\0"):rep(5) },
      { "not within", one('"F32"', "[1]", "[0,4]"), "\0\0\0" },
      { "not within", one('"F32"', "[1]", "[-4,0]"), four },
      { "not within", one('"F32"', "[1]", "[4,0]"), four },
      { "not within", one('"F32"', "[1]", "[0,9223372036854775807]"), four },
      { "two integers", one('"F32"', "[1]", "[0,9223372036854775808]"), four },
      { "two integers", one('"F32"', "[1]", "[0]"), four },
      { "two integers", one('"F32"', "[1]", "[0,4,4]"), four },
      { "two integers", one('"F32"', "[1]", "[0,4.5]"), four },
      { "two integers", one('"F32"', "[1]", '"0,4"'), four },
      { "take 8 bytes", one('"F32"', "[2]", "[0,4]"), four },
      { "4000000 bytes", one('"F32"', "[1000,1000]", "[0,4]"), four },
      { "overflows", one('"F32"', "[4294967296,4294967296]", "[0,4]"), four },
      { "overflows", one('"F32"', "[0,9223372036854775807,3]", "[0,0]"), "" },
      { "no size", one('"F32"', "[-1]", "[0,4]"), four },
      { "no size", one('"F32"', "[1.5]", "[0,4]"), four },
      { "no size", one('"F32"', '["1"]', "[0,4]"), four },
      { "no list", one('"F32"', "1", "[0,4]"), four },
      { "no dtype 'F33'", one('"F33"', "[1]", "[0,4]"), four },
      { "has no dtype", one("32", "[1]", "[0,4]"), four },
      { "has no dtype", one('"F32\\u0000"', "[1]", "[0,4]"), four },
      { "whole byte", one('"F4"', "[1]", "[0,1]"), "\0" },
      { "no object", '{"a":3}', "" },
      { "no text", '{"__metadata__":{"a":1}}', "" },
      { "no object", '{"__metadata__":[]}', "" },
      { "twice", '{"__metadata__":{},"__metadata__":{}}', "" },
      { "twice", '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},' ..
        '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', four },
      { "overlap", '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},' ..
        '"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}', four },
      { "hole", '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},' ..
        '"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}', four },
      { "hole", one('"U8"', "[3]", "[1,4]"), four },
      { "zero byte", '{"a\\u0000":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', "" },
      { "begin with '{'", ' {}', "" },
      { "begin with '{'", '[]', "" },
      { "end of the header", '{} x', "" },
      { "deeper", '{"a":' .. ("["):rep(1000), "" },
      { "not UTF-8", '{"\255":{}}', "" },
      { "a?b: a tensor's name has a control character",
        '{"a\\nb":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', "" },
      { "?[31m: a tensor's name has a control character",
        '{"\\u001b[31m":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', "" },
      { "no dtype '?F'", '{"a":{"dtype":"\\nF","shape":[0],"data_offsets":[0,0]}}', "" },
      { "empty or too long", '{"' .. ("x"):rep(600) .. '":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', "" },
    }
    for _, case in ipairs(cases) do
      local reason = refusal(case[2], case[3])
      assert.is_truthy(reason:find(case[1], 1, true), case[2] .. " -> " .. reason)
    end
    assert.matches("at most 100000000", refusal("{}", "", 100000001))
    assert.matches("ends behind", refusal("{}", "", 3))
  end)

  it("lists as many tensors as there are", function()
    local list = {}
    for i = 1, 20000 do list[i] = ('"t%05d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'):format(i) end
    file.write(path, bytes("{" .. table.concat(list, ",") .. "}", ""))
    local all = checkpoint.open(path):names()
    assert.same({ 20000, "t00001", "t20000" }, { #all, all[1], all[20000] })
  end)

  it("names what is another kind of file", function()
    for what, text in pairs {
      ["Git LFS pointer"] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
      ["HTML page"] = "\n <!DOCTYPE html><html><body>404</body></html>",
      ["zip"] = "PK\3\4" .. ("\0"):rep(60),
      ["too short"] = "abc",
    } do
      file.write(path, text)
      local c, reason = open(path)
      assert.is_nil(c)
      assert.truthy(reason:find(what, 1, true), reason)
    end
    assert.matches("No such file", select(2, open(folder .. "/none")))
  end)

  it("loads every dtype exactly, also where it stands askew", function()
    local values = { F32 = "\0\0\128\63\0\0\0\192", F16 = "\0\60\0\192", BF16 = "\128\63\0\192",
      I32 = "\1\0\0\0\254\255\255\255", U8 = "\1\254" }
    for word, data in pairs(values) do
      for shift = 0, 3 do
        local header = ('{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]},"b":{"dtype":"%s",' ..
          '"shape":[2],"data_offsets":[%d,%d]}}'):format(shift, shift, word, shift, shift + #data)
        header = header .. (" "):rep(-#header % 8)
        file.write(path, bytes(header, ("x"):rep(shift) .. data))
        local t = assert(load(assert(open(path)), "b"))
        assert.equal(data, raw(t))
        assert.same({ 1, word == "U8" and 254 or -2 }, t:tolist())
      end
    end
  end)

  it("lists other dtypes and many dims, and loads them not", function()
    file.write(path, bytes('{"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},' ..
      '"s":{"dtype":"U8","shape":[1,1,1,1,1,1],"data_offsets":[8,9]}}', ("\0"):rep(9)))
    local c = assert(open(path))
    assert.same({ "i", "s" }, names(c))
    assert.equal("I64", ffi.string(C.lc_checkpoint_dtype(c, 0)))
    assert.equal(6, C.lc_checkpoint_shape(c, 1, ffi.new("int64_t[5]")))
    assert.matches("i is I64", select(2, load(c, "i")))
    assert.matches("s has 6 dims", select(2, load(c, "s")))
    assert.matches("no tensor none", select(2, load(c, "none")))
  end)

  it("outlives its checkpoint, and changing it changes no file", function()
    assert.truthy(write(path, { a = tensor.tensor { 1, 2, 3 } }))
    local before = file.hash(path)
    local c = assert(open(path))
    local t = load(c, "a")
    assert.same({ 1, 2, 3 }, load(c, "a"):tolist())
    C.lc_checkpoint_close(ffi.gc(c, nil))
    assert.same({ 1, 2, 3 }, t:tolist())
    native.check(C.lc_tensor_write_f32(t, ffi.new("float[3]", 7, 8, 9), 3))
    assert.same({ 7, 8, 9 }, t:tolist())
    collectgarbage()
    assert.same({ 7, 8, 9 }, t:tolist())
    assert.equal(before, file.hash(path))
  end)

  it("ends the program in one line when a page that is in use is gone", function()
    local script = folder .. "/x.lua"
    file.write(script, ([[
      local lucid, path = require "lucid", "%s"
      lucid.checkpoint.save(path, { a = lucid.zeros { 100000 } })
      local t = lucid.checkpoint(path):tensor("a")
      io.open(path, "wb"):close()
      print(t:sum())]]):format(path))
    local p = io.popen(require("tests.support.program") .. " " .. script .. " 2>&1; echo $?")
    local text = p:read("*a")
    p:close()
    assert.equal("lucid: " .. path .. ": it became shorter while it was in use\n1\n", text)
  end)

  it("is an error once it became shorter", function()
    assert.truthy(write(path, { a = tensor.zeros { 4096 } }))
    local c = assert(open(path))
    os.execute("truncate -s 100 '" .. path .. "'")
    local t, reason = load(c, "a")
    assert.is_nil(t)
    assert.matches("became shorter", reason)
  end)

  it("changes one byte of the header at a time and crashes never", function()
    assert.truthy(write(path, { a = tensor.ones { 2, 3 }, b = tensor.ones({ 1 }, { dtype = "bf16" }) },
      { format = "pt" }))
    local whole = file.read(path)
    local n = 8 + whole:byte(1) + 256 * whole:byte(2)
    local opened = 0
    for i = 1, n do
      for _, x in ipairs { 1, 2, 16, 128 } do
        file.write(path, whole:sub(1, i - 1) .. string.char(bit.bxor(whole:byte(i), x)) .. whole:sub(i + 1))
        local c, reason = open(path)
        if c then
          opened = opened + 1
          for _, name in ipairs(names(c)) do load(c, name) end
          C.lc_checkpoint_close(ffi.gc(c, nil))
        else
          assert.equal(path, reason:sub(1, #path))
        end
      end
      if i % 20 == 0 then collectgarbage() end
    end
    assert.is_true(opened > 0 and opened < 4 * n)
    for i = 0, #whole - 1 do
      file.write(path, whole:sub(1, i))
      assert.is_nil((open(path)))
    end
  end)

  describe("written", function()
    it("reads back bit by bit, in any dtype and shape", function()
      local tensors = {
        ["z.weight"] = tensor.randn({ 3, 5 }, { seed = 1 }),
        ["a"] = tensor.randn({ 7 }, { dtype = "bf16", seed = 2 }),
        ["h"] = tensor.randn({ 1, 2, 1, 2, 1 }, { dtype = "f16", seed = 3 }),
        ["i"] = tensor.tensor({ 1, -2, 3 }, { dtype = "i32" }),
        ["u"] = tensor.full({ 2, 2 }, 200, { dtype = "u8" }),
        ["none"] = tensor.zeros { 0, 4 },
        ["scalar"] = tensor.full({}, 2.5),
        ["turned"] = tensor.randn({ 4, 6 }, { seed = 4 }):transpose(1, 2),
        ['odd "name"\\é'] = tensor.ones { 1 },
      }
      assert.truthy(write(path, tensors, { format = "pt", ['k"'] = "v\n" }))
      local c = assert(open(path))
      local list = names(c)
      local sorted = { unpack(list) }
      table.sort(sorted)
      assert.same(sorted, list)
      local count = 0
      for name, t in pairs(tensors) do
        count = count + 1
        local back = assert(load(c, name))
        assert.equal(C.lc_tensor_dtype(t), C.lc_tensor_dtype(back))
        assert.same(t:shape(), back:shape())
        assert.equal(raw(t), raw(back))
      end
      assert.equal(count, #list)
      assert.equal("pt", ffi.string(C.lc_checkpoint_metadata(c, "format")))
      assert.equal("v\n", ffi.string(C.lc_checkpoint_metadata(c, 'k"')))
      assert.is_true(C.lc_checkpoint_metadata(c, "none") == nil)
      assert.equal(0, (file.read(path):byte(1)) % 8)
      assert.same({ "x.safetensors" }, file.list(folder))
    end)

    it("is the same bytes whatever the order", function()
      local a, b = tensor.ones { 2 }, tensor.zeros { 3 }
      local hashes = {}
      for i, order in ipairs { { "a", "b" }, { "b", "a" } } do
        local w = native.check(C.lc_writer_new(path))
        for _, name in ipairs(order) do native.check(C.lc_writer_add(w, name, name == "a" and a or b)) end
        native.check(C.lc_writer_finish(w))
        hashes[i] = file.hash(path)
      end
      assert.equal(hashes[1], hashes[2])
    end)

    it("keeps the old file when it fails", function()
      assert.truthy(write(path, { a = tensor.ones { 1 } }))
      local before = file.hash(path)
      local w = native.check(C.lc_writer_new(path))
      native.check(C.lc_writer_add(w, "a", tensor.ones { 2 }))
      native.check(C.lc_writer_add(w, "a", tensor.ones { 3 }))
      assert.equal(-1, C.lc_writer_finish(w))
      assert.matches("added twice", ffi.string(C.lc_error()))
      w = native.check(C.lc_writer_new(path))
      assert.equal(-1, C.lc_writer_add(w, "__metadata__", tensor.ones { 2 }))
      assert.equal(-1, C.lc_writer_add(w, "a\nb", tensor.ones { 2 }))
      C.lc_writer_drop(w)
      w = native.check(C.lc_writer_new(path))
      C.lc_scope_begin()
      native.check(C.lc_writer_add(w, "a", tensor.ones { 2 }))
      C.lc_scope_end()
      assert.equal(-1, C.lc_writer_finish(w))
      assert.equal(before, file.hash(path))
      assert.same({ "x.safetensors" }, file.list(folder))
      assert.is_nil((write(folder .. "/none/x", {})))
    end)

    it("survives every failed allocation", function()
      local t, n, done = tensor.randn({ 4, 6 }, { seed = 4 }):transpose(1, 2), 0, false
      assert.truthy(write(path, { a = tensor.ones { 1 } }))
      collectgarbage()
      while not done do
        n = n + 1
        C.lc_memory_fail_at(n)
        local w = C.lc_writer_new(path)
        local added = w ~= nil and C.lc_writer_metadata(w, "k", "v") == 0 and C.lc_writer_add(w, "t", t) == 0
        if added then done = C.lc_writer_finish(w) == 0 elseif w ~= nil then C.lc_writer_drop(w) end
        C.lc_memory_fail_at(0)
        assert.same({ "x.safetensors" }, file.list(folder))
        assert.truthy(open(path))
      end
      assert.is_true(n > 8)
      local c
      n = 0
      repeat
        n = n + 1
        C.lc_memory_fail_at(n)
        c = C.lc_checkpoint_open(path)
        C.lc_memory_fail_at(0)
      until c ~= nil
      assert.is_true(n > 8)
      C.lc_checkpoint_close(c)
    end)
  end)

  describe("in a folder", function()
    local function shards(map, files)
      for name, tensors in pairs(files) do assert(write(folder .. "/" .. name, tensors)) end
      json.write(folder .. "/model.safetensors.index.json", { metadata = { total_size = 8 }, weight_map = map })
      local c, reason = open(folder)
      return c and names(c) or reason, c
    end
    local one, two = tensor.ones { 1 }, tensor.full({ 1 }, 2)

    it("is model.safetensors, an index, or an adapter", function()
      assert.matches("adapter_model.bin; it holds nothing$", select(2, open(folder)))
      file.write(folder .. "/mm_projector.bin", "")
      file.write(folder .. "/config.json", "{}")
      assert.matches("it holds config.json, mm_projector.bin; one of its files alone is read when its own path",
        select(2, open(folder)))
      assert(write(folder .. "/adapter_model.safetensors", { l = one }))
      assert.same({ "l" }, names(open(folder)))
      local list, c = shards({ a = "s1.safetensors", b = "s2.safetensors" },
        { ["s1.safetensors"] = { a = one }, ["s2.safetensors"] = { b = two } })
      assert.same({ "a", "b" }, list)
      assert.same({ 2 }, load(c, "b"):tolist())
      assert(write(folder .. "/model.safetensors", { m = one }))
      assert.same({ "m" }, names(open(folder)))
    end)

    it("is refused when index and files disagree, with the names", function()
      local files = { ["s1.safetensors"] = { a = one, c = one }, ["s2.safetensors"] = { b = two } }
      local missing = shards({ a = "s1.safetensors", c = "s1.safetensors", b = "s2.safetensors",
        d = "s2.safetensors" }, files)
      assert.matches("does not fit its files: d %(missing%)", missing)
      assert.matches("c %(not in the index%)", (shards({ a = "s1.safetensors", b = "s2.safetensors" }, files)))
      local swapped = shards({ a = "s2.safetensors", b = "s2.safetensors", c = "s1.safetensors" }, files)
      assert.matches("a %(missing%), a %(not in the index%)", swapped)
      assert.matches("s3.safetensors: the index names this file, but it is not there; get it, too", (shards({ a = "s3.safetensors" }, files)))
      files["s2.safetensors"].a = two
      assert.matches("a %(not in the index%)", (shards({ a = "s1.safetensors", b = "s2.safetensors",
        c = "s1.safetensors" }, files)))
    end)

    it("is refused when a file's name leaves the folder or is none", function()
      for _, name in ipairs { "../x.safetensors", "a/b", "/etc/passwd", "..", "", ".hidden", "a\\b", 3 } do
        assert.matches("is no file beside the index", (shards({ a = name }, {})))
      end
      local index = folder .. "/model.safetensors.index.json"
      for what, text in pairs { ["no weight_map"] = "{}", ["twice"] = '{"weight_map":{"a":"x","a":"y"}}',
        ["expected"] = "{", ["has no weight_map"] = '{"weight_map":[]}' } do
        file.write(index, text)
        assert.matches(what, select(2, open(folder)))
      end
    end)
  end)
end)

describe("a writer whose filling fails", function()
  it("leaves no file and holds no memory", function()
    local dir = support.folder()
    local before, path = tonumber(C.lc_memory_used()), dir .. "/new.safetensors"
    local t = tensor.zeros { 8, 8 }
    local used = tonumber(C.lc_memory_used()) - before
    local ok, reason = pcall(checkpoint.write, path, function(writer)
      native.check(C.lc_writer_add(writer, "t", t))
      error("enough", 0)
    end)
    assert.same({ false, "enough" }, { ok, reason })
    assert.same({}, file.list(dir))
    assert.equal(before + used, tonumber(C.lc_memory_used()))
    support.remove(dir)
  end)
end)
