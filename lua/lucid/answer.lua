-- An answer that grows id by id: its text, what stops it, and which of the text can be told already.
local M = {}

-- ---- stops ---------------------------------------------------------------------------------------

--- The text up to the first stop in it, and whether there is one. from: where to look.
---@param text string
---@param stops string[]
---@param from integer
---@return string, boolean
function M.cut(text, stops, from)
  local first
  for _, stop in ipairs(stops) do
    local at = text:find(stop, math.max(from or 1, 1), true)
    if at and (not first or at < first) then first = at end
  end
  return first and text:sub(1, first - 1) or text, first ~= nil
end

-- How many bytes at the end of a text may be the beginning of a stop.
local function undecided(text, stops)
  local most = 0
  for _, stop in ipairs(stops) do
    for n = math.min(#stop - 1, #text), most + 1, -1 do
      if text:sub(-n) == stop:sub(1, n) then
        most = n
        break
      end
    end
  end
  return most
end

local function longest(stops)
  local most = 0
  for _, stop in ipairs(stops) do most = math.max(most, #stop) end
  return most
end

--- The sequence that the ids end with, or nil.
---@param ids table
---@param sequences table
---@return number[]
function M.ending(ids, sequences)
  for _, sequence in ipairs(sequences) do
    local same = #ids >= #sequence
    for k = 1, same and #sequence or 0 do same = same and ids[#ids - #sequence + k] == sequence[k] end
    if same then return sequence end
  end
end

-- Ids as text; those that the tokenizer has nothing for are none of it.
local function decode(tokenizer, ids)
  local known = {}
  for _, id in ipairs(ids) do
    if tokenizer:has(id) then known[#known + 1] = id end
  end
  return tokenizer:decode(known)
end

local function trim(text) return (text:gsub("^%s+", ""):gsub("%s+$", "")) end

--- A text as lucid.GenerateOptions.clean makes it; ended: it has an end, which how.ended writes behind it.
---@param text string
---@param how table|nil         lucid.GenerateOptions.clean
---@param ended boolean
---@return string
function M.clean(text, how, ended)
  if not how then return text end
  text = ended and how.ended and text .. "</s>" or text
  local at = how.after and text:find(how.after, 1, true)
  while at do
    text = text:sub(at + #how.after)
    at = text:find(how.after, 1, true)
  end
  local set = "[" .. (how.strip or ""):gsub("%W", "%%%0") .. "]+"
  text = trim(text)
  if how.strip then text = text:gsub("^" .. set, ""):gsub(set .. "$", "") end
  return trim(text)
end

--- The text of ids that may end with one of the stop sequences.
---@param tokenizer lucid.Tokenizer|table
---@param ids table
---@param s table
---@return string
function M.text_of(tokenizer, ids, s)
  local sequence = M.ending(ids, s.stop_ids)
  if sequence then ids = { unpack(ids, 1, #ids - #sequence) } end
  return (M.cut(decode(tokenizer, ids), s.stop))
end

--- Whether the text of ids holds a stop.
---@param tokenizer lucid.Tokenizer
---@param ids number[]
---@param s table
---@return boolean
function M.has_stop(tokenizer, ids, s) return select(2, M.cut(decode(tokenizer, ids), s.stop)) end

-- ---- growing -------------------------------------------------------------------------------------

-- Text is made only for whom it matters to: stops, the caller's enough, the caller's on_text.
local Growing = {}
Growing.__index = Growing

--- A new answer.
---@param tokenizer lucid.Tokenizer
---@param most integer                  tokens that it may have; 0: it is over
---@param s lucid.GenerateOptions       complete, with is_end
---@param say function|nil              called with each new piece of its text
---@return table
function M.new(tokenizer, most, s, say)
  local watched = #s.stop > 0 or s.enough or say
  return setmetatable({ ids = {}, logps = {}, score = 0, text = "", said = 0, tokenizer = tokenizer, s = s,
    most = most, say = say, stream = watched and tokenizer:stream(),
    reason = most < 1 and "length" or nil }, Growing)
end

--- Hands on what is new of the text, but for what may turn out to be a stop.
function Growing:tell()
  if not self.say then return end
  local upto = self.reason and #self.text or #self.text - undecided(self.text, self.s.stop)
  if upto > self.said then self.say(self.text:sub(self.said + 1, upto)) end
  self.said = math.max(self.said, upto)
end

local function add_text(self, piece)
  local from = #self.text + 1 - longest(self.s.stop)
  local text, stopped = M.cut(self.text .. piece, self.s.stop, from)
  self.text = text
  return stopped
end

-- Why the answer is over with what has been added, or nil.
local function over(self, stopped)
  if stopped or M.ending(self.ids, self.s.stop_ids) then return "stop" end
  if self.s.enough and self.s.enough(self.text:sub(1, #self.text - undecided(self.text, self.s.stop))) then return "enough" end
  if #self.ids >= self.most then return "length" end
end

--- Adds an id; true when the answer is over.
---@param id integer
---@param logp number
---@return boolean
function Growing:push(id, logp)
  self.score = self.score + logp
  if self.s.is_end[id] then
    self.reason, self.ended_by = "eos", id
  else
    self.ids[#self.ids + 1], self.logps[#self.logps + 1] = id, logp
    local piece = self.stream and self.tokenizer:has(id) and self.stream:push(id)
    self.reason = over(self, piece and add_text(self, piece))
  end
  if self.reason == "eos" or self.reason == "length" then
    if self.stream and add_text(self, self.stream:finish()) then self.reason = "stop" end
  end
  self:tell()
  return self.reason ~= nil
end

--- What has become of it.
---@return lucid.Answer
function Growing:answer()
  local text = self.stream and #self.s.stop_ids == 0 and self.text or M.text_of(self.tokenizer, self.ids, self.s)
  text = M.clean(text, self.s.clean, self.reason == "eos")
  return { text = text, ids = self.ids, logps = self.logps, score = self.score, reason = self.reason,
    ended_by = self.ended_by }
end

return M
