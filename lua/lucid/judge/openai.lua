-- A judge behind an OpenAI-compatible endpoint. Every answer goes into a journal before it counts, so nothing is asked,
-- or paid for, twice; the replies depend on the answers alone, not on the order in which they come.
--
--   local judge = lucid.judge.openai { model = "gpt-4", journal = "runs/a/judge.jsonl" }
--   local replies = judge:ask { { kind = "judge", text = prompt, accept = readable } }
--
-- The key comes from OPENAI_API_KEY or a file, is read by the core, and no Lua code sees it.
local batchfile = require "lucid.batchfile"
local budget = require "lucid.budget"
local cache = require "lucid.cache"
local completion = require "lucid.completion"
local http = require "lucid.http"
local inquiry = require "lucid.inquiry"
local journal = require "lucid.journal"
local json = require "lucid.json"
local progress = require "lucid.progress"

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

--- The judge; nothing is sent before it is asked.
---@param opt lucid.OpenaiOptions
---@return table
function M.new(opt)
  if not opt.journal then
    error("judge openai: answers that are paid for are kept in a journal; give --journal FILE, or --out", 0)
  end
  local parameters = opt.parameters
  if type(parameters) == "string" then parameters = json.read_object(parameters) end
  local self = setmetatable({ opt = opt, model = opt.model or "gpt-4",
    base = (opt.base_url or os.getenv("OPENAI_BASE_URL") or M.ENDPOINT):gsub("/+$", ""), parameters = parameters or {},
    counts = { sent = 0, faults = 0 },
  }, Judge)
  if self.base:find("@", 1, true) then          -- results name the endpoint
    error("judge openai: the endpoint holds a name or a password; https://HOST/v1 is expected", 0)
  end
  self.budget = budget { model = self.model, max_cost = opt.max_cost, max_requests = opt.max_requests,
    price_in = opt.price_in, price_out = opt.price_out }
  self.journal = journal.open(opt.journal, opt.quiet)
  for _, record in self.journal:each() do self.budget:count(record.reply.usage or {}, record.batch) end
  -- A first run fails here and not after hours of other work.
  if not self.journal:first() and not opt.batch_file then self:connect() end
  self.identity = { judge = "openai", model = self.model, endpoint = self.base, parameters = self.parameters }
  return self
end

-- ---- requests --------------------------------------------------------------------------------------------

-- The question of one attempt: what is posted, and the key that its answer is kept under.
local function question_of(self, request, attempt)
  local body = json.encode(completion.body(request, self.model, self.parameters))
  local key = cache.key { url = self.base .. PATH, body = body, sample = request.sample or 1, attempt = attempt }
  return { key = key, path = PATH, body = body }
end

-- ---- asking ----------------------------------------------------------------------------------------------

--- Opens the client: endpoint, key and certificates are looked at, nothing is sent.
---@return table
function Judge:connect()
  if self.client and self.client.handle then return self.client end
  local opt = self.opt
  self.client = http.open { base = self.base, key_file = opt.api_key_file, ca_file = opt.ca_file,
    concurrency = opt.concurrency, tries = opt.tries, pause = opt.pause, connect = opt.connect, timeout = opt.timeout,
    stall = opt.stall, most = opt.most, requests_per_minute = opt.requests_per_minute,
    tokens_per_minute = opt.tokens_per_minute, quiet = opt.quiet, idle = opt.idle }
  if not self.client.keyed and self.base == M.ENDPOINT then
    error("judge openai: there is no key; set OPENAI_API_KEY, or name its file with --api-key-file", 0)
  end
  return self.client
end

local function keep(self, q, state, list)
  local records = {}
  for _, entry in ipairs(list) do
    if entry.value then
      records[#records + 1] = inquiry.record(entry.job, entry.value)
      self.budget:keep(entry.value.usage)
    else
      state.failed[#state.failed + 1] = entry
    end
  end
  q:keep(records)
  state.bar:step(q.answered, { count = #records })
end

local function next_question(q)
  local question = q:next()
  if not question then return nil end
  question.estimate = completion.estimate(question.body)
  question.tokens = question.estimate.prompt + question.estimate.completion
  return question
end

local function ask_online(self, q)
  local client, spent = self:connect(), self.budget
  local sent, faults = client.sent, client.faults
  local state = { failed = {}, bar = progress { total = #q.requests, from = q.answered, label = "judge", unit = "answers",
    quiet = self.opt.quiet } }
  local reason = client:run {
    next = function() return next_question(q) end,
    may = function(job) return spent:fits(job.estimate) end,
    sent = function(job) spent:send(job.estimate) end,
    came = function(job) spent:came(job.estimate) end,
    lasting = completion.lasting,
    read = completion.read,
    done = function(list) keep(self, q, state, list) end,
  }
  state.bar:done()
  if not self.opt.quiet then
    io.stderr:write(("judge: %s in all (%s), %d faults on the way\n"):format(spent:text(), self.journal.path, client.faults - faults))
  end
  self.counts.sent = self.counts.sent + client.sent - sent
  self.counts.faults = self.counts.faults + client.faults - faults
  return reason, state.failed
end

-- ---- what is left ----------------------------------------------------------------------------------------

local function stop(self, q, why, how)
  error(("judge openai: %s; %d of %d requests are answered and kept in %s (%s), %d are left; %s"):format(why, q.answered,
    #q.requests, self.journal.path, self.budget:text(), #q.requests - q.answered, how), 0)
end

local function look_at_end(self, q, reason, failed)
  if reason then
    local limit = reason:match("^(%-%-max%-%a+)")
    stop(self, q, reason, limit and ("the same command with a larger %s goes on from there"):format(limit)
      or "the same command goes on from there")
  end
  if #failed > 0 then
    stop(self, q, ("%d had no answer after %d tries (%s)"):format(#failed, self.client.tries, failed[1].fault),
      "the same command asks for them again")
  end
end

-- ---- by a file -------------------------------------------------------------------------------------------

local function read_batch(self)
  for _, record in ipairs(self.journal:add(batchfile.read(self.opt.batch_file))) do
    self.budget:count(record.reply.usage, true)
  end
end

local function write_batch(self, q)
  local path, questions, reason = self.opt.batch_file, {}, nil
  for question in next_question, q do
    reason = self.budget:fits(question.estimate)
    if reason then break end
    self.budget:send(question.estimate)
    questions[#questions + 1] = question
  end
  if #questions == 0 then look_at_end(self, q, reason) end
  local written = batchfile.write(path, questions)
  stop(self, q, ("%d requests are written to %s"):format(written, path),
    ("have it answered as a batch, put the result beside it as %s, and the same command goes on"):format(
      batchfile.output(path)))
end

-- ---- the judge -------------------------------------------------------------------------------------------

--- Answers requests, in their order. An error says what is done, what is left, and how to go on.
---@param requests lucid.JudgeRequest[]
---@return table[] replies
function Judge:ask(requests)
  if self.opt.batch_file then read_batch(self) end
  local q = inquiry.new { requests = requests, journal = self.journal, retries = self.opt.retries,
    question = function(request, attempt) return question_of(self, request, attempt) end }
  if q:open() > 0 then
    if self.opt.batch_file then write_batch(self, q) end
    look_at_end(self, q, ask_online(self, q))
  end
  q:count(self.counts)
  return q.replies
end

--- Ends connections and lets other processes use the journal.
function Judge:close()
  if self.client then self.client:close() end
  self.client = nil
  self.journal:close()
end

return setmetatable(M, { __call = function(_, opt) return M.new(opt) end })
