-- A server for answers: OpenAI's chat completions, batched continuously, of a model with and without its adapter.
--
--   local server = lucid.serve.open { model = m, name = "llava", port = 8080 }
--   print(server.url)
--   server:run()                          -- until a signal: what has been accepted is answered first
--
-- One thread of Lua does everything between two tokens; sockets are native/net's. /v1/chat/completions, /v1/models,
-- /healthz, /metrics, and a page at /.
local ffi = require "ffi"
local batch = require "lucid.serve.batch"
local completion = require "lucid.serve.completion"
local generate = require "lucid.generate"
local image = require "lucid.image"
local job = require "lucid.serve.job"
local json = require "lucid.json"
local judging = require "lucid.serve.judging"
local keys = require "lucid.keys"
local metrics = require "lucid.serve.metrics"
local native = require "lucid.native"
local options = require "lucid.options"
local page = require "lucid.serve.page"
local refusal = require "lucid.serve.refusal"

local C, check = native.C, native.check
local M = {}
local Server = {}
Server.__index = Server

---@class lucid.ServeOptions
---@field model lucid.Model
---@field name string                     the base's name; the adapter's is NAME+adapter
---@field host string|nil                 address, default 127.0.0.1; one that others reach needs a key
---@field port integer|nil                0 (default): any that is free
---@field key_file string|nil             file of the key that requests need
---@field names string[]|nil              further names that Host may have
---@field batch integer|nil               answers that grow together, default 64
---@field queue integer|nil               requests at a time, waiting ones with them, default 128
---@field connections integer|nil         default 256
---@field max_body number|nil             bytes of a request, default 16 MiB
---@field max_tokens integer|nil          most tokens of an answer, default 1024
---@field tokens integer|nil              those where a request does not say, default 512
---@field temperature number|nil          where a request does not say, default 0
---@field seed integer|nil                of requests without one
---@field timeout number|nil              seconds for a request, default 300
---@field head_timeout number|nil         seconds until a request's head is there, default 10
---@field body_timeout number|nil         seconds from there until its body is, default 30
---@field stall number|nil                seconds that a client may take nothing, default 30
---@field trunk_budget number|nil         bytes of keys and values that pictures may hold, default 1 GiB
---@field judging lucid.JudgingOptions|nil   who judges the answers that the page shows
---@field log fun(line: string)|nil       called with a line a request
local FIELDS = options("model name host port key_file names batch queue connections max_body max_tokens tokens "
  .. "temperature seed timeout head_timeout body_timeout stall trunk_budget judging log")
local DEFAULT = { host = "127.0.0.1", port = 0, batch = 64, queue = 128, connections = 256, max_body = 16 * 2 ^ 20,
  max_tokens = 1024, tokens = 512, temperature = 0, seed = 42, timeout = 300, head_timeout = 10, body_timeout = 30,
  stall = 30, trunk_budget = 2 ^ 30 }

-- ---- opening ---------------------------------------------------------------------------------------

-- The models by name. An adapter that brings whole modules of the base has put them in the base's place.
local function batches_of(opt)
  local m, list = opt.model, {}
  local function add(name, model) list[name] = batch.new(model, { trunk_budget = opt.trunk_budget }) end
  if not m.lora_config or next(m.beside) == nil then add(opt.name, m:base()) end
  if m.lora_config then add(opt.name .. "+adapter", m) end
  return list
end

local function url(host, port)
  return ("http://%s:%d"):format(host:find(":", 1, true) and "[" .. host .. "]" or host, port)
end

--- Opens a server, which listens from now on and answers once it runs.
---@param opt lucid.ServeOptions
---@return lucid.Server
function M.open(opt)
  FIELDS:check("serve", opt)
  generate.check_model(opt.model)
  image.guard { sandbox = true }
  local self = setmetatable({ jobs = {}, waiting = {}, metrics = metrics.new(), born = os.time() }, Server)
  for name in pairs(FIELDS.known) do self[name] = opt[name] == nil and DEFAULT[name] or opt[name] end
  self.handle = ffi.gc(check(C.lc_server_new(self.host, self.port)), C.lc_server_free)
  C.lc_server_limits(self.handle, self.max_body, self.queue, self.connections, self.head_timeout, self.body_timeout,
    self.stall)
  if opt.key_file then check(C.lc_server_key(self.handle, opt.key_file)) end
  for _, name in ipairs(opt.names or {}) do check(C.lc_server_name(self.handle, name)) end
  self.batches = batches_of(self)
  self.models = keys(self.batches)
  self.judging = self.judging and judging.new(self.judging)
  self.port = check(C.lc_server_start(self.handle))
  self.url = url(self.host, self.port)
  return self
end

--- Ends all connections.
function Server:close()
  if self.handle then C.lc_server_free(ffi.gc(self.handle, nil)) end
  self.handle = nil
  for _, b in pairs(self.batches) do b:close() end
end

-- ---- answering -------------------------------------------------------------------------------------

--- Sends a whole answer.
---@param number integer
---@param status integer
---@param kind string
---@param text string
---@param headers table<string, string>|nil
function Server:answer(number, status, kind, text, headers)
  for name, value in pairs(headers or {}) do check(C.lc_server_header(self.handle, number, name, value)) end
  check(C.lc_server_answer(self.handle, number, status, kind, text, #text))
  self.metrics:answered(status)
end

local function log(self, status, message)
  if self.log then self.log(("%d %s"):format(status, (message:gsub("%c", "?")))) end     -- a terminal obeys some
end

--- Sends a refusal.
---@param number integer
---@param r table      of lucid.serve.refusal
function Server:refuse(number, r)
  local headers = (r.status == 429 or r.status == 503) and { ["Retry-After"] = "1" } or r.headers
  self:answer(number, r.status, "application/json", r:text(), headers)
  log(self, r.status, r.message)
end

--- A stream has ended with an error.
---@param one lucid.ServedJob
---@param r table      of lucid.serve.refusal
function Server:broken_off(one, r)
  self.metrics:answered(200)
  self.metrics.broken = self.metrics.broken + 1
  log(self, 200, ("%s: broken off: %s"):format(one.model, r.message))
end

--- A job has been answered whole.
---@param one lucid.ServedJob
---@param tokens integer
function Server:finished(one, tokens)
  self.jobs[one.number] = nil
  local seconds = C.lc_seconds() - one.arrived
  self.metrics:observe("request", seconds)
  self.metrics.prompt_tokens = self.metrics.prompt_tokens + one.prompt_tokens
  self.metrics.completion_tokens = self.metrics.completion_tokens + tokens
  if self.log then
    self.log(("200 %s: %d tokens read, %d written, %.2f s"):format(one.model, one.prompt_tokens, tokens, seconds))
  end
end

-- ---- routes ----------------------------------------------------------------------------------------

local function model_entry(self, name)
  return { id = name, object = "model", created = self.born, owned_by = "lucid" }
end

-- What is counted elsewhere, for the metrics.
local function readings(self)
  local function count(what) return tonumber(C.lc_server_count(self.handle, what)) end
  local list = {
    { "lucid_requests_refused_total", "counter", "Requests refused by their head.", count "refused" },
    { "lucid_connections", "gauge", "Open connections.", count "connections" },
    { "lucid_requests_waiting", "gauge", "Requests that have not joined a batch.", #self.waiting },
    { "lucid_memory_bytes", "gauge", "Native memory in use.", tonumber(C.lc_memory_used()) },
  }
  local counts = {
    { "lucid_sequences", "gauge", "Answers that grow.", function(b) return b.count end },
    { "lucid_sequences_resting", "gauge", "Those whose clients do not keep up.", function(b) return b.resting end },
    { "lucid_tokens_total", "counter", "Tokens chosen.", function(b) return b.made end },
    { "lucid_trunks", "gauge", "Pictures whose keys and values are kept.", function(b) return b.trunks.count end },
    { "lucid_trunk_bytes", "gauge", "Bytes of them.", function(b) return b.trunks.bytes end },
    { "lucid_trunk_hits_total", "counter", "Prompts whose beginning was kept.", function(b) return b.trunks.hits end },
    { "lucid_trunk_misses_total", "counter", "Prompts whose beginning was not.", function(b) return b.trunks.misses end },
  }
  for _, c in ipairs(counts) do
    for _, name in ipairs(self.models) do
      local label = ('{model="%s"}'):format((name:gsub('[\\"\n]', "_")))
      list[#list + 1] = { c[1], c[2], c[3], c[4](self.batches[name]), label }
    end
  end
  return list
end

local function get_models(self, number)
  local data = json.array {}
  for i, name in ipairs(self.models) do data[i] = model_entry(self, name) end
  self:answer(number, 200, "application/json", json.encode { object = "list", data = data })
end

local function get_model(self, number, name)
  if not self.batches[name] then
    refusal.raise(404, ("there is no model '%s'"):format(name), "model", "model_not_found")
  end
  self:answer(number, 200, "application/json", json.encode(model_entry(self, name)))
end

local function post_completion(self, number, _, body)
  local request = completion.read(body, self)
  local one = job.new(self, number, request)
  self.jobs[number] = one
  table.insert(self.waiting, one)
end

local function post_judge(self, number, _, body)
  if not self.judging then refusal.raise(404, "this server has no judge; --judge names one") end
  self.judging:add(number, body)
end

local function get_page(self, number)
  self:answer(number, 200, "text/html; charset=utf-8", page.text(self.models, self.judging ~= nil), page.HEADERS)
end

-- By path and method.
local ROUTES = {
  ["/"] = { GET = get_page },
  ["/healthz"] = { GET = function(self, number) self:answer(number, 200, "text/plain", "ok\n") end },
  ["/metrics"] = { GET = function(self, number)
    self:answer(number, 200, "text/plain; version=0.0.4", self.metrics:text(readings(self)))
  end },
  ["/v1/models"] = { GET = get_models },
  ["/v1/chat/completions"] = { POST = post_completion },
  ["/judge"] = { POST = post_judge },
}
local ONE_MODEL = { GET = get_model }          -- /v1/models/NAME

local function route(self, number, method, path, body)
  local name = path:match "^/v1/models/(.+)$"
  local methods = name and ONE_MODEL or ROUTES[path]
  if not methods then refusal.raise(404, ("there is no %s"):format(path)) end
  local f = methods[method == "HEAD" and "GET" or method]
  if not f then
    local names = table.concat(keys(methods), ", ")
    refusal.raise(405, ("%s takes %s"):format(path, names), nil, nil, { Allow = names })
  end
  f(self, number, name, body)
end

-- ---- the loop --------------------------------------------------------------------------------------

local method, path = ffi.new("const char *[1]"), ffi.new("const char *[1]")
local body, size = ffi.new("const char *[1]"), ffi.new("size_t[1]")

local function take_new(self)
  while true do
    local number = tonumber(C.lc_server_take(self.handle, method, path, body, size))
    if number == 0 then return end
    local verb, where, text = ffi.string(method[0]), ffi.string(path[0]), ffi.string(body[0], size[0])
    local ok, reason = pcall(route, self, number, verb, where, text)
    if not ok then self:refuse(number, refusal.of(reason)) end
  end
end

local function remove(list, value)
  for i, entry in ipairs(list) do
    if entry == value then return table.remove(list, i) end
  end
end

local function take_left(self)
  while true do
    local number = tonumber(C.lc_server_left(self.handle))
    if number == 0 then return end
    local one = self.jobs[number]
    self.metrics.left = self.metrics.left + 1
    self.jobs[number] = nil
    if self.judging then self.judging:forget(number) end
    if one then
      remove(self.waiting, one)
      one:leave()
    end
  end
end

-- Answers that take part in the next step.
local function growing(self)
  local n = 0
  for _, b in pairs(self.batches) do n = n + b.count - b.resting end
  return n
end

-- Jobs join while there is room. A picture that has not run yet holds all others up, so one such joins at a time.
local function admit(self)
  local ran = false
  while self.waiting[1] do
    local one, n = self.waiting[1], growing(self)
    if n > 0 and n + one.request.choices > self.batch then return end
    if n > 0 and ran then return end
    table.remove(self.waiting, 1)
    local misses = one.batch.trunks.misses
    local ok, reason = pcall(one.join, one)
    ran = ran or one.batch.trunks.misses > misses
    if not ok then one:fail(reason) end
  end
end

-- What fails in the middle of a pass fails for all that were in it.
local function step(self)
  for _, name in ipairs(self.models) do
    local b = self.batches[name]
    local ok, reason = pcall(b.step, b)
    if not ok then
      io.stderr:write("lucid: serve: ", refusal.of(reason).message, "\n")
      for _, one in pairs(self.jobs) do
        if one.batch == b and #one.sequences > 0 then one:fail(reason) end
      end
      b:reset()
    end
  end
end

-- The verdict that a judge has come to, if it has.
local function judge(self)
  local number, text, refused = self.judging:turn()
  if refused then self:refuse(number, refused) elseif number then self:answer(number, 200, "application/json", text) end
end

local function expire(self)
  local now = C.lc_seconds()
  local late = refusal.new(503, ("the request took longer than %g seconds"):format(self.timeout))
  for _, one in pairs(self.jobs) do
    if now - one.arrived > self.timeout then
      remove(self.waiting, one)
      one:fail(late)
    end
  end
  for _, number in ipairs(self.judging and self.judging:waiting(now - self.timeout) or {}) do
    self.judging:forget(number)
    self:refuse(number, late)
  end
end

-- How many requests were accepted and are not answered.
local function unanswered(self) return #keys(self.jobs) + (self.judging and #self.judging:waiting() or 0) end

local PAUSE = 0.02          -- seconds between two looks at clients that do not keep up

--- One round: what has come, what has gone, and a token for every answer.
---@param patience number      seconds to wait for something where there is nothing to do
function Server:round(patience)
  if growing(self) > 0 then patience = 0 elseif unanswered(self) > 0 then patience = PAUSE end
  if check(C.lc_server_wait(self.handle, patience)) > 0 then
    take_left(self)
    take_new(self)
  end
  for _, one in pairs(self.jobs) do
    if one.slow then one:write "" end
  end
  expire(self)
  admit(self)
  step(self)
  if self.judging then judge(self) end
end

local DRAIN = 5             -- seconds for clients to take the last answers

-- No further request is taken. Where some are waiting for their answers, the user waits with them, and is told so.
local function drain(self)
  C.lc_server_drain(self.handle)
  local n = unanswered(self)
  if self.log and n > 0 then
    self.log(("%d request%s answered first; Ctrl-C again ends at once"):format(n, n == 1 and " is" or "s are"))
  end
end

local function run(self)
  local until_seconds
  while true do
    self:round(0.25)
    if native.signalled() and not until_seconds then
      drain(self)
      until_seconds = math.huge
    end
    if until_seconds and unanswered(self) == 0 then
      until_seconds = math.min(until_seconds, C.lc_seconds() + DRAIN)
      if C.lc_server_count(self.handle, "unsent") == 0 or C.lc_seconds() > until_seconds then return end
    end
  end
end

--- Answers until a signal comes: further requests are refused then, and what has been accepted is answered.
function Server:run() native.obeying(run, self) end

return M
