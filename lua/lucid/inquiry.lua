-- Requests on their way to replies, through a journal of answers. Each request asks one question after another until
-- its answer is accepted; a question that several requests have is asked once, and one that the journal answers never.
-- Replies depend on the answers alone, not on when they came.
--
--   local q = inquiry.new { requests =, journal =, retries = 2, question = function(request, attempt) return { key = ... } end }
--   for question in q.next, q do ... end     q:keep { { key =, reply = } }     q.replies
local M = {}
local Inquiry = {}
Inquiry.__index = Inquiry

local function reply_of(record, attempt)
  local reply = {}
  for name, value in pairs(record.reply) do reply[name] = value end
  reply.attempts = attempt
  return reply
end

-- Follows a request through the answers that are kept: to its reply, or to the question that is to be asked next.
local function follow(self, i)
  local request = self.requests[i]
  local retries = request.accept and (request.retries or self.retries) or 0
  for attempt = self.attempt[i], retries + 1 do
    self.attempt[i] = attempt
    local question = self.question(request, attempt)
    local record = self.journal:get(question.key)
    if not record then
      local waiting = self.waiting[question.key]
      if waiting then
        waiting[#waiting + 1] = i
        return
      end
      self.waiting[question.key] = { i }
      question.request, question.attempt = request, attempt
      self.queue[#self.queue + 1] = question
      return
    end
    local reply = reply_of(record, attempt)
    local readable = not request.accept or request.accept(reply.text)
    if not readable then reply.accepted = false end
    -- What is refused or too long is so again.
    if readable or reply.refused or reply.too_long or attempt > retries then
      self.replies[i] = reply
      self.answered = self.answered + 1
      return
    end
  end
end

--- Requests that are followed until each has its reply.
---@param opt table    requests, journal, question: function(request, attempt) -> { key = }; retries: of an answer that
---   request.accept does not take
---@return table
function M.new(opt)
  local self = setmetatable({ requests = opt.requests, journal = opt.journal, question = opt.question,
    retries = opt.retries or 2, replies = {}, answered = 0, attempt = {}, waiting = {}, queue = {}, asked = 0 }, Inquiry)
  for i, request in ipairs(opt.requests) do
    if not (request.text or request.question) then
      error(("judge: request %d (%s) has no text; a prompt writes it"):format(i, tostring(request.kind)), 3)
    end
    self.attempt[i] = 1
    follow(self, i)
  end
  return self
end

--- The question whose turn it is: { key, request, attempt, ... }; nil: none is open that was not handed out.
---@return table|nil
function Inquiry:next()
  local question = self.queue[self.asked + 1]
  if question then self.asked = self.asked + 1 end
  return question
end

--- How many questions were not handed out yet.
---@return integer
function Inquiry:open() return #self.queue - self.asked end

--- The journal's line for a question's answer.
---@param question table
---@param reply table
---@return table
function M.record(question, reply)
  local request = question.request
  return { key = question.key, kind = request.kind, image_id = request.image_id, sample = request.sample,
    attempt = question.attempt > 1 and question.attempt or nil, reply = reply }
end

--- Keeps answers in the journal; then every request that waited for one goes on.
---@param records table[]     of M.record
function Inquiry:keep(records)
  self.journal:add(records)
  for _, record in ipairs(records) do
    local waiting = self.waiting[record.key]
    self.waiting[record.key] = nil
    for _, i in ipairs(waiting) do follow(self, i) end
  end
end

--- Adds what the replies are like to a judge's counts.
---@param counts table
function Inquiry:count(counts)
  local function add(name) counts[name] = (counts[name] or 0) + 1 end
  for _, reply in ipairs(self.replies) do
    add "requests"
    for _, what in ipairs { "refused", "empty", "too_long", "cut" } do
      if reply[what] then add(what) end
    end
    if reply.accepted == false then add "unreadable" end
    if reply.attempts > 1 then add "asked_again" end
  end
end

return M
