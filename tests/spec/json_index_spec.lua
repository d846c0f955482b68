-- The index over a large JSON array: what it finds, what its pass refuses, and when a kept one is not used.
local ffi = require "ffi"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"
local record = require "lucid.data.record"
local rng = require "lucid.rng"
local support = require "tests.support.folder"

local folder, path
before_each(function()
  folder = support.folder()
  path = folder .. "/x.json"
end)
after_each(function() support.remove(folder) end)

local function index(text, keys, cache)
  file.write(path, text)
  return json.index(path, keys or "image_id", cache)
end

local function reason(text, keys)
  local ok, why = pcall(index, text, keys)
  assert.is_false(ok, text)
  return (tostring(why):gsub("^.-x%.json", "x.json"))
end

describe("json.index", function()
  it("finds records by a key of theirs, wherever it stands", function()
    local x = index('\239\187\191 [{"a": [{"image_id": 9}, "]}"], "image_id": 7},\n {"image_id": "-12", "b": "\\"}"} , {"image_id":3}]\n')
    assert.equal(3, x.count)
    assert.same({ image_id = "-12", b = '"}' }, (x:get(-12)))
    assert.equal(2, select(2, x:get(-12)))
    assert.equal(7, x:get(7).image_id)
    assert.equal(3, x:get(3).image_id)
    assert.is_nil(x:get(9))
  end)

  it("finds them by the key of the first of a list, and counts empty lists", function()
    local x = index([=[[{"id": 1, "regions": [{"x": {"image_id": 4}, "image_id": 5}, {"image_id": 6}]},
      {"regions": [ ]}, {"regions": [{"image_id": 8}]}]]=], "regions/image_id")
    assert.equal(2, x.count)
    assert.equal(1, x.empty)
    assert.equal(2, #x:get(5).regions)
    assert.equal(3, select(2, x:get(8)))
  end)

  it("is empty for an empty list", function()
    assert.equal(0, index("[]").count)
    assert.is_nil(index("[]"):get(1))
  end)

  it("names the place of what breaks the array", function()
    for text, what in pairs {
      [""] = "x.json:1:1: the '[' of a list of records is expected here",
      ['{"image_id": 1}'] = "x.json:1:1: the '[' of a list of records is expected here",
      ["["] = "x.json:1:2: the file ends within its records",
      ['[{"image_id": 1}'] = "x.json:1:17: the file ends within its records",
      ['[{"image_id": 1},'] = "x.json:1:18: the file ends within its records",
      ['[{"image_id": 1},]'] = "x.json:1:18: the '{' of a record is expected here",
      ['[{"image_id": 1} {"image_id": 2}]'] = "x.json:1:18: ',' or ']' is expected here",
      ['[{"image_id": 1}] 2'] = "x.json:1:19: nothing may follow the end of the records",
      ['[{"image_id": 1}]\0'] = "x.json:1:18: nothing may follow the end of the records",
      ["[7]"] = "x.json:1:2: the '{' of a record is expected here",
      ['[{"image_id": 1},\n{"é": "a\tb"}]'] = "x.json:2:9: a control character in a string",
      ['[{"image_id": 1},\n\n {"é": "ab]'] = "x.json:3:2: the file ends within this record",
      ['[{"image_id": 1, "a": [1}]]'] = "x.json:1:25: this bracket closes one of the other kind",
      ['[{"image_id": 1, "a": \0}]'] = "x.json:1:23: this byte cannot stand outside strings",
      ['[{"image_id": 1, "a": ' .. ("["):rep(100)] = "x.json:1:85: lists and objects nest deeper than 64",
    } do assert.equal(what, reason(text)) end
  end)

  it("names the record without a key, with a wrong one, or with one that another has", function()
    assert.equal("x.json: record 2 has no 'image_id'", reason '[{"image_id": 1}, {"image": 2}]')
    assert.equal("x.json: record 1 has no 'image_id'", reason '[{}]')
    for _, value in ipairs { "1.5", "null", '"x"', "[1]", "1e2", "99999999999999999999", '""', '"1 "' } do
      assert.equal("x.json: record 1: its 'image_id' is no whole number", reason(('[{"image_id": %s}]'):format(value)))
    end
    assert.equal("x.json: record 3: its 'image_id' is that of record 1, too: 4",
      reason '[{"image_id": 4}, {"image_id": 3}, {"image_id": "4"}]')
    assert.equal("x.json: record 1 has no 'regions'", reason('[{"image_id": 4}]', "regions/image_id"))
    assert.equal("x.json: record 1: its 'regions' is no list", reason('[{"regions": {}}]', "regions/image_id"))
    assert.equal("x.json: record 1 has no 'image_id'", reason('[{"regions": [7]}]', "regions/image_id"))
    assert.equal("x.json: record 1 has no 'image_id'", reason('[{"regions": [{"x": 1}]}]', "regions/image_id"))
  end)

  it("checks the rest of a record when it is asked for", function()
    local x = index '[{"image_id": 1, "a": 01}, {"image_id": 2, "a": "\\x"}, {"image_id": 3, "a": "\255"}, {"image_id": 4}]'
    for id, what in pairs { [1] = "record 1:1:22: a number begins with 0",
      [2] = "record 2:1:23: there is no such escape", [3] = "record 3:1:23: byte 0xFF is not UTF-8" } do
      local ok, why = pcall(x.get, x, id)
      assert.is_false(ok)
      assert.is_truthy(why:find(path .. ": " .. what, 1, true), why)
    end
    assert.same({ image_id = 4 }, (x:get(4)))
  end)

  it("goes over the edges of its buffer, also within escapes", function()
    local parts = {}
    for i = 1, 40 do
      local text = ("\\\"]}é"):rep(7919 * i % 30000 + 1):sub(i % 4 + 1)
      parts[i] = json.encode { image_id = i, text = text }
    end
    local x = index("[" .. table.concat(parts, ",") .. "]")
    for i = 1, 40 do assert.is_true(x:get(i).text == json.decode(parts[i]).text) end
    -- One record longer than the first buffer.
    local long = ('\\"'):rep(2000000)
    assert.equal(2000000, #index(('[{"image_id": 1, "a": "%s"}]'):format(long)):get(1).a)
  end)

  it("agrees with the strict reader on damaged files", function()
    local random = rng(1, "json index")
    local whole = '[{"image_id": 1, "a": [true, {"b": "x\\"]"}]},\n {"a": -1.5e3, "image_id": "22"}, {"image_id":3}]'
    local bytes = ' "{}[]:,\\0123.-etrux\n\0\255'
    local taken, refused = 0, 0
    for _ = 1, 4000 do
      local at, b = random:integer(#whole), random:integer(#bytes)
      local cut = random:integer(3)
      local text = whole:sub(1, at - 1) .. (cut < 3 and bytes:sub(b, b) or "") .. whole:sub(at + (cut > 1 and 1 or 0))
      file.write(path, text)
      local strict, seen = {}, {}
      local ok = text:find("^%s*%[") and pcall(function()
        for r in json.each(path) do
          local id = record.of(r, path, #strict + 1):id("image_id")
          assert(not seen[id])
          seen[id] = true
          strict[#strict + 1] = { id, r }
        end
      end)
      local found, x = pcall(json.index, path, "image_id")
      if ok then
        taken = taken + 1
        assert.is_true(found, text)
        assert.equal(#strict, x.count)
        for _, r in ipairs(strict) do assert.same(r[2], (x:get(r[1]))) end
      elseif found then
        local fine = x.count > 0
        for id = -3, 1000 do fine = fine and pcall(x.get, x, id) end
        -- A key that is no id for the strict reader: below 0.
        assert.is_true(not fine or text:find("image_id\": *\"?%-") ~= nil, text)
      else
        refused = refused + 1
      end
    end
    assert.is_true(taken > 300 and refused > 1000, ("%d %d"):format(taken, refused))
  end)

  it("is kept beside the cache and taken from there", function()
    local text = '[{"image_id": 1}, {"image_id": 2}]'
    assert.equal("built", index(text, "image_id", folder .. "/cache").how)
    local kept = json.index(path, "image_id", folder .. "/cache")
    assert.equal("kept", kept.how)
    assert.equal(2, kept.count)
    assert.equal(2, kept:get(2).image_id)
  end)

  it("is made anew when the file is another, or newer, or of another size", function()
    local cache = folder .. "/cache"
    local text = '[{"image_id": 1}]'
    index(text, "image_id", cache)
    file.write(path, text) -- another inode
    assert.equal("built", json.index(path, "image_id", cache).how)
    os.execute("touch -d '2001-01-01' '" .. path .. "'")
    assert.equal("built", json.index(path, "image_id", cache).how)
    local out = io.open(path, "a")
    out:write(" ")
    out:close()
    os.execute("touch -d '2001-01-01' '" .. path .. "'")
    assert.equal("built", json.index(path, "image_id", cache).how)
    assert.equal("kept", json.index(path, "image_id", cache).how)
  end)

  it("is made anew when the kept one is damaged, at whatever byte, or cut short", function()
    local cache = folder .. "/cache"
    index('[{"image_id": 1}, {"image_id": 2}]', "image_id", cache)
    local kept = cache .. "/index/" .. file.list(cache .. "/index")[1]
    local bytes = file.read(kept)
    for i = 1, #bytes do
      file.write(kept, bytes:sub(1, i - 1) .. string.char((bytes:byte(i) + 1) % 256) .. bytes:sub(i + 1))
      assert.is_true(native.C.lc_json_index_load(path, "image_id", kept) == nil, i)
      file.write(kept, bytes:sub(1, i - 1))
      assert.is_true(native.C.lc_json_index_load(path, "image_id", kept) == nil, i)
    end
    assert.equal("built", json.index(path, "image_id", cache).how)
    assert.equal(bytes, file.read(kept))
  end)

  it("refuses a file that changes under it", function()
    local x = index '[{"image_id": 1}]'
    local out = io.open(path, "w")
    out:write '[{"image_id": 2}] '
    out:close()
    local ok, why = pcall(x.get, x, 1)
    assert.is_false(ok)
    assert.is_truthy(why:find("it has changed while it is read", 1, true), why)
  end)

  it("survives every failed allocation and gives every byte back", function()
    file.write(path, '[{"image_id": 1}, {"image_id": 2}]')
    collectgarbage()
    local before, n, x = native.C.lc_memory_used(), 0
    repeat
      n = n + 1
      native.C.lc_memory_fail_at(n)
      x = native.C.lc_json_index_build(path, "image_id")
      native.C.lc_memory_fail_at(0)
      if x == nil then
        assert.equal(native.C.LC_ENOMEM, native.C.lc_error_code(), ffi.string(native.C.lc_error()))
        assert.equal(before, native.C.lc_memory_used())
      end
    until x ~= nil
    native.C.lc_json_index_free(x)
    assert.equal(before, native.C.lc_memory_used())
    assert.is_true(n > 4)
  end)
end)
