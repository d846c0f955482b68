-- Requests to one HTTP endpoint, many in flight: what fails for a while is tried again, limits of rate are kept.
--
--   local client = http.open { base = "https://host/v1", concurrency = 8 }
--   local reason = client:run {
--     next = function() return { path = "/chat/completions", body = text, tokens = 900 } end,      -- nil: none now
--     read = function(job, answer) return value end,     -- or nil, fault: try again;  false, reason: stop
--     done = function(list) end,                         -- { { job =, value = } or { job =, fault = }, ... }
--   }
--
-- Tried again are connection faults, the statuses 408, 409, 429 and 5xx, and what read calls a fault: `tries` times in
-- all, after a pause that doubles and is drawn at random, and not before a Retry-After. Every other status is read's.
-- Answers come in any order; what is made of them must not depend on it. After a signal, and where a reason to stop
-- is found, nothing more is sent and what is in flight is waited for: it is paid for.
local ffi = require "ffi"
local native = require "lucid.native"
local bucket = require "lucid.bucket"
local options = require "lucid.options"

local C, check = native.C, native.check
local M = {}
local Client = {}
Client.__index = Client

local LONGEST = 60            -- seconds of a pause
local PATIENCE = 600          -- most seconds of a Retry-After that are waited for
local DEAD = 10               -- requests without an answer, one after another, after which the endpoint counts as down

---@class lucid.HttpOptions
---@field base string                     "https://host/v1"
---@field key_file string|nil             the key's file; nil: OPENAI_API_KEY
---@field ca_file string|nil              certificates in place of the system's
---@field concurrency integer|nil         requests in flight, default 8
---@field tries integer|nil               of a request, default 6
---@field pause number|nil                seconds of the first pause, default 1
---@field connect number|nil              seconds to connect, default 15
---@field timeout number|nil              seconds until an answer is whole, default 300
---@field stall number|nil                seconds without a byte, default 120
---@field most integer|nil                bytes of an answer, default 4 MiB
---@field requests_per_minute number|nil
---@field tokens_per_minute number|nil
---@field quiet boolean|nil               nothing on stderr
---@field idle fun()|nil                  called again and again in place of waiting, by whoever has other work; signals are
---   then the caller's affair
local FIELDS = options("base key_file ca_file concurrency tries pause connect timeout stall most requests_per_minute "
  .. "tokens_per_minute quiet idle")

-- Which variable names a proxy: libcurl takes it, and it may hold a password.
local function proxy(base)
  local own = base:find("^http://") and { "http_proxy" } or { "https_proxy", "HTTPS_PROXY" }
  for _, names in ipairs { own, { "all_proxy", "ALL_PROXY" } } do
    for _, name in ipairs(names) do
      if (os.getenv(name) or "") ~= "" then return name end
    end
  end
end

--- A client of one endpoint.
---@param opt lucid.HttpOptions
---@return table
function M.open(opt)
  FIELDS:check("http.open", opt)
  local handle = C.lc_http_open(opt.base, opt.ca_file)
  if handle == nil then error(ffi.string(C.lc_error()), 0) end
  handle = ffi.gc(handle, C.lc_http_close)
  C.lc_http_limits(handle, opt.connect or 15, opt.timeout or 300, opt.stall or 120, opt.most or 4 * 2 ^ 20)
  local keyed = C.lc_http_key(handle, opt.key_file)
  if keyed < 0 then error(ffi.string(C.lc_error()), 0) end
  local variable = not opt.quiet and proxy(opt.base)
  if variable then io.stderr:write(("http: through the proxy that %s names, unless no_proxy says otherwise\n"):format(variable)) end
  local now = C.lc_seconds()
  local function limit(per_minute) return (per_minute or 0) > 0 and bucket(per_minute, now) or nil end
  return setmetatable({
    handle = handle, keyed = keyed > 0, concurrency = opt.concurrency or 8, tries = opt.tries or 6,
    pause = opt.pause or 1, requests = limit(opt.requests_per_minute), tokens = limit(opt.tokens_per_minute),
    quiet = opt.quiet, idle = opt.idle, sent = 0, faults = 0,
  }, Client)
end

--- Ends the client and what it has in flight.
function Client:close()
  if self.handle then C.lc_http_close(ffi.gc(self.handle, nil)) end
  self.handle = nil
end

-- ---- when to send --------------------------------------------------------------------------------------

-- Seconds until the limits let a job go.
local function held_back(self, job, now)
  local seconds = math.max(0, (self.not_before or 0) - now)
  if self.requests then seconds = math.max(seconds, self.requests:wait(1, now)) end
  if self.tokens then seconds = math.max(seconds, self.tokens:wait(job.tokens or 0, now)) end
  return seconds
end

local function send(self, run, job, now)
  if self.requests then self.requests:take(1, now) end
  if self.tokens then self.tokens:take(job.tokens or 0, now) end
  local number = check(tonumber(C.lc_http_send(self.handle, job.path, job.body, #job.body)))
  run.flying[number] = job
  run.count = run.count + 1
  self.sent = self.sent + 1
  if run.handlers.sent then run.handlers.sent(job) end
end

local function stop(run, reason) run.reason = run.reason or reason end

-- The job whose turn it is: one whose pause has ended, else a new one, unless many wait: an endpoint that has trouble
-- is not given more.
local function choose(self, run, now)
  if run.ready then return run.ready end
  local first = run.paused[1]
  if first and first.at <= now then return table.remove(run.paused, 1).job end
  return #run.paused < self.concurrency and run.handlers.next() or nil
end

-- Sends what may go now; the seconds until something else may.
local function send_due(self, run)
  while run.count < self.concurrency and not run.reason do
    local now = C.lc_seconds()
    run.ready = choose(self, run, now)
    if not run.ready then return run.paused[1] and run.paused[1].at - now or 1 end
    local seconds, reason = held_back(self, run.ready, now), run.handlers.may and run.handlers.may(run.ready)
    if reason then
      -- What is in flight may turn out cheaper than was set aside for it.
      if run.count == 0 then stop(run, reason) end
      return 1
    end
    if seconds > 0 then return seconds end
    send(self, run, run.ready, now)
    run.ready = nil
  end
  return 1
end

-- ---- what came -----------------------------------------------------------------------------------------

local function retryable(status)
  return status == 0 or status == 408 or status == 409 or status == 429 or status >= 500
end

local function put_off(run, job, seconds)
  local at = C.lc_seconds() + seconds
  local place = #run.paused + 1
  while place > 1 and run.paused[place - 1].at > at do place = place - 1 end
  table.insert(run.paused, place, { at = at, job = job })
end

-- Another try, or the end of a job's tries.
local function fault(self, run, job, what, retry_after)
  if retry_after > PATIENCE then
    return stop(run, ("the server asks to wait %.0f seconds (%s)"):format(retry_after, what))
  end
  if retry_after > 0 then self.not_before = math.max(self.not_before or 0, C.lc_seconds() + retry_after) end
  self.faults = self.faults + 1
  job.tries = (job.tries or 0) + 1
  if job.tries < self.tries then
    local pause = math.min(LONGEST, self.pause * 2 ^ (job.tries - 1))
    -- Jitter: those that failed together do not come back together.
    local u = C.lc_uniform(1e6 * C.lc_seconds(), 0, self.sent)
    return put_off(run, job, math.max(retry_after, pause * (0.5 + 0.5 * u)))
  end
  run.finished[#run.finished + 1] = { job = job, fault = what }
  run.dead = run.dead + 1
  if run.dead >= DEAD then stop(run, ("the last %d requests had no answer (%s)"):format(run.dead, what)) end
end

local status, retry_after = ffi.new("int[1]"), ffi.new("double[1]")
local body, size, why = ffi.new("const char *[1]"), ffi.new("size_t[1]"), ffi.new("const char *[1]")

-- The next answer, behind its job.
local function take(self, run)
  local number = tonumber(C.lc_http_take(self.handle, status, retry_after, body, size, why))
  local job = run.flying[number]
  run.flying[number] = nil
  run.count = run.count - 1
  return job, { status = status[0], retry_after = retry_after[0], body = ffi.string(body[0], size[0]),
    fault = ffi.string(why[0]) }
end

local function arrived(self, run, job, answer)
  if run.handlers.came then run.handlers.came(job) end
  if answer.status < 0 then return stop(run, answer.fault) end
  local lasting = run.handlers.lasting
  if retryable(answer.status) then
    local reason = lasting and lasting(answer)
    if reason then return stop(run, reason) end
    local what = answer.status == 0 and answer.fault or "HTTP " .. answer.status
    return fault(self, run, job, what, answer.retry_after)
  end
  local value, what = run.handlers.read(job, answer)
  if value then
    run.finished[#run.finished + 1] = { job = job, value = value }
    run.dead = 0
  elseif value == false then
    stop(run, what)
  elseif what == "now" then
    put_off(run, job, 0)
  else
    fault(self, run, job, what, answer.retry_after)
  end
end

local function look_for_signals(self, run)
  if run.reason or self.idle or not native.signalled() then return end
  stop(run, "interrupted")
  if not self.quiet and run.count > 0 then
    io.stderr:write(("waiting for %d answers that are paid for; Ctrl-C again does not\n"):format(run.count))
  end
end

local function run_all(self, run)
  while true do
    local seconds = send_due(self, run)
    local busy = run.count > 0 or not run.reason and (run.ready or run.paused[1])
    if not busy then return run.reason end
    if self.idle then self.idle() end
    local came = check(C.lc_http_wait(self.handle, self.idle and 0 or math.min(seconds, 0.25)))
    for _ = 1, came do arrived(self, run, take(self, run)) end
    if #run.finished > 0 then
      local list = run.finished
      run.finished = {}
      run.handlers.done(list)
    end
    look_for_signals(self, run)
  end
end

-- What an error leaves in flight nobody knows any more.
local function run_or_close(self, run)
  local ok, reason = pcall(run_all, self, run)
  if not ok then
    self:close()
    error(reason, 0)
  end
  return reason
end

--- Sends all jobs and hands over what comes. A signal lets what is in flight arrive and ends the program then.
---@param handlers table      next, read, done as above; may: function(job) -> why it must not be sent, or nil;
---   sent, came: function(job), for each try; lasting: function(answer) -> why another try is of no use, or nil
---@return string|nil reason  why it stopped before all jobs were done
function Client:run(handlers)
  local run = { handlers = handlers, flying = {}, count = 0, paused = {}, finished = {}, dead = 0 }
  if self.idle then return run_or_close(self, run) end
  return native.held(run_or_close, self, run)
end

return M
