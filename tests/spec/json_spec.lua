-- JSON: what is accepted and refused, exactness both ways, and records read one by one.
local ffi = require "ffi"
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"
local support = require "tests.support.folder"

local SUITE = "../shared/data/json/JSONTestSuite/test_parsing"
local POPE = "../shared/data/pope"

local function refused(text, name)
  local ok, reason = pcall(json.decode, text, name)
  assert.is_false(ok, text)
  return reason
end

describe("json.decode", function()
  it("takes and refuses what the test suite says", function()
    local names = file.list(SUITE)
    if not names then return pending("JSONTestSuite is not here") end
    local taken, no = 0, 0
    for _, name in ipairs(names) do
      local ok, reason = pcall(json.read, SUITE .. "/" .. name)
      if name:match("^y_") then
        taken = taken + 1
        assert.is_true(ok, name .. ": " .. tostring(reason))
      elseif name:match("^n_") then
        no = no + 1
        assert.is_false(ok, name)
        assert.truthy(reason:match("^[^\n]*:%d+:%d+: [^\n]+$"), reason)
      end
    end
    assert.is_true(taken > 90 and no > 100)
  end)

  -- The grammar's edges once more, so that they are tested where the suite is not.
  it("takes what is JSON and nothing else", function()
    for _, text in ipairs { "0", "-0.0e+0", '""', "[]", "{}", " [1 , 2]\r\n", '{"":{"":[]}}', '"\\u0000\\ud83d\\ude00"', '"\127"',
      "1E5", "null", ("["):rep(64) .. ("]"):rep(64), '"\240\159\152\128"', '["\\/"]', "123456789012345678" } do
      local ok, reason = pcall(json.decode, text)
      assert.is_true(ok, text .. ": " .. tostring(reason))
    end
    for _, text in ipairs { "", " ", "[", "]", "[1,]", "[,1]", "[1 2]", "{1:2}", '{"a"}', '{"a":}', '{"a":1,}', "{'a':1}", '{a:1}', "tru",
      "True", "nulls", "NaN", "-Infinity", "+1", ".5", "1.", "1.e1", "1e", "1e+", "-", "--1", "01", "-01", "0x1", "1_0", '"', '"\\x"',
      '"\\u12g4"', '"\\ud800"', '"\\ud800\\u0041"', '"\\udc00"', '"\n"', '"\t"', '"\0"', '"\255"', '"\237\160\128"', '"\192\175"',
      "[1]x", "[1][2]", "//\n1", "[1/**/]", "\0", "1\0", "\11 1", "\194\1601", '\239\187', ("["):rep(65) .. ("]"):rep(65), ("["):rep(1e5),
      ('{"a":'):rep(1e5), "[" .. ("\n"):rep(10), '["a\\', "1e400" } do
      assert.matches("^json:%d+:%d+: [^\n]+$", refused(text))
    end
  end)

  it("reads no file whole that is larger than memory should hold", function()
    local path = os.tmpname()
    assert.equal(0, os.execute("truncate -s 257M " .. path))
    local ok, reason = pcall(json.read, path)
    os.remove(path)
    assert.is_false(ok)
    assert.equal(path .. ": it has 257 MiB; JSON that is read whole has at most 256", reason)
  end)

  it("gives Lua's values", function()
    local v = json.decode(' {"a": [1, -2.5e3, true, false, null, "x"], "b": {}} ')
    assert.same({ 1, -2500, true, false, json.null, "x" }, { unpack(v.a) })
    assert.same({}, v.b)
    assert.equal(json.null, json.decode("null"))
    assert.equal("null", tostring(json.null))
  end)

  it("names the place of an error", function()
    assert.equal("x.json:2:7: ']' stands where a value is expected", refused('{\n "a": ]}', "x.json"))
    assert.equal("json:1:4: the text ends where ',' or ']' is expected", refused("[1 "))
    assert.equal("json:1:5: control character 0x09 within a string", refused('["äö\t"]'))
    assert.equal("json:1:3: byte 0xFF is not UTF-8", refused('["\255"]'))
    assert.equal("json:1:2: this string has no end", refused('["abc'))
    assert.equal("json:1:3: \\uD800 is half a character", refused('["\\uD800"]'))
    assert.equal("json:1:2: a number begins with 0", refused("[01]"))
    assert.equal("json:1:2: the number is beyond what a double holds", refused("[1e400]"))
    assert.equal("json:1:4: '2' stands where the end of the text is expected", refused("{} 2"))
  end)

  it("stops at 64 levels, however many there are", function()
    assert.truthy(json.decode(("["):rep(64) .. ("]"):rep(64)))
    assert.matches("deeper than 64", refused(("["):rep(65) .. ("]"):rep(65)))
    assert.matches("deeper than 64", refused(("["):rep(100000)))
    assert.matches("deeper than 64", refused(('{"a":'):rep(100000)))
  end)

  it("keeps strings whole: escapes, pairs, zero bytes", function()
    assert.equal('"\\/\b\f\n\r\t', json.decode('"\\"\\\\\\/\\b\\f\\n\\r\\t"'))
    assert.equal("é€😀", json.decode('"\\u00e9\\u20AC\\ud83d\\uDE00"'))
    assert.equal("a\0b", json.decode('"a\\u0000b"'))
    assert.equal(1, json.decode('{"a\\u0000b": 1, "a": 2}')["a\0b"])
    assert.equal(2, json.decode('{"a\\u0000b": 1, "a": 2}').a)
  end)

  it("keeps integers of 64 bits exactly", function()
    assert.equal(2 ^ 53, json.decode("9007199254740992"))
    assert.equal(9007199254740993LL, json.decode("9007199254740993"))
    assert.equal(-9223372036854775807LL - 1, json.decode("-9223372036854775808") + 0LL)
    assert.equal("9223372036854775807", json.encode(json.decode("9223372036854775807")))
    assert.equal(1e20, json.decode("100000000000000000000"))
    assert.equal(1e30, json.decode("1000000000000000019884624838656"))      -- a tokenizer's "no limit"
    assert.equal(1e20, json.decode("1e20"))
  end)

  it("refuses an integer that would lose digits, with its place", function()
    assert.equal("x:1:8: 9223372036854775809 would lose digits: it is beyond 64 bits; write it as a string",
      refused('{"id": 9223372036854775809}', "x"))
    assert.matches("^json:1:2: %-12345678901234567890 would lose digits", refused("[-12345678901234567890]"))
  end)

  it("takes the last of members with one key, or none of them", function()
    local text = '{"k": 1, "K": 2, "k": 3, "z": {"k": 4, "k": 5}}'
    assert.same({ k = 3, K = 2, z = { k = 5 } }, json.decode(text))
    assert.equal(nil, native.C.lc_json_parse(text, #text, "x", 1) ~= nil or nil)
    assert.equal('x:1:40: the key "k" stands twice in one object', ffi.string(native.C.lc_error()))
  end)

  it("looks keys up by their case", function()
    local text = '{"Key": 1}'
    local root = native.C.lc_json_parse(text, #text, "x", 1)
    assert.is_true(native.C.lc_json_get(root, "Key") ~= nil)
    assert.is_true(native.C.lc_json_get(root, "key") == nil)
    native.C.lc_json_free(root)
  end)

  it("survives every failed allocation and gives every byte back", function()
    local text = '{"a": [1, 1234567890123456789, "x", {"b": null, "b": "\\u0000"}], "c": "' .. ("y"):rep(99) .. '"}'
    collectgarbage()
    local before, n, root = native.C.lc_memory_used(), 0
    repeat
      n = n + 1
      native.C.lc_memory_fail_at(n)
      root = native.C.lc_json_parse(text, #text, "x", 0)
      native.C.lc_memory_fail_at(0)
      if root == nil then
        assert.equal(native.C.LC_ENOMEM, native.C.lc_error_code())
        assert.equal(before, native.C.lc_memory_used())
      end
    until root ~= nil
    native.C.lc_json_free(root)
    assert.equal(before, native.C.lc_memory_used())
    assert.is_true(n > 15)
  end)
end)

describe("json.encode", function()
  it("writes whole numbers with a point where it is asked to", function()
    local floats = { a = true, s = true }
    assert.equal('{"a":1.0,"b":1,"c":{"a":-3.0},"s":"1"}',
      json.encode({ a = 1, b = 1, c = { a = -3 }, s = "1" }, { floats = floats }))
    assert.equal('{"a":0.5}', json.encode({ a = 0.5 }, { floats = floats }))
    assert.equal('{"a":1e+20}', json.encode({ a = 1e20 }, { floats = floats }))
  end)

  it("sorts keys and writes numbers short and exact", function()
    assert.equal('{"a":[1,0.1,1e+300,-5],"b":{"x":true,"y":null}}',
      json.encode { b = { y = json.null, x = true }, a = { 1, 0.1, 1e300, -5 } })
    assert.equal("0.30000000000000004", json.encode(0.1 + 0.2))
    assert.equal("3", json.encode(3.0))
    assert.equal("123456789012345", json.encode(123456789012345))
    for _, v in ipairs { 1 / 3, 2 ^ -1074, 1.7976931348623157e308, 2 ^ 60, -1e15, 5e-324, math.pi } do
      assert.equal(v, json.decode(json.encode(v)))
    end
  end)

  it("writes lists that are marked or not empty", function()
    assert.equal("{}", json.encode {})
    assert.equal("[]", json.encode(json.array {}))
    assert.equal("[]", json.encode(json.decode "[]"))
    assert.equal('{"a":[],"b":{}}', json.encode(json.decode '{"b":{},"a":[]}'))
  end)

  it("indents", function()
    assert.equal('{\n  "a": 1,\n  "b": [\n    1,\n    {}\n  ],\n  "c": []\n}',
      json.encode({ a = 1, b = { 1, {} }, c = json.array {} }, { indent = 2 }))
  end)

  it("writes any bytes as valid JSON", function()
    assert.equal('"\\u0000\\u0001\\n\\u007f\\"\\\\é😀"', json.encode "\0\1\n\127\"\\é😀")
    assert.equal('"\239\191\189a\239\191\189\239\191\189"', json.encode "\255a\192\175")
    local every = {}
    for i = 0, 255 do every[i + 1] = string.char(i) end
    assert.truthy(json.decode(json.encode(table.concat(every))))
  end)

  it("refuses what JSON does not have and says where it is", function()
    local function reason(v) return select(2, pcall(json.encode, v)) end
    assert.matches("a%[2%]%.b is NaN", reason { a = { 1, { b = 0 / 0 } } })
    assert.matches("x is %-inf", reason { x = -math.huge })
    assert.matches("f is a function", reason { f = print })
    assert.matches("the key true", reason { [true] = 1 })
    local loop = {}
    loop.loop = loop
    assert.matches("deeper than 64", reason(loop))
    assert.matches("list", reason { 1, 2, x = 3 })
  end)

  it("returns random values unchanged", function()
    math.randomseed(7)
    local function value(depth)
      local kind = math.random(depth > 4 and 4 or 6)
      if kind == 1 then return math.random() < 0.5 end
      if kind == 2 then return math.random(-1e9, 1e9) end
      if kind == 3 then return (math.random() - 0.5) * 10 ^ math.random(-200, 200) end
      if kind == 4 then return ("é\0x\n"):rep(math.random(0, 3)) end
      local t = {}
      for i = 1, math.random(0, 5) do
        t[kind == 5 and i or ("k" .. math.random(99))] = value(depth + 1)
      end
      return kind == 5 and json.array(t) or t
    end
    for _ = 1, 300 do
      local v = value(1)
      assert.same(v, json.decode(json.encode(v)))
      assert.same(v, json.decode(json.encode(v, { indent = 1 })))
    end
  end)
end)

describe("json.each", function()
  local folder, path
  before_each(function()
    folder = support.folder()
    path = folder .. "/x.json"
  end)
  after_each(function() support.remove(folder) end)

  local function all(text)
    file.write(path, text)
    local list = {}
    for record, key, line in json.each(path) do list[#list + 1] = { record, key, line } end
    return list
  end

  it("reads arrays, objects, lines and values one after another", function()
    assert.same({ { { a = 1 }, 1, 1 }, { 2, 2, 2 }, { "x", 3, 2 } }, all('[{"a": 1},\n2, "x"]\n'))
    assert.same({ { { 1 }, "k", 1 }, { "v", "a b", 3 } }, all('{"k": [1],\n\n"a b":\n"v"}'))
    assert.same({ { { a = 1 }, 1, 1 }, { { a = 2 }, 2, 2 } }, all('{"a": 1}\n{"a": 2}\n'))
    assert.same({ { { a = 1 }, 1, 1 }, { { a = 2 }, 2, 4 } }, all('{\n"a": 1\n}\n{"a":\n2}'))
    assert.same({ { 1, 1, 1 }, { "x y", 2, 1 }, { true, 3, 2 } }, all('1 "x y"\ntrue'))
    assert.same({}, all("[]"))
    assert.same({}, all("{}"))
    assert.same({}, all(""))
  end)

  it("tells keys that stand twice, with their number", function()
    file.write(path, '[{"a": 1}, {"a": 1, "b": {"c": 1, "c": 2}, "a": 3}, {"a": 1, "a": 2}]')
    local script = folder .. "/s.lua"
    file.write(script, ('local n = 0 for r in require("lucid").json.each(%q) do n = n + r.a end print(n)'):format(path))
    local pipe = io.popen((os.getenv("LUCID_BIN") or "bin/lucid") .. " " .. script .. " 2>&1")
    local said = pipe:read("*a")
    pipe:close()
    assert.equal(path .. ": 3 keys stand twice in their object, first in record 2; the last of each counts\n6\n", said)
  end)

  it("reads a byte order mark and Windows' line ends", function()
    assert.same({ { { a = 1 }, 1, 1 }, { { a = 2 }, 2, 2 } }, all('\239\187\191{"a": 1}\r\n{"a": 2}\r\n'))
  end)

  it("takes a file named *.jsonl as records, also when there is one", function()
    path = folder .. "/x.jsonl"
    assert.same({ { { a = 1 }, 1, 1 } }, all('{"a": 1}\n'))
  end)

  it("names the line of a bad record, after those before it", function()
    file.write(path, '{"a": 1}\n{"a": 2}\n{"a": }\n')
    local seen = 0
    local ok, reason = pcall(function()
      for _ in json.each(path) do seen = seen + 1 end
    end)
    assert.is_false(ok)
    assert.equal(2, seen)
    assert.equal(path .. ":3:7: '}' stands where a value is expected", reason)
    for text, what in pairs {
      ["[1, 2"] = ":1:6: ", ["[1,]"] = ":1:4: ", ["[1 2]"] = ":1:4: ", ["[1] 2"] = ":1:5: ",
      ['{"a": 1, 2: 3}'] = ":1:10: ", ['{"a" 1}'] = ":1:6: ", ["["] = ":1:2: ", ['{"a": 1'] = ":1:8: ",
      ["[[["] = ":1:4: ", [("["):rep(100000)] = "deeper than 64", ['"abc'] = ":1:1: ", ["]"] = ":1:1: ",
    } do
      local passed, why = pcall(all, text)
      assert.is_false(passed, text:sub(1, 20))
      assert.is_truthy(why:find(what, 1, true), why)
    end
  end)

  it("says what lies in a file's place, whichever way it is read", function()
    for text, what in pairs { ["version https://git-lfs.github.com/spec/v1\n"] = "it is a Git LFS pointer",
      ["\n<!DOCTYPE html>"] = "it is an HTML page, not JSON", ["\31\139\8\0"] = "it is compressed with gzip" } do
      file.write(path, text)
      for _, read in ipairs { json.read, function() json.each(path)() end,
        function() json.index(path, "image_id") end } do
        local ok, why = pcall(read, path)
        assert.is_false(ok)
        assert.truthy(why:find(path .. ": " .. what, 1, true), why)
      end
    end
  end)

  it("goes over the edges of its buffer, whatever the lengths", function()
    local lines, sizes = {}, { 1, 65520, 65530, 65536, 70000, 131072, 300000, 17 }
    for i, n in ipairs(sizes) do lines[i] = json.encode { id = i, text = ("ä\n"):rep(n) } end
    for _, text in ipairs { table.concat(lines, "\n"), "[" .. table.concat(lines, " ,\n") .. "]" } do
      local list = all(text)
      assert.equal(#sizes, #list)
      for i, item in ipairs(list) do
        assert.equal(i, item[1].id)
        assert.equal(3 * sizes[i], #item[1].text)
        assert.equal(i, item[3])
      end
    end
  end)

  it("holds one record at a time", function()
    local record = json.encode { text = ("x"):rep(1000) }
    file.write(path, "[" .. (record .. ",\n"):rep(20000) .. record .. "]")
    collectgarbage()
    native.C.lc_memory_peak_reset()
    local before, count = native.C.lc_memory_used(), 0
    for _ in json.each(path) do count = count + 1 end
    assert.equal(20001, count)
    assert.is_true(native.C.lc_memory_peak() - before < 2 ^ 20)
  end)

  it("reads a list within the file's object, whatever stands before and behind it", function()
    local function within(text, member)
      file.write(path, text)
      local list = {}
      for record, key, line in json.each(path, member) do list[#list + 1] = { record, key, line } end
      return list
    end
    local text = '{"a": {"b": [7, "]"]}, "n": -1e3, "list": [{"x": 1},\n2], "t": true, "none": [], "last": [3]}'
    assert.same({ { { x = 1 }, 1, 1 }, { 2, 2, 2 } }, within(text, "list"))
    assert.same({}, within(text, "none"))
    assert.same({ { 3, 1, 2 } }, within(text, "last"))
    for member, what in pairs { b = "there is no list 'b'", a = "its 'a' is no list", n = "its 'n' is no list" } do
      local ok, why = pcall(within, text, member)
      assert.is_false(ok)
      assert.is_truthy(why:find(what, 1, true), why)
    end
    for bad, what in pairs { ["[1]"] = "an object is expected", ['{"list": [1'] = ":1:12: ",
      ['{"a": 1 "list": [1]}'] = ":1:9: " } do
      local ok, why = pcall(within, bad, "list")
      assert.is_false(ok)
      assert.is_truthy(why:find(what, 1, true), why)
    end
  end)

  it("passes over what is longer than memory should hold", function()
    local record = json.encode { text = ("x"):rep(1000) }
    file.write(path, '{"before": [' .. (record .. ",\n"):rep(20000) .. record .. '], "list": [1, 2]}')
    collectgarbage()
    native.C.lc_memory_peak_reset()
    local before, count = native.C.lc_memory_used(), 0
    for _ in json.each(path, "list") do count = count + 1 end
    assert.equal(2, count)
    assert.is_true(native.C.lc_memory_peak() - before < 2 ^ 20)
  end)

  it("gives the row counts of POPE's files", function()
    local names = file.list(POPE .. "/coco_head")
    if not names then return pending("POPE's files are not here") end
    for _, name in ipairs(names) do
      local count = 0
      for record, key, line in json.each(POPE .. "/coco_head/" .. name) do
        count = count + 1
        assert(record.question_id and key == count and line == count)
      end
      assert.equal(3000, count, name)
    end
    for _, name in ipairs(file.list(POPE .. "/caption_data")) do
      local count = 0
      for record in json.each(POPE .. "/caption_data/" .. name) do
        count = count + 1
        assert(type(record) == "table")
      end
      assert.equal(2000, count, name)
    end
  end)
end)
