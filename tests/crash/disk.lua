-- A train-eval cycle on a disk that fails: every call that reads or changes a file of its folders (run, checkpoints, journal,
-- cache, results) fails in turn. Each time the cycle ends in an error of one line, or in the right answer; nothing of the
-- core's memory is lost, the checkpoints are whole, and a run that goes on has the right answer.
--   LD_PRELOAD=build/faults.so bin/lucid tests/crash/disk.lua [MOST]      at most so many cases, spread over all
package.path = package.path .. ";./?.lua"
local ffi = require "ffi"
local folder = require "tests.support.folder"
local forked = require "tests.crash.forked"

local C = ffi.C
local EINTR, EIO, ENOSPC = 4, 5, 28

-- What may fail how; half: so many bytes are moved, which is no error.
local WAYS = {
  { name = "EIO", why = EIO, calls = " open create read write fsync close truncate rename symlink mkdir remove " },
  { name = "ENOSPC", why = ENOSPC, calls = " create write fsync rename symlink mkdir " },
  { name = "ENOSPC and all that follow", why = ENOSPC, lasting = true, calls = " create write fsync rename symlink mkdir " },
  { name = "EINTR", why = EINTR, calls = " open read write ", answer = true },
  { name = "half", why = 0, calls = " read write ", answer = true },
}

local dir = forked.open()

-- Runs the cycle while the at-th call of a way fails; 0: none.
local function run(at, way, number)
  return forked.apart(function()
    C.faults_files(at .. "/", nil)
    C.faults_fail(way.calls, way.why, number, way.lasting and 1 or 0)
    local ok, reason = pcall(forked.cycle, at)
    local met = tonumber(C.faults_met())
    C.faults_files("", nil)
    return { ok = ok, reason = not ok and tostring(reason) or nil, met = met, left = forked.left(),
      results = number == 0 and forked.hashes(at) or nil }
  end)
end

local whole, cases = nil, {}
for _, way in ipairs(WAYS) do
  folder.remove(dir .. "/case")
  local made, why = run(dir .. "/case", way, 0)
  if not (made and made.ok) then error(why or made.reason, 0) end
  whole = whole or made
  if made.results ~= whole.results then error("two cycles without faults differ", 0) end
  for n = 1, made.met do cases[#cases + 1] = { way = way, number = n, name = ("%s of call %d"):format(way.name, n) } end
end

forked.all(cases, tonumber(arg[1]), function(case)
  local at = dir .. "/case"
  folder.remove(at)
  local made, why = run(at, case.way, case.number)
  local wrong = not made and why or forked.wrong(at, made, whole)
  if not wrong and case.way.answer and not made.ok then wrong = "it ends with an error: " .. made.reason end
  if wrong then error(wrong, 0) end
  if made.ok then return "right answers" end
  local after
  after, why = forked.apart(function()
    forked.cycle(at, true)
    return forked.hashes(at)
  end)
  if after ~= whole.results then error(("going on after '%s': %s"):format(made.reason, why or "other results"), 0) end
  return "errors, gone on from"
end)
