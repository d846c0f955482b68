-- Timing of calls, and of work (lucid.bench.work): seconds of a call, and what many of them say.
local native = require "lucid.native"
local tensor = require "lucid.tensor"

local C = native.C
local M = {}

--- A function that returns when a device has done everything: what is read has to be there.
---@param device string
---@return fun()
function M.waiting(device)
  if device == "cpu" then return function() end end
  local marker = tensor.zeros({ 1 }, { device = device })
  return function() marker:item() end
end

--- Seconds of one call, of n that follow each other until the device has done them all. One that is not timed goes before
--- several, if their number is free: it gets back from the system what other work has let go, and fills caches.
---@param work lucid.Work
---@param n integer
---@param wait fun()
---@return number
function M.seconds(work, n, wait)
  if work.before then work.before() end
  if n > 1 and not work.calls then native.scope(work.run) end
  wait()
  local started = C.lc_seconds()
  for _ = 1, n do native.scope(work.run) end
  wait()
  return (C.lc_seconds() - started) / n
end

--- How many calls are timed together so that they take so long; a first one warms up.
---@param work lucid.Work
---@param each number       seconds
---@param wait fun()
---@return integer
function M.calls(work, each, wait)
  local first = M.seconds(work, work.calls or 1, wait)
  if work.calls or first > each then return work.calls or 1 end
  return math.max(1, math.ceil(each / math.max(M.seconds(work, 1, wait), 1e-6)))
end

local function between(sorted, part)
  local at = 1 + part * (#sorted - 1)
  local low = math.floor(at)
  return sorted[low] + (at - low) * (sorted[math.min(low + 1, #sorted)] - sorted[low])
end

--- The median of a list, and the width of its middle half as a part of the median.
---@param seconds number[]
---@return number median, number spread
function M.median(seconds)
  local sorted = { unpack(seconds) }
  table.sort(sorted)
  local median = between(sorted, 0.5)
  return median, (between(sorted, 0.75) - between(sorted, 0.25)) / median
end

local ABOUT, MOST, LEAST = 0.5, 1000, 5     -- seconds that a timing takes, calls at most and at least

---@class lucid.Timing
---@field median number       seconds of a call
---@field spread number       width of the middle half of the calls, as a part of the median
---@field least number
---@field calls integer
local Timing = {}

local function shown(seconds)
  if seconds < 1e-3 then return ("%.3g us"):format(1e6 * seconds) end
  if seconds < 1 then return ("%.3g ms"):format(1e3 * seconds) end
  return ("%.3g s"):format(seconds)
end

function Timing:__tostring()
  return ("%s a call (median of %d; the middle half is within %.0f %%, the fastest took %s)"):format(shown(self.median),
    self.calls, 100 * self.spread, shown(self.least))
end

--- How long f(...) takes: a first call warms up, then it is called for about half a second, five times at least. What
--- it makes is let go after each call; the device has done everything when a call counts as done.
---@param f function
---@param ... any
---@return lucid.Timing
function M.of(f, ...)
  if type(f) ~= "function" then native.bad_argument("time", 1, f, "a function") end
  local started, n, list = C.lc_device_started(), select("#", ...), { ... }
  local wait = M.waiting(started == C.LC_HOST and "cpu" or native.device_name(started))
  local work = { run = function() f(unpack(list, 1, n)) end }
  M.seconds(work, 1, wait)
  local times, finish = {}, C.lc_seconds() + ABOUT
  while #times < LEAST or (#times < MOST and C.lc_seconds() < finish) do times[#times + 1] = M.seconds(work, 1, wait) end
  local median, spread = M.median(times)
  return setmetatable({ median = median, spread = spread, least = math.min(unpack(times)), calls = #times }, Timing)
end

return M
