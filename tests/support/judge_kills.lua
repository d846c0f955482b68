-- A client of the judge server that is killed (SIGKILL) at random moments and started again until it ends: every
-- answer is in its journal once, none is paid for twice but those in flight at a kill, and the replies are those of a
-- run without faults.
local assert = require "luassert"
local file = require "lucid.file"
local json = require "lucid.json"
local judge = require "tests.support.judge"
local program = require "tests.support.program"
local rng = require "lucid.rng"

local function pause() os.execute("sleep 0.005") end

-- Runs the client; with limit: kills it once its journal has so many bytes. Its status: 137 where it was killed.
local function run(server, dir, name, opt, limit)
  local path, done = ("%s/%s.jsonl"):format(dir, name), dir .. "/status"
  os.remove(done)
  os.execute(("{ LUA_PATH='./?.lua;;' %s tests/support/judge_client.lua %s %s %d %d %s/%s.txt & echo $! >%s/pid; wait $!; "
    .. "echo $? >%s/new; mv %s/new %s; } 2>>%s/stderr &"):format(program, server.url, path, opt.requests, opt.concurrency, dir,
    name, dir, dir, dir, done, dir))
  while not file.exists(done) do
    pause()
    if limit and file.exists(path) and file.size(path) >= limit then
      os.execute(("kill -9 $(cat %s/pid) 2>/dev/null"):format(dir))
      limit = nil
    end
  end
  return tonumber(file.read(done))
end

local function check(dir, opt, server, plain)
  assert.equal(0, run(plain, dir, "plain", opt))
  -- The journals have the same lines in the end: each kill comes in a part of its own.
  local whole, random = file.size(dir .. "/plain.jsonl"), rng(opt.seed, "kill")
  for kill = 1, opt.kills do
    local status = run(server, dir, "faults", opt, 0.9 * whole * (kill - random:uniform()) / opt.kills)
    assert.equal(137, status, file.read(dir .. "/stderr"))
  end
  local kills = opt.kills
  assert.equal(0, run(server, dir, "faults", opt), file.read(dir .. "/stderr"))
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

--- opt: requests, concurrency, kills, delay (most milliseconds of an answer), seed. Returns what was counted.
---@param dir string
---@param opt table
return function(dir, opt)
  local server, plain = judge.start { faults = 20, delay = opt.delay, seed = opt.seed }, judge.start()
  local ok, counted = pcall(check, dir, opt, server, plain)
  server:stop()
  plain:stop()
  if not ok then error(counted, 0) end
  return counted
end
