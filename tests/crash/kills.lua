-- Whole cycles (cycle.lua), each of whose commands is killed (SIGKILL) at random moments and given again until it ends:
-- their files are those of a cycle that was not disturbed, no checkpoint is ever broken, and no answer of the judge is paid
-- for twice but those in flight at a kill.
local checkpoints = require "lucid.checkpoints"
local cycle = require "tests.crash.cycle"
local folder = require "tests.support.folder"
local judge = require "tests.support.judge"
local rng = require "lucid.rng"

local CONCURRENCY, HOURS = 3, 3 * 3600
local KILLED = 137 * 256                   -- timeout ends itself as it ended the program
local MOST = 8                             -- kills of one command: then it may end

local function fail(what, ...) error(what:format(...), 0) end

-- Answers that were served whole.
local function paid(server)
  local n = 0
  for _, line in ipairs(server:log()) do
    if line.word == "done" and line.what == "answer" then n = n + 1 end
  end
  return n
end

local function check_checkpoints(at)
  for _, step in ipairs(checkpoints.steps(at .. "/train")) do
    local fault = checkpoints.fault(("%s/train/checkpoint-%d"):format(at, step))
    if fault then fail("checkpoint-%d: %s", step, fault) end
  end
end

-- Runs a command of a cycle to its end through kills; the moments of these.
local function disturb(at, command, took, state)
  local moments = {}
  while #moments < MOST and state.killed < state.opt.moments do
    local after = math.max(took * state.random:uniform(), 0.001)
    local status = cycle.run(at, command[2], state.server.url, ("timeout -s KILL %.4f"):format(after))
    if status == 0 then return moments end
    moments[#moments + 1] = ("%s %.4f s"):format(command[1], after)
    if status ~= KILLED then fail("exit status %g after a kill: %s", status / 256, table.concat(moments, ", ")) end
    state.killed = state.killed + 1
    check_checkpoints(at)
  end
  local status = cycle.run(at, command[2], state.server.url)
  if status ~= 0 then fail("exit status %g when it went on: %s", status / 256, table.concat(moments, ", ")) end
  return moments
end

local function whole_run(dir, state, took, expected)
  local at, list = ("%s/%d"):format(dir, state.runs), {}
  for _, command in ipairs(cycle.COMMANDS) do
    local ok, moments = pcall(disturb, at, command, took[command[1]], state)
    if not ok then fail("%s: %s: %s", at, command[1], moments) end
    for _, moment in ipairs(moments) do list[#list + 1] = moment end
  end
  local differ = cycle.differences(expected, cycle.results(at))
  if differ[1] then fail("%s: other bytes in %s after %s", at, table.concat(differ, ", "), table.concat(list, ", ")) end
  folder.remove(at)
end

local function all(dir, opt, state)
  local took = {}
  for _, command in ipairs(cycle.COMMANDS) do
    local status, seconds = cycle.run(dir .. "/whole", command[2], state.server.url)
    if status ~= 0 then fail("%s/whole: %s: exit status %g", dir, command[1], status / 256) end
    took[command[1]] = seconds
  end
  local expected, once = cycle.results(dir .. "/whole"), paid(state.server)
  while state.killed < opt.moments or state.runs < opt.runs do
    state.runs = state.runs + 1
    whole_run(dir, state, took, expected)
    if opt.note then opt.note(state) end
  end
  state.twice = paid(state.server) - once * (1 + state.runs)
  local most = state.killed * CONCURRENCY
  if state.twice > most then fail("%d answers were paid for twice; %d at most were in flight", state.twice, most) end
end

--- opt: moments, runs (at least), seed, note(state). What was counted: killed, runs, twice.
---@param dir string      stays as it is after a failure
---@param opt table
return function(dir, opt)
  local state = { opt = opt, random = rng(opt.seed, "kill"), killed = 0, runs = 0,
    server = judge.start { delay = 5, seed = opt.seed, seconds = HOURS } }
  local ok, reason = pcall(function()
    cycle.base(dir)
    all(dir, opt, state)
  end)
  state.server:stop()
  if not ok then error(reason, 0) end
  return state
end
