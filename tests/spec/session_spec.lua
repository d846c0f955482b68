-- What the session makes of chunks that are piped in: variables that stay, values that are shown, a script in the end.
local chunk = require "lucid.session.chunk"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local lucid = require "lucid"
local value = require "lucid.session.value"

local BIN = require "tests.support.program"
local dir

-- What lucid writes to stdout and stderr, and its exit status.
local function run(words)
  local pipe = io.popen(("LUA_PATH='%s/?.lua;;' %s %s 2>&1; echo $?"):format(dir, BIN, words))
  local text = pipe:read("*a")
  pipe:close()
  return text:match("^(.-)(%d+)\n$")
end

local function session(...)
  file.write(dir .. "/lines", table.concat({ ... }, "\n") .. "\n")
  return run("<" .. dir .. "/lines")
end

describe("a session's chunk", function()
  it("keeps its outermost locals", function()
    for text, lasting in pairs {
      ["local a = 1"] = " a = 1",
      ["local a, b"] = " a, b = nil",
      ["local a, b; local c = a"] = " a, b = nil;  c = a",
      ["local function f() local x = 1 return x end"] = " function f() local x = 1 return x end",
      ["do local a = 1 end"] = "do local a = 1 end",
      ["if a then local b = 1 else local c end local d"] = "if a then local b = 1 else local c end  d = nil",
      ["repeat local a = 1 until a"] = "repeat local a = 1 until a",
      ["for i = 1, 2 do local a end while x do local b end"] = "for i = 1, 2 do local a end while x do local b end",
      ["s = 'local a' -- local b"] = "s = 'local a' -- local b",
      ["s = [[ local a ]] --[==[ local\nb ]==] local c = \"\\\" end\""] = "s = [[ local a ]] --[==[ local\nb ]==]  c = \"\\\" end\"",
      ["localised = 1e-5"] = "localised = 1e-5",
    } do
      assert.equal(lasting, chunk.lasting(text))
    end
  end)

  it("says whether it returns", function()
    assert.is_true(chunk.returns "local a = 1 return a")
    assert.is_false(chunk.returns "function f() return 1 end -- return")
  end)
end)

describe("a value", function()
  it("is shown as Lua writes it", function()
    assert.equal("{ 1, 2, a = \"b\", [3.5] = true }", value.text { 1, 2, a = "b", [3.5] = true })
    assert.equal("a\nb", value.text "a\nb")
    assert.equal("{ \"a\\nb\" }", value.text { "a\nb" })
    assert.equal("{ f32 [2, 3] cpu }", value.text { lucid.zeros { 2, 3 } })
    assert.equal("{}", value.text {})
    assert.equal("nil", value.text(nil))
  end)

  it("is cut where it is large, deep or its own part", function()
    local long = {}
    for i = 1, 100 do long[i] = i end
    assert.truthy(value.text(long):find("40,\n  ... and 60 more\n}", 1, true))
    local circle = {}
    circle[1] = circle
    assert.equal("{ { ... } }", value.text(circle))
    assert.equal("{ { { { { { ... } } } } } }", value.text { { { { { { 1 } } } } } })
    assert.truthy(value.text(setmetatable({}, {})):find("^table: "))
  end)

  it("is called by its name where it is a module", function()
    assert.equal("module lucid.image; help(lucid.image) lists what it has", value.text(lucid.image))
    assert.equal("module lucid; help(lucid) lists what it has", value.text(lucid))
    assert.equal("{ module lucid.args }", value.text { lucid.args })
  end)

  it("is shown whatever it is: a list of JSON, a type of the FFI", function()
    assert.equal("{ a = { 1, { 2 } } }", value.text(lucid.json.decode '{ "a": [1, [2]] }'))
    assert.equal("{ ctype<struct lc_tensor> }", value.text { require("lucid.native").tensor_type })
  end)
end)

describe("a session", function()
  setup(function() dir = folder.folder() end)
  teardown(function() folder.remove(dir) end)

  it("has variables that last, and leaves the library its own", function()
    local text, status = session("local type, print = 5, 6", "local function twice(x)", "return 2 * x end", "twice(type)",
      "lucid.zeros{2}:shape()", "_G.type(print)")
    assert.equal("10\n{ 2 }\nnumber\n", text)
    assert.equal("0", status)
  end)

  it("takes a value over several lines", function()
    assert.equal("3\n{ 1, 2 }\n", (session("1 +", "2", "{ 1,", "2 }")))
  end)

  it("says how it is left, and is left", function()
    local text, status = session("exit", "quit(4)", "print 'never'")
    assert.equal("exit() or Ctrl-D ends the session\n", text)
    assert.equal("4", status)
    assert.equal("0", (select(2, session("exit()", "oops()"))))
  end)

  it("ends at the first fault, in one line", function()
    file.write(dir .. "/wrong.lua", "error('first\\nsecond')")
    local text, status = session("require 'wrong'", "print 'never'")
    assert.equal(1, select(2, text:gsub("\n", "")), text)
    assert.truthy(text:find("first second", 1, true), text)
    assert.equal("1", status)
    text, status = session("x = = 2", "print 'never'")
    assert.truthy(text:find("^stdin:1: unexpected symbol"), text)
    assert.equal("1", status)
  end)

  it("is saved as a script that does the same", function()
    local script = dir .. "/work.lua"
    local lines = { "local x = lucid.tensor{1, 2}", "(x + 1):tolist()[2] -- three", "help(lucid.zeros)", "y = function()",
      "return 'called' end", "y()", "local function silent() end", "silent()", "return x:sum():item()", ("save(%q)"):format(script) }
    local text = session(unpack(lines))
    assert.truthy(text:find(script .. ": 7 chunks", 1, true), text)
    local again, status = run(script)
    assert.equal("0", status)
    assert.equal("3\ncalled\n3\n", again)
    assert.truthy(text:find("called\n3\n", 1, true), text)
    assert.falsy(file.read(script):find("help", 1, true))
    -- a session writes over what a session saved, and over nothing else
    assert.equal("1", (select(2, session(("save(%q)"):format(script), "oops()"))))
    file.write(script, "-- mine")
    text = session("1", ("save(%q)"):format(script))
    assert.truthy(text:find("choose another name", 1, true), text)
    assert.equal("-- mine", file.read(script))
    assert.truthy(session("save 'notes.txt'"):find("ends in .lua", 1, true))
  end)
end)
