-- Files of torch.save: they load as torch loads them, nothing of them is run, and what does not fit is
-- refused by name.
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"
local tensor = require "lucid.tensor"
local build = require "tests.support.torchfile"
local support = require "tests.support.folder"

local C = native.C
local GOLDEN = "tests/golden/torchfile"
local WORDS = {
  float32 = "F32", float16 = "F16", bfloat16 = "BF16", float64 = "F64", int64 = "I64", int32 = "I32",
  uint8 = "U8", bool = "BOOL", uint16 = "U16", float8_e4m3fn = "F8_E4M3",
}
local LOADED = { F32 = true, F16 = true, BF16 = true, I32 = true, U8 = true }

local function open(path)
  local ok, c = pcall(checkpoint.open, path)
  if ok then return c end
  return nil, (c:gsub("^[^ ]*%.lua:%d+: ", ""))
end

local function flat(value, out)
  out = out or {}
  if type(value) == "table" then
    for _, v in ipairs(value) do flat(v, out) end
  else
    out[#out + 1] = value
  end
  return out
end

describe("a file of torch.save", function()
  local folder, path
  before_each(function()
    folder = support.folder()
    path = folder .. "/x.pth"
  end)
  after_each(function()
    collectgarbage()
    support.remove(folder)
  end)

  local golden = json.read(GOLDEN .. "/golden.json")
  for name, wanted in pairs(golden) do
    if name ~= "versions" then
      it("holds what torch finds in it: " .. name, function()
        local c = checkpoint.open(GOLDEN .. "/" .. name)
        local names = {}
        for key in pairs(wanted) do names[#names + 1] = key end
        table.sort(names)
        assert.same(names, c:names())
        for key, t in pairs(wanted) do
          assert.equal(WORDS[t.dtype], c:dtype(key), key)
          assert.same(flat(t.shape), c:shape(key), key)
          if LOADED[c:dtype(key)] then
            assert.same(flat(t.values), flat(c:tensor(key):tolist()), key)
          else
            local ok, reason = pcall(c.tensor, c, key)
            assert.is_false(ok)
            assert.matches("F32, F16, BF16, I32 and U8 are loaded", reason)
          end
        end
      end)
    end
  end

  it("gives tensors that stand end to end as they are mapped, without a copy", function()
    local c = checkpoint.open(GOLDEN .. "/plain.pth")
    local whole, tied, part = c:tensor("whole"), c:tensor("tied"), c:tensor("part")
    whole:copy(tensor.zeros { 4, 6 })
    assert.equal(0, flat(tied:tolist())[24])
    assert.equal(1, flat(part:tolist())[1])
  end)

  it("is refused when it asks for anything but tensors, by its name", function()
    for what, body in pairs {
      ["posix%.system"] = build.call(build.global("posix", "system"), build.text("touch " .. folder .. "/ran")),
      ["builtins%.eval"] = build.call(build.text("builtins") .. build.text("eval") .. "\147", build.text("1")),
      ["os%.system"] = "(" .. build.text("touch " .. folder .. "/ran") .. "ios\nsystem\n",
      ["torch%.hub%.load"] = build.dict(build.text("a"), build.global("torch.hub", "load")),
      ["torch%.FloatStorage%?"] = build.global("torch", "FloatStorage\27"),
      ["EXT"] = "\130\1",
      ["no instruction is 0x6F"] = "(" .. build.global("torch", "Size") .. "o",
      ["a call of what is no name"] = build.text("x") .. build.tuple() .. "R",
      ["attributes of what is no object"] = build.text("x") .. build.dict() .. "b",
    } do
      file.write(path, build.file(body))
      local c, reason = open(path)
      assert.is_nil(c, what)
      assert.equal(path, reason:sub(1, #path))
      assert.matches(what, reason)
      assert.is_nil(reason:find("\n"))
    end
    assert.matches("torch.nn.modules.linear.Linear, which no tensor needs; nothing of it was run",
      select(2, open(GOLDEN .. "/module.pth")))
    assert.same({ "x.pth" }, file.list(folder))
  end)

  it("is refused when a tensor does not fit its storage", function()
    local function refused(what, t)
      file.write(path, build.file(build.dict(build.text("w"), build.tensor(t))))
      local c, reason = open(path)
      assert.is_nil(c, what)
      assert.matches(what, reason)
      assert.matches("x.pth: w: ", reason)
    end
    local huge = 2 ^ 52
    file.write(path, build.file(build.dict(build.text("w"), build.tensor {})))
    assert.same({ 0, 1, 2, 3, 4, 5 }, flat(checkpoint.open(path):tensor("w"):tolist()))
    refused("reaches beyond its storage", { offset = 1 })
    refused("reaches beyond its storage", { size = { 2, 4 }, stride = { 3, 1 } })
    refused("reaches beyond its storage", { offset = huge })
    refused("overflows 63 bits", { size = { huge, huge }, stride = { 0, 0 } })
    refused("overflows 63 bits", { size = { huge }, stride = { huge } })
    refused("repeats elements", { size = { 4, 3 }, stride = { 0, 1 } })
    refused("what is no size", { size = { -1, 3 } })
    refused("what is no size", { size = { 2, "N" } })
    refused("what is no size", { size = { 2, build.int(2 ^ 70) } })
    refused("not as many strides as sizes", { stride = { 1 } })
    refused("offset is no size", { offset = -1 })
    refused("'1' is not in the file", { key = "1" })
    refused("has 24 bytes in the file, not 28", { elements = 7 })
    refused("has 24 bytes in the file, not 12", { storage = "HalfStorage" })
    refused("overflows 63 bits", { elements = 2 ^ 62, storage = "LongStorage" })
    refused("has a type that is none", { storage = "Size" })
  end)

  it("is refused when its names are not the tensors' own", function()
    local t = build.tensor {}
    for what, body in pairs {
      ["a%.b: this name stands twice"] = build.dict(build.text("a.b"), t, build.text("a"),
        build.dict(build.text("b"), t)),
      ["empty or too long"] = build.dict(build.text(("x"):rep(600)), t),
      ["control character"] = build.dict(build.text("a\nb"), t),
      ["neither text nor a number"] = build.dict(build.tuple(), t),
      ["there is no tensor in it"] = build.dict(build.text("lr"), build.int(1)),
      ["nests deeper than 64"] = "}q\0" .. build.text("a") .. "h\0s",
    } do
      file.write(path, build.file(body))
      assert.matches(what, select(2, open(path)))
    end
    -- Each list holds the one before twice: 2^40 places of one tensor.
    local doubled = t .. "q\0"
    for i = 1, 40 do doubled = doubled .. "0" .. "](h" .. string.char(i - 1) .. "h" .. string.char(i - 1)
      .. "eq" .. string.char(i) end
    file.write(path, build.file(doubled))
    assert.matches("more than 262144 places", select(2, open(path)))
    file.write(path, build.file("(" .. ("("):rep(300)))
    assert.matches("nests deeper than 256", select(2, open(path)))
  end)

  it("is refused when its zip is not as PyTorch writes it", function()
    local pickle = { "a/data.pkl", build.pickle(build.dict(build.text("w"), build.tensor {})) }
    local data = { "a/data/0", ("\0"):rep(24) }
    local function refused(what, entries, options)
      file.write(path, build.zip(entries, options))
      local c, reason = open(path)
      assert.is_nil(c, what)
      assert.matches(what, reason)
      assert.equal(path, reason:sub(1, #path))
    end
    file.write(path, build.zip { pickle, data })
    assert.truthy(open(path))
    refused("no NAME/data.pkl", { { "weights.txt", "x" } })
    refused("no NAME/data.pkl", { { "data.pkl", pickle[2] }, data })
    refused("two pickles", { pickle, { "b/data.pkl", "" } })
    refused("two of this name", { pickle, data, data })
    refused("'0' is not in the file", { pickle, { "b/data/0", data[2] } })
    refused("is compressed, which PyTorch never does", { pickle, { "a/data/0", data[2], method = 8 } })
    refused("is encrypted", { { pickle[1], pickle[2], flags = 1 }, data })
    refused("its sum is wrong", { { pickle[1], pickle[2], crc = 5 }, data })
    refused("has another name", { pickle, { data[1], data[2], local_name = "a/data/1" } })
    refused("disagree", { pickle, { data[1], data[2], local_name = "a/data/01" } })
    refused("beyond the file's end", { pickle, { data[1], data[2], size = 1e6, local_size = 1e6 } })
    refused("disagree on its size", { pickle, { data[1], data[2], size = 20 } })
    refused("disagree", { pickle, { data[1], data[2], at = 0 } })
    refused("not in the file", { pickle, { data[1], data[2], at = 1e8 } })
    refused("fewer entries", { pickle, data }, { count = 300 })
    refused("more entries", { pickle, data }, { count = 1 })
    refused("does not end where its end begins", { pickle, data }, { directory = 3 })
    refused("big endian", { pickle, data, { "a/byteorder", "big" } })
    refused("fewer entries", { pickle, data }, { large = true, count = 2 ^ 40 })
    refused("does not end where its end begins", { pickle, data }, { large = true, directory = 2 ^ 50 })
    refused("sizes are impossible", { pickle, { data[1], data[2], size = 2 ^ 63 } }, { large = true })
    file.write(path, build.zip({ pickle, data }, { large = true }))
    assert.same({ 0, 0, 0, 0, 0, 0 }, flat(checkpoint.open(path):tensor("w"):tolist()))
    local whole = build.zip { pickle, data }
    file.write(path, whole:sub(1, -30))
    assert.matches("not downloaded to its end", select(2, open(path)))
  end)

  it("is refused when a short pickle would be walked for hours: one long list that it holds often", function()
    local long = "](N" .. ("2"):rep(2 ^ 19) .. "eq\0000"
    file.write(path, build.file(long .. "(h\0" .. ("2"):rep(2 ^ 18 - 2) .. "l"))
    assert.matches("x.pth: %d+: its lists and dictionaries hold more than 16777216 values together", select(2, open(path)))
  end)

  it("never crashes the reader, whichever byte of it is another", function()
    local state = 12345
    local function random(n)
      state = (state * 1103515245 + 12345) % 2147483648
      return math.floor(state / 65536) % n
    end
    local refused, read = 0, 0
    for _, name in ipairs { "alone.pth", "attributed_before16.pth", "before16.pth", "nested.pth" } do
      local whole = file.read(GOLDEN .. "/" .. name)
      -- Without the sums of the zip's entries, which would find changes of the pickle first.
      whole = whole:gsub("(PK\1\2" .. ("."):rep(12) .. ")....", "%1\0\0\0\0")
      for at = 1, #whole, 3 do
        local byte = string.char((whole:byte(at) + 1 + random(255)) % 256)
        local bytes = whole:sub(1, at - 1) .. byte .. whole:sub(at + 1)
        if random(8) == 0 then bytes = bytes:sub(1, random(#bytes) + 1) end
        local f = assert(io.open(path, "wb")) -- without file.write's wait for the disk
        f:write(bytes)
        f:close()
        local c, reason = open(path)
        if c then
          read = read + 1
          for _, key in ipairs(c:names()) do
            local ok, why = pcall(c.tensor, c, key)
            if not ok then assert.matches("x.pth", why) end
          end
        else
          refused = refused + 1
          assert.matches("x.pth: ", reason)
          assert.is_nil(reason:find("\n"))
        end
      end
    end
    assert.is_true(refused > 300 and read > 300, refused .. " refused, " .. read .. " read")
  end)

  it("loses no memory when memory ends", function()
    for _, name in ipairs { "plain.pth", "before16.pth" } do
      local c
      local n, before = 0, C.lc_memory_used()
      repeat
        n = n + 1
        C.lc_memory_fail_at(n)
        c = C.lc_checkpoint_open(GOLDEN .. "/" .. name)
        C.lc_memory_fail_at(0)
        if c == nil then assert.equal(before, C.lc_memory_used()) end
      until c ~= nil
      assert.is_true(n > 8)
      C.lc_checkpoint_close(c)
      assert.equal(before, C.lc_memory_used())
    end
  end)

  it("is named for what it is when it is something else, with what to do", function()
    for what, bytes in pairs {
      ["Git LFS pointer, not the file itself; git lfs pull gets it"] =
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
      ["HTML page, not weights; the download went wrong"] = "\n<!DOCTYPE html><html></html>",
      ["XML reply, not weights"] = "<?xml version='1.0'?><Error/>",
      ["tar archive, which PyTorch wrote before 0.4"] = ("x"):rep(257) .. "ustar\0" .. ("\0"):rep(400),
      ["compressed with gzip; unpack it first"] = "\31\139\8\0",
      ["it has 0 bytes; get it again"] = "",
      ["pickle of Python, but not one of torch.save"] = build.pickle(build.text("hello")),
    } do
      file.write(path, bytes)
      local c, reason = open(path)
      assert.is_nil(c)
      assert.matches(what, reason, 1, true)
      assert.equal(path, reason:sub(1, #path))
    end
  end)

  describe("in a folder", function()
    local one = build.file(build.dict(build.text("a"), build.tensor {}))
    local two = build.file(build.dict(build.text("b"), build.tensor {}))

    it("is pytorch_model.bin, its parts, or adapter_model.bin; safetensors go first", function()
      file.write(folder .. "/adapter_model.bin", one)
      assert.same({ "a" }, checkpoint.open(folder):names())
      file.write(folder .. "/p1.bin", one)
      file.write(folder .. "/p2.bin", two)
      local index = folder .. "/pytorch_model.bin.index.json"
      json.write(index, { weight_map = { a = "p1.bin", b = "p2.bin" } })
      local c = checkpoint.open(folder)
      assert.same({ "a", "b" }, c:names())
      assert.same({ 0, 1, 2, 3, 4, 5 }, flat(c:tensor("b"):tolist()))
      file.write(folder .. "/pytorch_model.bin", two)
      assert.same({ "b" }, checkpoint.open(folder):names())
      checkpoint.save(folder .. "/model.safetensors", { s = tensor.zeros { 1 } })
      assert.same({ "s" }, checkpoint.open(folder):names())
    end)

    it("is refused when its index does not fit, with the file's name", function()
      local index = folder .. "/pytorch_model.bin.index.json"
      file.write(folder .. "/p1.bin", one)
      local function refused(what, map)
        json.write(index, { weight_map = map })
        assert.matches(what, select(2, open(folder)), 1, true)
      end
      refused("/p2.bin: the index names this file, but it is not there; get it, too", { a = "p1.bin", b = "p2.bin" })
      refused("'../p1.bin' is no file beside the index", { a = "../p1.bin" })
      refused("'/etc/passwd' is no file beside the index", { a = "/etc/passwd" })
      refused("the index does not fit its files: b (missing)", { a = "p1.bin", b = "p1.bin" })
      refused("a (not in the index)", { b = "p1.bin" })
      local many, before = {}, os.clock()
      for i = 1, 400000 do many[("b%x"):format(i)] = "p1.bin" end
      refused("b1 (missing), b10 (missing), ", many)
      assert.is_true(os.clock() - before < 8, "the time grows with the square of the names")
      file.write(folder .. "/p2.bin", "version https://git-lfs.github.com/spec/v1\n")
      refused("/p2.bin: it is a Git LFS pointer", { a = "p1.bin", b = "p2.bin" })
      file.write(index, "version https://git-lfs.github.com/spec/v1\n")
      assert.matches(index .. ": it is a Git LFS pointer", select(2, open(folder)), 1, true)
      file.write(index, "<html>")
      assert.matches(index .. ": it is an HTML page", select(2, open(folder)), 1, true)
      file.write(index, one)
      assert.matches(index .. ": it holds tensors, not an index", select(2, open(folder)), 1, true)
    end)
  end)

  it("is told from hostile pickles of others", function()
    local others = "../shared/data/pickle/picklescan/data"
    local list = file.list(others)
    if not list then return pending("the files are not here") end
    local good = {}
    for _, name in ipairs(list) do
      local c, reason = open(others .. "/" .. name)
      if c then good[#good + 1] = name .. " " .. #c:names() else assert.is_nil(reason:find("\n")) end
    end
    assert.same({ "new_pytorch_model.bin 1", "pytorch_model.bin 38" }, good)
  end)
end)
