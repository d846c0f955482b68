-- A conversation about a picture, or about none. What has run once is kept: a further question runs alone.
--
--   local c = lucid.chat(model, { temperature = 0.2 })
--   c:show "cat.jpg"
--   print(c:ask "What is this?")
--   c:ask("What colour is it?", io.write)        -- the text as it grows
local generate = require "lucid.generate"

local M = {}

---@class lucid.Chat
---@field model table
---@field path lucid.Path
---@field image any              the picture that the conversation is about
---@field history integer[]|nil  the ids so far, the last answer's end included; nil: nothing has been said
local Chat = {}
Chat.__index = Chat

--- Begins a conversation.
---@param model table
---@param opt lucid.GenerateOptions|nil
---@return lucid.Chat
function M.new(model, opt)
  return setmetatable({ model = model, path = generate.path(model, opt) }, Chat)
end

--- Forgets what was said.
function Chat:reset() self.history = nil end

--- Begins anew with another picture, which is read here.
---@param image any      a path, or nil: none
function Chat:show(image)
  if image then self.model:features(image) end
  self.image, self.history = image, nil
end

-- An answer that was cut short goes into the history as its text.
local function said(self, answer)
  local template, tokenizer = self.model.template, self.model.tokenizer
  if answer.reason == "stop" then return template:answer(tokenizer, answer.text) end
  local ids = { unpack(answer.ids) }
  ids[#ids + 1] = answer.ended_by or tokenizer.eos
  return ids
end

--- Asks a question: the answer's text and details. A template without further questions takes each as the first.
---@param question string
---@param say function|nil     called with each new piece of the text
---@return string, lucid.Answer
function Chat:ask(question, say)
  local m = self.model
  if not m.template.form.next then self.history = nil end
  local ids
  if self.history then
    ids = m.template:continue(m.tokenizer, self.history, question)
  else
    ids = m.template:tokens(m.tokenizer, question, { image = self.image ~= nil })
    self.seen = m:picture(self.image, question)
  end
  local answer = self.path:answer(ids, self.seen, say)
  for _, id in ipairs(said(self, answer)) do ids[#ids + 1] = id end
  self.history = ids
  return answer.text, answer
end

return setmetatable(M, { __call = function(_, ...) return M.new(...) end })
