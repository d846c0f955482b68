-- A judge on this machine: a model of Lucid's own answers. Requests of one kind begin with the same instruction, which
-- is the trunk of their forest: it runs once a batch. Answers are greedy and depend on the request alone; one that
-- cannot be read is drawn anew, from random numbers that are the request's own.
--
--   local judge = lucid.judge["local"] { model = "vicuna-7b", journal = "answers.jsonl" }
local cache = require "lucid.cache"
local completion = require "lucid.completion"
local filehash = require "lucid.filehash"
local inquiry = require "lucid.inquiry"
local journal = require "lucid.journal"
local model = require "lucid.model"
local native = require "lucid.native"
local progress = require "lucid.progress"

local M = {}
local Judge = {}
Judge.__index = Judge

local AGAIN = 0.7             -- temperature of an answer that is drawn anew

---@class lucid.LocalOptions
---@field model string|lucid.Model   a folder, or a model that is open
---@field adapter string|nil         its adapter: a folder, a checkpoint or a run
---@field journal string|nil         where answers are kept; nil: nowhere
---@field retries integer|nil        times that an unreadable answer is asked for again, default 2
---@field batch integer|nil          requests answered together, default 16
---@field device string|nil
---@field dtype string|nil
---@field cache string|nil           folder of what runs share
---@field quiet boolean|nil

--- The judge; its model is opened with the first request.
---@param opt lucid.LocalOptions
---@return table
function M.new(opt)
  if not opt.model then error("judge local: needs model, a model folder (--judge-model)", 0) end
  local m = opt.model
  if type(m) == "string" then m = model(m, { device = opt.device, dtype = opt.dtype, adapter = opt.adapter }) end
  local self = setmetatable({ model = m, batch = opt.batch or 16, retries = opt.retries, quiet = opt.quiet,
    journal = opt.journal and journal.open(opt.journal, opt.quiet) or journal.memory(), counts = {} }, Judge)
  -- A journal's answers are this model's own.
  self.who = opt.journal and { weights = filehash.of_weights(m, cache.folder(opt.cache or "")), adapter = filehash.of_adapter(m),
    config = m.config, dtype = m.dtype, quant = m.quant or "none", version = native.version }
  self.identity = { judge = "local", model = m.dir, adapter = opt.adapter, dtype = m.dtype }
  return self
end

local function most_of(request)
  return completion.body(request, "", {}).max_tokens
end

local function question_of(self, request, attempt)
  local text = request.text or request.question
  return { text = text, key = cache.key { who = self.who, text = text, kind = request.kind, most = most_of(request),
    sample = request.sample or 1, attempt = attempt } }
end

-- The random numbers of an answer that is not greedy: its question's own.
local function seed_of(question) return tonumber(question.key:sub(1, 8), 16) end

local function reply_of(self, ids, answer)
  return { text = answer.text, usage = { prompt_tokens = #ids, completion_tokens = #answer.ids },
    cut = answer.reason == "length" or nil, empty = not answer.text:find("%S") or nil }
end

-- Answers questions of one attempt and length; what is too long is not asked.
local function answer_all(self, questions, opt)
  local records, asked, prompts = {}, {}, {}
  for _, question in ipairs(questions) do
    local ids = self.model.template:tokens(self.model.tokenizer, question.text, { image = false })
    if #ids >= self.model.positions then
      records[#records + 1] = inquiry.record(question, { text = "", too_long = true,
        usage = { prompt_tokens = 0, completion_tokens = 0 } })
    else
      asked[#asked + 1], prompts[#prompts + 1] = question, { ids = ids }
    end
  end
  for i, answer in ipairs(self.model:generate_all(prompts, opt)) do
    records[#records + 1] = inquiry.record(asked[i], reply_of(self, prompts[i].ids, answer))
  end
  return records
end

-- The next questions that can be answered together: first ones with one limit; of others one.
local function gather(self, q)
  local list = { self.ahead or q:next() }
  self.ahead = nil
  local first = list[1]
  if not first then return nil end
  local most = most_of(first.request)
  while first.attempt == 1 and first.request.sample == nil and #list < self.batch do
    local question = q:next()
    if not question then break end
    if question.attempt > 1 or question.request.sample or most_of(question.request) ~= most then
      self.ahead = question
      break
    end
    list[#list + 1] = question
  end
  local greedy = first.attempt == 1 and (first.request.sample or 1) == 1
  return list, { max_new_tokens = most, batch = self.batch, stop = first.request.kind == "judge" and { "###" } or nil,
    temperature = greedy and 0 or AGAIN, seed = greedy and 0 or seed_of(first) }
end

--- Answers requests, in their order.
---@param requests lucid.JudgeRequest[]
---@return table[] replies
function Judge:ask(requests)
  local q = inquiry.new { requests = requests, journal = self.journal, retries = self.retries,
    question = function(request, attempt) return question_of(self, request, attempt) end }
  local bar = progress { total = math.max(1, #requests), from = q.answered, label = "judge", unit = "answers",
    quiet = self.quiet or q:open() == 0 }
  local list, opt = gather(self, q)
  while list do
    local records = answer_all(self, list, opt)
    q:keep(records)
    bar:step(q.answered, { count = #records })
    list, opt = gather(self, q)
  end
  bar:done()
  q:count(self.counts)
  return q.replies
end

--- Lets other processes use the journal.
function Judge:close() self.journal:close() end

return setmetatable(M, { __call = function(_, opt) return M.new(opt) end })
