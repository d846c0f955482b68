-- A judge behind an OpenAI-compatible endpoint. Every answer goes into a journal before it counts, so nothing is asked,
-- or paid for, twice; the replies depend on the answers alone, not on the order in which they come.
--
--   local judge = lucid.judge.openai { model = "gpt-4", journal = "runs/a/judge.jsonl" }
--   local replies = judge:ask { { kind = "judge", text = prompt, accept = readable } }
--
-- The key comes from OPENAI_API_KEY or a file, is read by the core, and no Lua code sees it.
local ffi = require "ffi"
local native = require "lucid.native"
local batchfile = require "lucid.batchfile"
local budget = require "lucid.budget"
local completion = require "lucid.completion"
local http = require "lucid.http"
local journal = require "lucid.journal"
local json = require "lucid.json"

local C = native.C
local M = {}
local Judge = {}
Judge.__index = Judge

M.ENDPOINT = "https://api.openai.com/v1"
local PATH = "/chat/completions"

---@class lucid.OpenaiOptions : lucid.HttpOptions
---@field model string|nil           default "gpt-4"
---@field base_url string|nil        default OPENAI_BASE_URL, else OpenAI's
---@field api_key_file string|nil    default OPENAI_API_KEY
---@field journal string             the file of all answers
---@field parameters table|string|nil   fields of the body, or a JSON file of them; json.null takes one out
---@field retries integer|nil        times that an unreadable answer is asked for again, default 2
---@field max_requests integer|nil
---@field max_cost number|nil        dollars
---@field price_in number|nil        dollars for a million tokens of prompts
---@field price_out number|nil       and of answers
---@field batch_file string|nil      ask by this file instead

---@param opt lucid.OpenaiOptions
function M.new(opt)
  if not opt.journal then
    error("judge openai: answers that are paid for are kept in a journal; give --journal FILE, or --out", 0)
  end
  local parameters = opt.parameters
  if type(parameters) == "string" then parameters = json.read_object(parameters) end
  local self = setmetatable({ opt = opt, model = opt.model or "gpt-4", retries = opt.retries or 2,
    base = (opt.base_url or os.getenv("OPENAI_BASE_URL") or M.ENDPOINT):gsub("/+$", ""), parameters = parameters or {},
    counts = { requests = 0, refused = 0, empty = 0, too_long = 0, cut = 0, unreadable = 0, again = 0, sent = 0, faults = 0 },
  }, Judge)
  self.budget = budget { model = self.model, max_cost = opt.max_cost, max_requests = opt.max_requests,
    price_in = opt.price_in, price_out = opt.price_out }
  self.journal = journal.open(opt.journal)
  for _, record in self.journal:each() do self.budget:count(record.reply.usage or {}, record.batch) end
  self.identity = { judge = "openai", model = self.model, endpoint = self.base, parameters = self.parameters }
  return self
end

-- ---- requests --------------------------------------------------------------------------------------------

-- The question of one attempt: what is posted, and the key that its answer is kept under.
local function question(self, request, attempt)
  local body = json.encode(completion.body(request, self.model, self.parameters))
  local who = json.encode { url = self.base .. PATH, body = body, sample = request.sample or 1, attempt = attempt }
  local hex = ffi.new("char[65]")
  native.check(C.lc_sha256(who, #who, hex))
  return { key = ffi.string(hex, 64), path = PATH, body = body, request = request, attempt = attempt }
end

local function reply_of(record, attempt)
  local reply = {}
  for name, value in pairs(record.reply) do reply[name] = value end
  reply.attempts = attempt
  return reply
end

-- Follows a request through the answers that are kept: to its reply, or to the question that is to be asked next.
local function follow(self, state, i)
  local request = state.requests[i]
  local retries = request.accept and (request.retries or self.retries) or 0
  for attempt = state.attempt[i], retries + 1 do
    state.attempt[i] = attempt
    local q = question(self, request, attempt)
    local record = self.journal:get(q.key)
    if not record then
      local waiting = state.waiting[q.key]
      if waiting then waiting[#waiting + 1] = i return end
      state.waiting[q.key] = { i }
      state.queue[#state.queue + 1] = q
      return
    end
    local reply = reply_of(record, attempt)
    local readable = not request.accept or request.accept(reply.text)
    if not readable then reply.accepted = false end
    -- What is refused or too long is so again.
    if readable or reply.refused or reply.too_long or attempt > retries then
      state.replies[i] = reply
      return
    end
  end
end

-- ---- asking ----------------------------------------------------------------------------------------------

local function client_of(self)
  if self.client then return self.client end
  local opt = self.opt
  self.client = http.open { base = self.base, key_file = opt.api_key_file, ca_file = opt.ca_file,
    concurrency = opt.concurrency, tries = opt.tries, pause = opt.pause, connect = opt.connect, timeout = opt.timeout,
    stall = opt.stall, most = opt.most, requests_per_minute = opt.requests_per_minute,
    tokens_per_minute = opt.tokens_per_minute, quiet = opt.quiet }
  if not self.client.keyed and self.base == M.ENDPOINT then
    error("judge openai: there is no key; set OPENAI_API_KEY, or name its file with --api-key-file", 0)
  end
  return self.client
end

local function record_of(job, reply)
  local request = job.request
  return { key = job.key, kind = request.kind, image_id = request.image_id, sample = request.sample,
    attempt = job.attempt > 1 and job.attempt or nil, reply = reply }
end

-- Keeps what came, then lets every request that waited for it go on.
local function keep(self, state, list)
  local records = {}
  for _, entry in ipairs(list) do
    if entry.value then records[#records + 1] = record_of(entry.job, entry.value)
    else state.failed[#state.failed + 1] = entry end
  end
  self.journal:add(records)
  for _, record in ipairs(records) do
    self.budget:keep(record.reply.usage or {})
    local waiting = state.waiting[record.key]
    state.waiting[record.key] = nil
    for _, i in ipairs(waiting) do follow(self, state, i) end
  end
  if state.progress then state.progress(state) end
end

-- Takes the questions of the queue in their order; re-asked ones come behind it.
local function next_question(self, state)
  state.at = state.at + 1
  local q = state.queue[state.at]
  if not q then
    state.at = state.at - 1
    return nil
  end
  q.estimate = completion.estimate(q.body)
  q.tokens = q.estimate.prompt + q.estimate.completion
  self.counts.again = self.counts.again + (q.attempt > 1 and 1 or 0)
  return q
end

local function ask_online(self, state)
  local client, spent = client_of(self), self.budget
  local sent, faults = client.sent, client.faults
  local reason = client:run {
    next = function() return next_question(self, state) end,
    may = function(job) return spent:fits(job.estimate) end,
    sent = function(job) spent:send(job.estimate) end,
    came = function(job) spent:came(job.estimate) end,
    lasting = completion.lasting,
    read = completion.read,
    done = function(list) keep(self, state, list) end,
  }
  self.counts.sent = self.counts.sent + client.sent - sent
  self.counts.faults = self.counts.faults + client.faults - faults
  return reason
end

-- ---- what is left ----------------------------------------------------------------------------------------

local function answered(state)
  local n = 0
  for i = 1, #state.requests do n = n + (state.replies[i] and 1 or 0) end
  return n
end

local function stop(self, state, why, how)
  local done = answered(state)
  error(("judge openai: %s; %d of %d requests are answered and kept in %s (%s), %d are left; %s"):format(why, done,
    #state.requests, self.journal.path, self.budget:text(), #state.requests - done, how), 0)
end

local function look_at_end(self, state, reason)
  if reason then
    local limit = reason:match("^(%-%-max%-%a+)")
    stop(self, state, reason, limit and ("the same command with a larger %s goes on from there"):format(limit)
      or "the same command goes on from there")
  end
  local failed = state.failed[1]
  if failed then
    stop(self, state, ("%d had no answer after %d tries (%s)"):format(#state.failed, self.client.tries, failed.fault),
      "the same command asks for them again")
  end
end

local function ask_by_file(self, state)
  local written = batchfile.write(self.opt.batch_file, state.queue)
  stop(self, state, ("%d requests are in %s"):format(written, self.opt.batch_file),
    ("have it answered as a batch, put the result beside it as %s, and the same command goes on"):format(
      batchfile.output(self.opt.batch_file)))
end

local function count(self, replies)
  local c = self.counts
  for _, reply in ipairs(replies) do
    c.requests = c.requests + 1
    for _, what in ipairs { "refused", "empty", "too_long", "cut" } do
      if reply[what] then c[what] = c[what] + 1 end
    end
    if reply.accepted == false then c.unreadable = c.unreadable + 1 end
  end
end

--- Answers requests, in their order. An error says what is done, what is left, and how to go on.
---@param requests lucid.JudgeRequest[]
---@param opt table|nil     progress: function(answered, of)
---@return table[] replies
function Judge:ask(requests, opt)
  local state = { requests = requests, replies = {}, attempt = {}, waiting = {}, queue = {}, failed = {}, at = 0 }
  local progress = opt and opt.progress
  if progress then state.progress = function() progress(answered(state), #requests) end end
  if self.opt.batch_file then
    for _, record in ipairs(self.journal:add(batchfile.read(self.opt.batch_file))) do
      self.budget:count(record.reply.usage, true)
    end
  end
  for i, request in ipairs(requests) do
    if not (request.text or request.question) then
      error(("judge openai: request %d (%s) has no text; a prompt writes it"):format(i, tostring(request.kind)), 2)
    end
    state.attempt[i] = 1
    follow(self, state, i)
  end
  if #state.queue > 0 then
    if self.opt.batch_file then ask_by_file(self, state) end
    look_at_end(self, state, ask_online(self, state))
  end
  count(self, state.replies)
  return state.replies
end

--- Ends connections and lets other processes use the journal.
function Judge:close()
  if self.client then self.client:close() end
  self.client = nil
  self.journal:close()
end

return setmetatable(M, { __call = function(_, opt) return M.new(opt) end })
