-- A short form of make crash: whole cycles of training, mining, POPE and SHR whose commands are killed. And a server that is.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local judge = require "tests.support.judge"
local kills = require "tests.crash.kills"
local served = require "tests.support.served"
local tiny = require "tests.support.tiny"

describe("a cycle whose commands are killed at random moments", function()
  it("ends with the files of one that is not", function()
    if judge.missing() then return pending(judge.missing()) end
    local dir = folder.folder()
    local done = kills(dir, { moments = 60, runs = 3, seed = os.time() })
    assert.is_true(done.killed == 60 and done.runs >= 3)
    folder.remove(dir)
  end)
end)

describe("a server that is killed while it answers", function()
  it("is started again on the same port, with the same answers and files", function()
    if served.missing() then return pending(served.missing()) end
    local dir = folder.folder()
    tiny.model(dir, 3)
    local function hashes()
      local list = {}
      for _, name in ipairs(file.list(dir)) do list[name] = file.hash(dir .. "/" .. name) end
      return list
    end
    local server, expected
    finally(function()                            -- one that is left would be waited for
      if server then server:signal "KILL" end
    end)
    local before, words = hashes(), ("--model %s --name tiny --dtype f32 --max-tokens 40 --quiet"):format(dir)
    server = served.start(words)
    for kill = 1, 6 do
      local _, got = server:ask(served.completion())
      expected = expected or got.choices[1].message.content
      assert.equal(expected, got.choices[1].message.content)
      os.execute(("(sleep 0.%02d; kill -9 %s) &"):format(kill, server.pid))
      for _ = 1, 1000 do
        if not pcall(server.ask, server, served.completion()) then break end
      end
      assert.equal(137, (server:ended()))
      server = served.start(("%s --port %d"):format(words, server.port))
    end
    local status = server:stop()
    server = nil
    assert.is_true(status == 0 or status == 143)
    assert.same(before, hashes())
    folder.remove(dir)
  end)
end)
