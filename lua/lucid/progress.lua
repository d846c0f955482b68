-- A progress line on stderr: steps, time left, speed, and the numbers that people watch. It is redrawn
-- in place on a terminal; elsewhere a plain line comes every tenth of the way.
local native = require "lucid.native"

local C = native.C
local M = {}
local Progress = {}
Progress.__index = Progress

local WATCHED = { "loss", "rewards/accuracies", "rewards/margins", "grad_norm" }
local BAR = 20              -- characters
local REDRAW = 0.1          -- seconds

local function clock(seconds)
  seconds = math.floor(seconds + 0.5)
  if seconds < 3600 then return ("%d:%02d"):format(seconds / 60, seconds % 60) end
  return ("%d:%02d:%02d"):format(seconds / 3600, seconds / 60 % 60, seconds % 60)
end

local function is_terminal()
  return C.lc_is_terminal(2) ~= 0 and os.getenv("TERM") ~= "dumb"
end

---@class lucid.ProgressOptions
---@field total integer
---@field from integer|nil     how many are done already: a run that goes on
---@field label string|nil
---@field unit string|nil      what stats.count counts: "pairs"
---@field quiet boolean|nil

--- A bar that nothing has moved yet.
---@param opt lucid.ProgressOptions
---@return table
function M.new(opt)
  return setmetatable({
    total = opt.total, from = opt.from or 0, label = opt.label or "", unit = opt.unit or "records", quiet = opt.quiet,
    terminal = is_terminal(), started = C.lc_seconds(), drawn = 0,
    said = math.floor(10 * (opt.from or 0) / opt.total), count = 0, tokens = 0,
  }, Progress)
end

--- The line of the bar.
---@param done integer
---@param stats table|nil
---@return string
function Progress:text(done, stats)
  local spent = math.max(1e-9, C.lc_seconds() - self.started)
  local parts = { ("%s %d/%d"):format(self.label, done, self.total) }
  if self.terminal then
    local full = math.floor(BAR * done / self.total)
    parts[1] = ("%s [%s%s] %d/%d"):format(self.label, ("="):rep(full), (" "):rep(BAR - full), done, self.total)
  end
  parts[#parts + 1] = ("%s left"):format(clock(spent / (done - self.from) * (self.total - done)))
  if self.count > 0 then parts[#parts + 1] = ("%.3g %s/s"):format(self.count / spent, self.unit) end
  if self.tokens > 0 then parts[#parts + 1] = ("%.3g tokens/s"):format(self.tokens / spent) end
  for _, name in ipairs(WATCHED) do
    if stats and type(stats[name]) == "number" then
      parts[#parts + 1] = ("%s %.4g"):format(name:match("[^/]+$"), stats[name])
    end
  end
  return table.concat(parts, "  ")
end

--- Says that `done` of the total are done; stats may hold count, tokens and what a log line holds.
---@param done integer
---@param stats table
function Progress:step(done, stats)
  if self.quiet then return end
  self.count = self.count + (stats and stats.count or 0)
  self.tokens = self.tokens + (stats and stats.tokens or 0)
  local now = C.lc_seconds()
  if self.terminal then
    if now - self.drawn < REDRAW and done < self.total then return end
    self.drawn = now
    rawset(_G, "LUCID_LINE", true)              -- the host ends the line before it says why a program ends
    io.stderr:write("\r", self:text(done, stats), "\27[K")
  elseif math.floor(10 * done / self.total) > self.said then
    self.said = math.floor(10 * done / self.total)
    io.stderr:write(self:text(done, stats), "\n")
  end
end

--- Ends the line.
function Progress:done()
  if self.quiet or not self.terminal then return end
  rawset(_G, "LUCID_LINE", nil)
  io.stderr:write("\n")
end

return setmetatable(M, { __call = function(_, opt) return M.new(opt) end })
