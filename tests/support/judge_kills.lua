-- A client of the judge server that is killed (SIGKILL) at random moments and started again until it ends: every
-- answer is in its journal once, none is paid for twice but those in flight at a kill, and the replies are those of a
-- run without faults.
local assert = require "luassert"
local file = require "lucid.file"
local json = require "lucid.json"
local judge = require "tests.support.judge"
local program = require "tests.support.program"
local rng = require "lucid.rng"

local function run(server, dir, name, opt, before)
  local status = os.execute(("LUA_PATH='./?.lua;;' %s %s tests/support/judge_client.lua %s %s/%s.jsonl %d %d %s/%s.txt 2>>%s/stderr"):format(
    before or "", program, server.url, dir, name, opt.requests, opt.concurrency, dir, name, dir))
  return status
end

local function check(dir, opt, server, plain)
  local random, kills, runs = rng(opt.seed, "kill"), 0, 0
  while kills < opt.kills do
    runs = runs + 1
    assert.is_true(runs <= 3 * opt.kills, "the client ends before it can be killed")
    local status = run(server, dir, "faults", opt, ("timeout -s KILL %.3f"):format(0.05 + opt.seconds * random:uniform()))
    if status == 0 then break end
    assert.equal(137 * 256, status, file.read(dir .. "/stderr"))
    kills = kills + 1
  end
  assert.equal(opt.kills, kills, "the client ended before it was killed so often")
  assert.equal(0, run(server, dir, "faults", opt), file.read(dir .. "/stderr"))
  assert.equal(0, run(plain, dir, "plain", opt), file.read(dir .. "/stderr"))
  assert.equal(file.read(dir .. "/plain.txt"), file.read(dir .. "/faults.txt"))

  local keys, lines = {}, 0
  for record in json.each(dir .. "/faults.jsonl") do
    assert.is_nil(keys[record.key])
    keys[record.key], lines = true, lines + 1
  end
  assert.equal(opt.requests, lines)

  local counted, twice, faults = 0, 0, 0
  for _, times in pairs(server:paid()) do counted, twice = counted + 1, twice + times - 1 end
  assert.equal(opt.requests, counted)
  assert.is_true(twice <= kills * opt.concurrency, twice .. " were paid for twice")
  for _, line in ipairs(server:log()) do
    if line.word == "ask" and line.what ~= "answer" then faults = faults + 1 end
  end

  -- Another run asks nothing.
  local asked = server:asked()
  assert.equal(0, run(server, dir, "faults", opt))
  assert.equal(asked, server:asked())
  return { asked = asked, faults = faults, twice = twice, kills = kills }
end

--- opt: requests, concurrency, kills, seconds: a kill comes before so many; seed. Returns what was counted.
---@param dir string
---@param opt table
return function(dir, opt)
  local server, plain = judge.start { faults = 20, delay = 6, seed = opt.seed }, judge.start()
  local ok, counted = pcall(check, dir, opt, server, plain)
  server:stop()
  plain:stop()
  if not ok then error(counted, 0) end
  return counted
end
