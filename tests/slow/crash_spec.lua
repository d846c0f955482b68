-- A short form of make crash: whole cycles of training, mining, POPE and SHR whose commands are killed.
local folder = require "tests.support.folder"
local judge = require "tests.support.judge"
local kills = require "tests.crash.kills"

describe("a cycle whose commands are killed at random moments", function()
  it("ends with the files of one that is not", function()
    if judge.missing() then return pending(judge.missing()) end
    local dir = folder.folder()
    local done = kills(dir, { moments = 60, runs = 3, seed = os.time() })
    assert.is_true(done.killed == 60 and done.runs >= 3)
    folder.remove(dir)
  end)
end)
