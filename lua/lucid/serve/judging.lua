-- The verdicts of a judge on an answer's sentences, for the page. A judge knows of a picture what is annotated: the page
-- says what its file is called, and the annotated picture of that name has to have the same bytes.
--
-- One judgement runs at a time, in a coroutine: a judge that waits for its endpoint is gone on with between two tokens of
-- the answers that grow (http's idle). One that computes here (local) holds them up meanwhile.
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"
local picture = require "lucid.serve.picture"
local refusal = require "lucid.serve.refusal"
local shr = require "lucid.metric.shr"

local C = native.C
local M = {}
---@class lucid.Judging
local Judging = {}
Judging.__index = Judging

local LONGEST = 20000           -- bytes of a text that is judged

---@class lucid.JudgingOptions
---@field judge table            judge:ask(requests) -> replies
---@field source lucid.MineSource
---@field prompt function|nil    request -> text, for judges that are language models

--- A judge over annotated pictures, which are found by their files' names.
---@param opt lucid.JudgingOptions
---@return lucid.Judging
function M.new(opt)
  local self = setmetatable({ judge = opt.judge, source = opt.source, prompt = opt.prompt, by_name = {}, queue = {} }, Judging)
  for _, id in ipairs(opt.source.ids) do
    local _, _, path = opt.source:size(id)
    local name = path:match "[^/]*$"
    self.by_name[name] = self.by_name[name] or {}
    table.insert(self.by_name[name], { id = id, path = path })
  end
  return self
end

-- What is annotated of a picture; nil: it is none of those.
local function annotated(self, seen, name)
  for _, entry in ipairs(self.by_name[name] or {}) do
    if file.exists(entry.path) and file.hash(entry.path) == seen.key then return self.source:get(entry.id) end
  end
end

local function text_of(body, name)
  local v = body[name]
  if type(v) ~= "string" then refusal.raise(400, name .. ": a text is expected", name) end
  return v
end

--- Reads a request { image = data URL, name = its file's name, text = the answer }; its verdict comes by turn.
---@param number integer
---@param body string
function Judging:add(number, body)
  local ok, request = pcall(json.decode, body, "the body")
  if not ok or not json.is_object(request) then refusal.raise(400, "the body: a JSON object is expected") end
  local text, name = text_of(request, "text"), text_of(request, "name")
  if #text > LONGEST then refusal.raise(400, ("text: %d bytes; %d at most are judged"):format(#text, LONGEST), "text") end
  local record = annotated(self, picture.of(text_of(request, "image"), "image"), name)
  if not record then
    refusal.raise(404, ("the judge knows nothing of '%s': it is not among the annotated pictures"):format(name), "image",
      "unknown_picture")
  end
  record.response = text
  table.insert(self.queue, { number = number, record = record, arrived = C.lc_seconds() })
end

--- Lets a request go: its client has left, or it took too long. What a judge was paid for is still taken.
---@param number integer
function Judging:forget(number)
  for i, one in ipairs(self.queue) do
    if one.number == number then
      one.gone = true
      if i > 1 then table.remove(self.queue, i) end
      return
    end
  end
end

--- Requests that wait for an answer; with a time those that arrived before it.
---@param time number|nil
---@return integer[]
function Judging:waiting(time)
  local list = {}
  for _, one in ipairs(self.queue) do
    if not one.gone and one.arrived < (time or math.huge) then list[#list + 1] = one.number end
  end
  return list
end

local function verdicts(record)
  local list = json.array {}
  for i, s in ipairs(record.sentences) do
    list[i] = { text = s.text, label = shr.LABELS[s.label] and s.label or json.null, reason = s.reason or json.null }
  end
  return json.encode { sentences = list }
end

--- Goes on with the oldest request: its number, and the text of its verdict or a refusal, once it is done.
---@return integer|nil number, string|nil text, table|nil refused
function Judging:turn()
  local one = self.queue[1]
  if not one then return nil end
  one.thread = one.thread or coroutine.create(function() shr.judge({ one.record }, self.judge, { prompt = self.prompt }) end)
  local ok, reason = coroutine.resume(one.thread)
  if ok and coroutine.status(one.thread) ~= "dead" then return nil end
  table.remove(self.queue, 1)
  if one.gone then return nil end
  if ok then return one.number, verdicts(one.record) end
  return one.number, nil, refusal.of(reason)
end

return M
