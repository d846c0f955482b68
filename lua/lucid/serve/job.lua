-- One request for a completion: its prompt, the sequences that answer it, and what its client is sent.
local json = require "lucid.json"
local native = require "lucid.native"
local refusal = require "lucid.serve.refusal"
local reply = require "lucid.serve.reply"

local C, check = native.C, native.check
local M = {}
local Job = {}
Job.__index = Job

local SLOW, CAUGHT_UP = 64 * 1024, 16 * 1024      -- bytes that a client has not taken: its sequences rest; they go on

---@class lucid.ServedJob
---@field number integer      of the request
---@field id string
---@field batch table         where its sequences grow
---@field request lucid.ServedCompletion
---@field sequences table[]   one a choice, once it has joined
---@field growing integer      choices whose end has not been sent

--- A job that waits to join.
---@param server table        the lucid.Server
---@param number integer
---@param request lucid.ServedCompletion
---@return lucid.ServedJob
function M.new(server, number, request)
  local batch = server.batches[request.model]
  if not batch then
    refusal.raise(404, ("there is no model '%s'; GET /v1/models lists those that there are"):format(request.model),
      "model", "model_not_found")
  end
  local self = setmetatable({ server = server, number = number, request = request, batch = batch, model = request.model,
    id = ("chatcmpl-%x-%d"):format(server.born, number), created = os.time(), arrived = C.lc_seconds(),
    sequences = {}, growing = request.choices }, Job)
  self:prepare()
  return self
end

-- Refuses what cannot fit before it is tokenized: a text of megabytes would hold everybody else up for seconds.
local function check_length(m, conversation)
  local bytes, longest, turns = 0, m.tokenizer:longest(), conversation.turns
  for _, turn in ipairs(turns) do bytes = bytes + #turn.question + #(turn.answer or "") end
  if #turns > m.positions or longest and bytes > m.positions * longest then
    refusal.raise(400, ("messages: the prompt has more tokens than this model's %d positions"):format(m.positions), "messages",
      "context_length_exceeded")
  end
end

--- The prompt's ids, and whether they fit.
function Job:prepare()
  local m, c = self.batch.model, self.request.conversation
  if #c.turns > 1 and not m.template.form.next then
    refusal.raise(400, ("messages: this model's template (%s) has no form for further questions"):format(
      m.template.name), "messages")
  end
  if c.picture and not m.processor then refusal.raise(400, "messages: this model sees no pictures", "messages") end
  check_length(m, c)
  self.ids = m.template:conversation(m.tokenizer, c.turns, { image = c.picture ~= nil }).ids
  self.prompt_tokens = #self.ids + (c.picture and m.image_rows - 1 or 0)
  if self.prompt_tokens >= m.positions then
    refusal.raise(400, ("messages: the prompt has %d tokens; of %d positions one at least is the answer's"):format(
      self.prompt_tokens, m.positions), "messages", "context_length_exceeded")
  end
end

-- The picture as the model takes it. What cannot be read is the client's fault.
local function see(self)
  local m, c = self.batch.model, self.request.conversation
  if not c.picture then return end
  local ok, features = pcall(m.seen.of_bytes, m.seen, c.picture.bytes, c.picture.key)
  if not ok then
    local text = tostring(features):match "the picture: (.*)"
    if text then refusal.raise(400, "the picture: " .. text, "messages", "invalid_image") end
    error(features, 0)
  end
  c.picture.bytes = nil                 -- large, and not needed any more
  local image = m:picture(features, c.turns[1].question)
  return image, c.picture.key .. (type(image) == "table" and " " .. table.concat(image.text, ",") or "")
end

--- What the batch takes; made once.
---@return table
function Job:item()
  if self.made then return self.made end
  local image, key = native.scope(function()
    local image, key = see(self)
    return image, key
  end)
  self.made = { ids = self.ids, image = image, key = key }
  return self.made
end

-- ---- joining -----------------------------------------------------------------------------------------

-- A request without a seed is drawn from the server's, with numbers that no other request has.
local function draws(self, choice)
  local settings, server, place = {}, self.server, (choice - 1) * 2 ^ 32
  for name, value in pairs(self.request.settings) do settings[name] = value end
  local stream = settings.seed and place or place + self.number
  settings.seed = settings.seed or server.seed
  return settings, stream
end

--- Its sequences join.
function Job:join()
  local made = self:item()
  for choice = 1, self.request.choices do
    local settings, stream = draws(self, choice)
    self.sequences[choice] = self.batch:join { ids = made.ids, image = made.image, key = made.key, settings = settings,
      stream = stream, top = self.request.top, say = function(sequence) self:grown(choice, sequence) end }
  end
  if self.request.stream then self:begin() end
  for choice, sequence in ipairs(self.sequences) do
    if sequence.answer.reason then self:grown(choice, sequence) end
  end
end

--- Its sequences leave: its client has gone, or something has gone wrong.
function Job:leave()
  for _, sequence in ipairs(self.sequences) do self.batch:leave(sequence) end
  self.over = true
end

-- ---- answering ---------------------------------------------------------------------------------------

local function completion_tokens(self)
  local n = 0
  for _, sequence in ipairs(self.sequences) do
    local a = sequence.answer
    n = n + #a.ids + (a.ended_by and 1 or 0)
  end
  return n
end

local function finish(self)
  self.over = true
  self.server:finished(self, completion_tokens(self))
end

local function whole(self)
  local choices, tokenizer = {}, self.batch.model.tokenizer
  for i, sequence in ipairs(self.sequences) do
    local answer = sequence.answer:answer()
    choices[i] = { index = i - 1, finish_reason = reply.reason(answer.reason),
      message = { role = "assistant", content = answer.text, refusal = json.null },
      logprobs = reply.logprobs(tokenizer, self.request.top and sequence.tokens) }
  end
  local usage = reply.usage(self.prompt_tokens, completion_tokens(self))
  local object = reply.completion(self, "chat.completion", choices, usage)
  self.server:answer(self.number, 200, "application/json", json.encode(object))
  finish(self)
end

--- Writes to a stream; a client that does not keep up has its sequences rest. An empty text looks whether it does
--- again.
---@param text string
function Job:write(text)
  local unsent = tonumber(check(C.lc_server_write(self.server.handle, self.number, text, #text)))
  self.slow = unsent > (self.slow and CAUGHT_UP or SLOW)
  for _, sequence in ipairs(self.sequences) do self.batch:rest(sequence, self.slow) end
end

-- A chunk with one choice, or with none.
local function chunk(self, choices, usage)
  if self.request.include_usage then usage = usage or json.null end
  self:write(reply.event(reply.completion(self, "chat.completion.chunk", choices, usage)))
end

local function delta(self, choice, change, tokens, reason)
  chunk(self, { { index = choice - 1, delta = change, finish_reason = reply.reason(reason),
    logprobs = reply.logprobs(self.batch.model.tokenizer, tokens) } })
end

--- Begins a stream.
function Job:begin()
  check(C.lc_server_begin(self.server.handle, self.number, "text/event-stream"))
  self.begun = true
  for choice = 1, self.request.choices do delta(self, choice, { role = "assistant", content = "" }) end
end

local function stream(self, choice, sequence)
  local text, tokens = table.concat(sequence.pieces), sequence.tokens
  sequence.pieces, sequence.tokens = {}, {}
  if text ~= "" or #tokens > 0 then delta(self, choice, { content = text }, self.request.top and tokens) end
  if sequence.answer.reason then delta(self, choice, {}, nil, sequence.answer.reason) end
end

local function end_stream(self)
  if self.request.include_usage then chunk(self, {}, reply.usage(self.prompt_tokens, completion_tokens(self))) end
  self:write(reply.event "[DONE]")
  check(C.lc_server_end(self.server.handle, self.number))
  self.server.metrics:answered(200)
  finish(self)
end

--- A sequence has grown, or is over.
---@param choice integer
---@param sequence table
function Job:grown(choice, sequence)
  if not self.first then
    self.first = true
    self.server.metrics:observe("first_token", C.lc_seconds() - self.arrived)
  end
  if self.request.stream then stream(self, choice, sequence) end
  if not sequence.answer.reason then return end
  self.growing = self.growing - 1
  if self.growing > 0 then return end
  if self.request.stream then end_stream(self) else whole(self) end
end

--- Ends with an error: as an answer, or within the stream that has begun.
---@param reason any       a caught error
---@return any
function Job:fail(reason)
  self:leave()
  self.server.jobs[self.number] = nil
  local r = refusal.of(reason)
  if not self.begun then return self.server:refuse(self.number, r) end
  local text = reply.event(json.decode(r:text()))
  check(C.lc_server_write(self.server.handle, self.number, text, #text))
  check(C.lc_server_end(self.server.handle, self.number))
  self.server:broken_off(self, r)
end

return M
