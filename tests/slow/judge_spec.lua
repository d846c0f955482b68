-- A judge's client over thousands of requests, a fifth of which meet faults, killed ten times.
local folder = require "tests.support.folder"
local judge = require "tests.support.judge"
local kills = require "tests.support.judge_kills"

describe("a judge's client that is killed", function()
  it("loses no answer of 5,000, and pays for none twice but those in flight", function()
    if judge.missing() then return pending(judge.missing()) end
    local dir = folder.folder()
    kills(dir, { requests = 5000, concurrency = 32, kills = 10, delay = 20, seed = os.time() })
    folder.remove(dir)
  end)
end)
