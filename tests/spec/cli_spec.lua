-- The executable from outside: what goes to which stream, and with which status it ends.
local file = require "lucid.file"
local folder = require "tests.support.folder"

local BIN = require "tests.support.program"
local dir

-- Runs lucid with words; status, stdout, stderr.
local function lucid(words, before)
  local command = ("%s %s %s >%s/out 2>%s/err </dev/null"):format(before or "", BIN, words, dir, dir)
  local status = os.execute(command)
  if status > 255 then status = math.floor(status / 256) end
  return status, file.read(dir .. "/out"), file.read(dir .. "/err")
end

local function one_line(text) return select(2, text:gsub("\n", "")) == 1 and text:sub(-1) == "\n" end

describe("lucid", function()
  setup(function() dir = folder.folder() end)
  teardown(function() folder.remove(dir) end)

  it("runs a chunk with lucid at hand", function()
    local status, out = lucid [[-e 'print(lucid.tensor({1, 2}):sum():item(), ...)']]
    assert.equal(0, status)
    assert.equal("3\n", out)
  end)

  it("runs a script with its words", function()
    file.write(dir .. "/s.lua", "print(select(2, ...), arg[1], arg[2])")
    local status, out = lucid(dir .. "/s.lua one two")
    assert.equal(0, status)
    assert.equal("two\tone\ttwo\n", out)
  end)

  it("finds recipes in the user's folder", function()
    file.write(dir .. "/greet.lua", [[-- Says hello.
      local lucid = require "lucid"
      local opt = lucid.args { about = "Greets.", { "name", "world", "whom" }, { "loud", false, "shout" }, { "n", 2, "times" } }
      for _ = 1, opt.n do print("hello " .. opt.name .. (opt.loud and "!" or "")) end]])
    local path = "LUCID_PATH=" .. dir
    local status, out = lucid("greet --name you --loud --n=1", path)
    assert.equal(0, status)
    assert.equal("hello you!\n", out)
    status, out = lucid("greet --help", path)
    assert.equal(0, status)
    assert.truthy(out:find("Greets.", 1, true) and out:find("--name TEXT", 1, true) and out:find("[2]", 1, true))
    local asked = out
    status, out = lucid("help greet", path)
    assert.equal(0, status)
    assert.equal(asked, out)
    status, out = lucid("help", path)
    assert.equal(0, status)
    assert.truthy(out:find("greet%s+Says hello%.") and out:find("llava", 1, true))
    for words, pattern in pairs {
      ["greet --nme you"] = "did you mean --name", ["greet --n many"] = "'many' is not a number",
      ["greet --name"] = "a value is missing", ["greet --loud=1"] = "takes no value", ["greet word"] = "not an option",
    } do
      local _, err
      status, _, err = lucid(words, path)
      assert.equal(2, status, words)
      assert.truthy(err:find(pattern, 1, true), err)
      assert.is_true(one_line(err))
    end
  end)

  it("answers a wrong command or option with one line and status 2", function()
    for words, pattern in pairs { lava = "did you mean llava", ["--nonsense"] = "unknown option", ["-e"] = "a chunk is missing", ["help lava"] = "did you mean llava" } do
      local status, out, err = lucid(words)
      assert.equal(2, status, words)
      assert.equal("", out)
      assert.is_true(one_line(err), err)
      assert.truthy(err:find(pattern, 1, true), err)
    end
  end)

  it("ends a failed run with one line and status 1, and a traceback on request", function()
    local status, _, err = lucid [[-e 'error("it broke")']]
    assert.equal(1, status)
    assert.is_true(one_line(err), err)
    assert.truthy(err:find("it broke", 1, true))
    status, _, err = lucid([[-e 'error("it broke")']], "LUCID_DEBUG=1")
    assert.equal(1, status)
    assert.truthy(err:find("stack traceback", 1, true))
    status, _, err = lucid("describe --model " .. dir .. " --image nothing.jpg")
    assert.equal(1, status)
    assert.is_true(one_line(err), err)
    assert.truthy(err:find("config.json", 1, true))
  end)

  -- An error quotes files of strangers.
  it("gives a terminal no commands", function()
    local chunk = [[-e 'error("a\27[2J\r\7\127\194\155c\195\155", 0)']]
    for environment, said in pairs { [""] = "lucid: a?[2J????c\195\155\n", ["LUCID_DEBUG=1"] = "lucid: a?[2J????c\195\155\nstack" } do
      local _, _, err = lucid(chunk, environment)
      assert.equal(said, err:sub(1, #said))
    end
    local _, _, err = lucid "inspect 'nothing\194\155\27'"
    assert.equal("lucid: inspect: nothing??: there is no such file or folder\n", err)
  end)

  it("stops on the first Ctrl-C", function()
    local script = dir .. "/loop.lua"
    for _, body in ipairs { "jit.off() while true do end",
      "local lucid = require 'lucid' local a = lucid.randn { 600, 600 } while true do a:matmul(a) end" } do
      file.write(script, body)
      local status = os.execute(("timeout --foreground -k 5 -s INT %s %s %s >%s/out 2>%s/err; test $? = 124"):format(
        os.getenv("LUCID_BIN") and 3 or 0.5, BIN, script, dir, dir))
      assert.equal(0, status)
      assert.equal("lucid: interrupted\n", file.read(dir .. "/err"))
    end
  end)

  it("ends with a compiled loop that nothing else stops, also one from a pipe", function()
    local status = os.execute(("echo 'while true do pcall(function() while true do end end) end' | "
      .. "timeout --foreground -k 30 -s INT %s %s >%s/out 2>%s/err; test $? = 124"):format(
      os.getenv("LUCID_BIN") and 3 or 0.5, BIN, dir, dir))
    assert.equal(0, status)
    assert.equal("lucid: interrupted\n", file.read(dir .. "/err"))
  end)

  it("runs what a file or a pipe holds up to its first fault", function()
    local function piped(text)
      file.write(dir .. "/in", text)
      local status = os.execute(("%s <%s/in >%s/out 2>%s/err"):format(BIN, dir, dir, dir))
      return status > 255 and status / 256 or status, file.read(dir .. "/out"), file.read(dir .. "/err")
    end
    assert.same({ 0, "2\n", "" }, { piped "1 + 1\nx = 3\n" })
    local status, out, err = piped "print(1)\nlocal x = nil + 1\nprint(2)\n"
    assert.same({ 1, "1\n" }, { status, out })
    assert.truthy(one_line(err), err)
    assert.equal(1, (piped "x = {\n"))
    assert.equal(1, (piped "this is wrong\n"))
  end)

  it("ends interrupted commands with 130 or 143", function()
    file.write(dir .. "/wait.lua", "io.stderr:write 'ready' while true do end")
    for signal, status in pairs { INT = 130, TERM = 143 } do
      os.remove(dir .. "/err")
      assert.equal(0, os.execute(("sh -c '%s %s/wait.lua 2>%s/err & until [ -s %s/err ]; do sleep 0.05; done; "
        .. "kill -%s $!; wait $!; test $? = %d' 2>/dev/null"):format(BIN, dir, dir, dir, signal, status)), signal)
      assert.equal("readylucid: interrupted\n", file.read(dir .. "/err"))
    end
  end)

  it("fails when its output cannot be written, in one line", function()
    if not file.exists "/dev/full" then return pending "there is no /dev/full" end
    for _, words in ipairs { "help", "llava --help", "--version", "-e 'for i = 1, 1e5 do print(i) end'" } do
      local status = os.execute(("%s %s >/dev/full 2>%s/err"):format(BIN, words, dir))
      local err = file.read(dir .. "/err")
      assert.equal(1, status / 256, words)
      assert.is_true(one_line(err), err)
      assert.truthy(err:find("standard output", 1, true), err)
    end
  end)

  it("ends without a word when its reader has gone, also where SIGPIPE is ignored", function()
    file.write(dir .. "/count.lua", "for i = 1, 1e5 do print(i) end")
    for _, before in ipairs { "", "trap '' PIPE; " } do
      assert.equal(0, os.execute(("( %s%s %s/count.lua; echo $? >%s/status ) 2>%s/err | head -1 >%s/out"):format(before, BIN,
        dir, dir, dir, dir)))
      assert.same({ "1\n", "", "141\n" }, { file.read(dir .. "/out"), file.read(dir .. "/err"), file.read(dir .. "/status") })
    end
  end)

  it("lists the exit status in its help", function()
    local _, out = lucid "--help"
    for _, status in ipairs(require("lucid.command").STATUS) do assert.truthy(out:find(status[1] .. " +" .. status[2]:sub(1, 8))) end
  end)

  it("tells its version and features", function()
    local status, out = lucid "--version"
    assert.equal(0, status)
    assert.truthy(out:find("^lucid %d+%.%d+") and out:find("jpeg", 1, true))
  end)

  it("tells them as JSON", function()
    local status, out = lucid "--version --json"
    assert.equal(0, status)
    local version = require("lucid.json").decode(out)
    assert.truthy(version.lucid:find "^%d+%.%d+" and version.features.jpeg and version.features.gemm)
    local err
    status, out, err = lucid "--version --jsn"
    assert.same({ 2, "" }, { status, out })
    assert.is_true(one_line(err))
  end)

  it("works in plain luajit", function()
    local command = ("LUA_PATH='lua/?.lua;lua/?/init.lua' luajit -e 'print(require(\"lucid\").zeros({2}):count())' >%s/out 2>%s/err"):format(dir, dir)
    if os.execute("command -v luajit >/dev/null") ~= 0 then return pending("there is no luajit") end
    if os.getenv("LUCID_BIN") then return pending("a sanitizer's library wants its own executable") end
    assert.equal(0, os.execute(command))
    assert.equal("2\n", file.read(dir .. "/out"))
  end)
end)
