-- A train-eval cycle in which memory is refused: for every call stack of the core that asks for some, its first, its second
-- and its last block fails. Each time the cycle ends in an error of one line, or in the right answer; nothing of the core's memory is lost, and the checkpoints that are there are whole.
--   LD_PRELOAD=build/faults.so bin/lucid tests/crash/allocations.lua [MOST]      at most so many cases, spread over all
package.path = package.path .. ";./?.lua"
local ffi = require "ffi"
local folder = require "tests.support.folder"
local forked = require "tests.crash.forked"

local C = ffi.C
local dir = forked.open()

-- What a cycle without faults asks for: its stacks with their counts, its results and the bytes that it leaves.
local function survey()
  return assert(forked.apart(function()
    C.faults_watch()
    local at = dir .. "/whole"
    forked.cycle(at)
    C.faults_rest()
    local list, hash = {}, ffi.new "uint64_t[1]"
    for i = 0, C.faults_places() - 1 do
      local count = tonumber(C.faults_place(i, hash))
      if hash[0] ~= 0 then
        list[#list + 1] = { high = tonumber(hash[0] / 2 ^ 32), low = tonumber(hash[0] % 2 ^ 32), count = count }
      end
    end
    return { stacks = list, results = forked.hashes(at), left = forked.left() }
  end))
end

-- A block that fails alone is asked for again by the binding, when it has collected garbage; one that fails for good is not
-- had the second time.
local function cases_of(stacks)
  local cases = {}
  for _, stack in ipairs(stacks) do
    for i, n in ipairs { 1, 2, stack.count } do
      local lasting = i ~= 2
      if i == 1 or n >= i and n <= stack.count then
        cases[#cases + 1] = { high = stack.high, low = stack.low, occurrence = n, lasting = lasting,
          name = ("stack %08x%08x, block %d of %d%s"):format(stack.high, stack.low, n, stack.count,
            lasting and " and all that follow" or "") }
      end
    end
  end
  return cases
end

local whole = survey()
print(#whole.stacks .. " call stacks")
forked.all(cases_of(whole.stacks), tonumber(arg[1]), function(case)
  local at = dir .. "/case"
  folder.remove(at)
  local made, why = forked.apart(function()
    C.faults_watch()
    C.faults_arm(ffi.cast("uint64_t", case.high) * 2 ^ 32 + case.low, case.occurrence, case.lasting and 1 or 0)
    local ok, reason = pcall(forked.cycle, at)
    C.faults_rest()
    return { ok = ok, reason = not ok and tostring(reason) or nil, failed = tonumber(C.faults_failed()), left = forked.left() }
  end)
  local wrong = not made and why or forked.wrong(at, made, whole)
  if wrong then error(wrong, 0) end
  return made.failed == 0 and "not met" or made.ok and "right answers" or "errors"
end)
