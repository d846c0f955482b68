-- The interactive session, typed at through a pseudo-terminal.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local terminal = require "tests.support.terminal"

local BIN = require "tests.support.program"
local EDITS = require("ffi").string(require("lucid.native").C.lc_features()):find("editline: libedit", 1, true)
local UP = "\27[A"
local RETURN, CTRL_C, CTRL_D, TAB = "\r", "\3", "\4", "\t"

describe("the session", function()
  local home, session

  -- Waits for a prompt: what was shown before it.
  local function prompted(prompt)
    local before = session:wait(prompt or "> ")
    if EDITS then session:wait_editor() end
    return before
  end

  local function open()
    session = terminal.start(("HOME=%s XDG_STATE_HOME= LUCID_DEBUG= TERM=vt100 LUA_PATH='%s/?.lua' %s"):format(home, home, BIN))
    session:wait("Ctrl-D ends")
    prompted()
  end

  -- Types a line and returns what is shown before the next prompt, without the line itself.
  local function ask(line)
    session:type(line .. RETURN)
    session:wait("\n")
    return (prompted():gsub("\r", ""))
  end

  local function close()
    session:type(CTRL_D)
    assert.equal(0, session:status())
    session:close()
    session = nil
  end

  -- Types something that does not end and Ctrl-C once it runs.
  local function stopped(line)
    session:type("io.write('running', '\\n') " .. line .. RETURN)
    session:wait("'\\n') ")
    session:wait("running\r\n")
    session:type(CTRL_C)
    session:wait("interrupted", 10)
    prompted()
    assert.equal("42\n", ask "6 * 7")
  end

  before_each(function()
    local ok, why = terminal.possible()
    if not ok then pending(why) end
    home = folder.folder()
  end)
  after_each(function()
    if session then session:close() end
    session = nil
    if home then folder.remove(home) end
  end)

  it("prints what an expression gives", function()
    open()
    assert.equal("2\n", ask "1 + 1")
    assert.equal("12\n", ask "=3 * 4")
    assert.equal("1\tnil\ttrue\n", ask "1, nil, true")
    assert.equal("[0., 0.]  f32 [2] cpu\n", ask "lucid.zeros{2}")
    assert.equal("", ask "answer = 42")
    assert.equal("", ask "")
    assert.equal("42\n", ask "answer")
    close()
  end)

  it("asks for more where a chunk is not complete", function()
    open()
    for _, line in ipairs { "function twice(x)", "  return 2 * x" } do
      session:type(line .. RETURN)
      prompted ">> "
    end
    assert.equal("", ask "end")
    assert.equal("8\n", ask "twice(4)")
    session:type("t = {" .. RETURN)
    prompted ">> "
    session:type(CTRL_C)                       -- drops the lines so far
    prompted()
    assert.equal("nil\n", ask "t")
    close()
  end)

  it("shows the op and the shapes of an error, and goes on", function()
    open()
    local shown = ask "lucid.zeros{2, 3}:matmul(lucid.zeros{4, 5})"
    assert.truthy(shown:find("matmul", 1, true) and shown:find("[2, 3]", 1, true) and shown:find("[4, 5]", 1, true), shown)
    assert.equal(1, (select(2, shown:gsub("\n", ""))))
    assert.truthy(ask("end"):find("'end'", 1, true))
    assert.equal("an error that is not a string\n", ask "error({})")
    assert.equal("3\n", ask "1 + 2")
    close()
  end)

  it("tells more of an error when it is asked", function()
    open()
    assert.truthy(ask("traceback()"):find("there was no error yet", 1, true))
    ask "local function inner() error 'deep' end"
    assert.equal("stdin:1: deep\n", ask "inner()")
    local trace = ask "traceback()"
    assert.truthy(trace:find("deep\nstack traceback:", 1, true) and trace:find("in function <stdin:1>", 1, true), trace)
    assert.equal(1, select(2, ask("require 'nowhere'"):gsub("\n", "")))
    close()
  end)

  it("keeps locals, explains what is asked for and saves what was done", function()
    open()
    ask "local x, f = 4"
    assert.equal("4\tnil\n", ask "x, f")
    assert.truthy(ask("help(lucid.image.crop)"):find("lucid.image.crop(t, top, left, height, width)", 1, true))
    ask "x = nil + 1"
    session:type("for i = 1, x do" .. RETURN)
    prompted ">> "
    assert.equal("1\n2\n3\n4\n", ask "print(i) end")
    assert.truthy(ask(("save '%s/work.lua'"):format(home)):find("3 chunks", 1, true))
    close()
    local pipe = io.popen(("%s %s/work.lua"):format(BIN, home))
    assert.equal("4\tnil\n1\n2\n3\n4\n", pipe:read("*a"))
    pipe:close()
  end)

  it("completes names", function()
    if not EDITS then return pending("this build has no libedit") end
    open()
    session:type("lucid.zer" .. TAB)
    session:wait("os")
    assert.equal("[0.]  f32 [1] cpu\n", ask "{1}")
    ask "weights = lucid.ones{2, 2}"
    session:type("weights:tol" .. TAB)
    session:wait("ist")
    assert.equal("{ { 1, 1 }, { 1, 1 } }\n", ask "()")
    ask "own_variable = 6"
    session:type("own_v" .. TAB)
    session:wait("ariable")
    assert.equal("7\n", ask " + 1")
    session:type("lucid.schedule.lin" .. TAB)   -- a module that nothing has loaded
    session:wait("ear")
    assert.truthy(ask(""):find("^function"))
    close()
  end)

  it("remembers lines, also for the next session", function()
    if not EDITS then return pending("this build has no libedit") end
    open()
    assert.equal("11\n", ask "5 + 6")
    session:type("function first()" .. RETURN)
    prompted ">> "
    ask "return 'one' end"
    session:type(UP .. UP)
    session:wait("5 + 6")
    assert.truthy(ask(""):find("\n11\n$"))
    close()
    assert.is_true(file.exists(home .. "/.local/state/lucid/history"))
    open()
    session:type(UP .. UP)
    session:wait("return 'one' end")             -- the chunk of two lines is one step
    session:type(RETURN)
    prompted()
    assert.equal("one\n", ask "first()")
    close()
  end)

  it("stops Lua with Ctrl-C", function()
    open()
    stopped "while true do end"
    stopped "while true do pcall(error) end"
    stopped "while true do pcall(function() for i = 1, 1e7 do end end) end"
    -- what catches the error may close what is open
    stopped "lucid.scope(function() lucid.scope(function() while true do end end) end)"
    assert.equal("0\n", ask "require 'lucid.native'.C.lc_scope_depth()")
    close()
  end)

  it("stops a module's loop that would be compiled", function()
    file.write(home .. "/busy.lua", [[
      return { spin = function(n) local sum = 0 for i = 1, n do sum = sum + i end return sum end }]])
    open()
    assert.equal("5000050000\n", ask "require 'busy'.spin(100000)")
    stopped "require 'busy'.spin(1e15)"
    close()
  end)

  it("stops native work with Ctrl-C", function()
    open()
    ask "a = lucid.randn{900, 900}"
    stopped "while true do a:matmul(a) end"
    stopped "a:matmul(lucid.randn{900, 900}) while true do lucid.scope(function() return a:exp():sum() end) end"
    close()
  end)

  it("ends on a second Ctrl-C", function()
    open()
    -- one match that no hook can stop: it takes ages and calls nothing
    session:type("s, p = ('x'):rep(1e6), ('.-'):rep(30) .. 'y'" .. RETURN)
    prompted()
    session:type("io.write('running', '\\n') s:find(p)" .. RETURN)
    session:wait("find(p)")
    session:wait("running\r\n")
    for _ = 1, 2 do
      session:rest(0.3)
      session:type(CTRL_C)
    end
    assert.equal(130, session:status())
  end)

  it("drops a line on Ctrl-C and ends with 0 on Ctrl-D", function()
    open()
    session:type("this is wrong")
    session:wait("wrong")
    session:type(CTRL_C)
    prompted()
    assert.equal("7\n", ask "3 + 4")
    close()
  end)
end)
