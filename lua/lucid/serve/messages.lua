-- A request's messages as a conversation: turns of question and answer, and one picture in the first.
--
-- Templates have a system sentence of their own, as their models were trained with; what a request says as system
-- stands in front of the first question. Messages of one role that follow one another are one.
local json = require "lucid.json"
local picture = require "lucid.serve.picture"
local refusal = require "lucid.serve.refusal"

local M = {}

-- The text of a message's content; pictures go to add.
local function text_of(content, param, add)
  if type(content) == "string" then return content end
  if not json.is_list(content) then refusal.raise(400, "a message's content is a text or a list of parts", param) end
  local texts = {}
  for i, part in ipairs(content) do
    local where = ("%s[%d]"):format(param, i - 1)
    local kind = json.is_object(part) and part.type
    if kind == "text" and type(part.text) == "string" then
      texts[#texts + 1] = part.text
    elseif kind == "image_url" and add then
      local url = part.image_url
      if json.is_object(url) then url = url.url end
      if type(url) ~= "string" then refusal.raise(400, "image_url: { \"url\": \"data:...\" } is expected", where) end
      add(picture.of(url, where))
    else
      refusal.raise(400, kind == "image_url" and "a picture stands in a message of the user"
        or "a part is { \"type\": \"text\", \"text\": ... } or { \"type\": \"image_url\", ... }", where)
    end
  end
  return table.concat(texts, "\n")
end

---@class lucid.ServedConversation
---@field turns table[]                      { question, answer }; the last has no answer
---@field picture lucid.ServedPicture|nil

--- Reads the messages.
---@param messages any
---@return lucid.ServedConversation
function M.read(messages)
  if not json.is_list(messages) or #messages == 0 then
    refusal.raise(400, "messages: a list of messages is expected", "messages")
  end
  local turns, system, seen, last = {}, {}, nil, nil
  local function add_picture(where)
    return function(p)
      if seen then refusal.raise(400, "messages: this model sees one picture a conversation", where) end
      if #turns > 1 then
        refusal.raise(400, "messages: the picture belongs into the first message of the user", where)
      end
      seen = p
    end
  end
  local roles = {
    system = function(text) system[#system + 1] = text end,
    user = function(text) table.insert(turns[#turns].question, text) end,
    assistant = function(text) table.insert(turns[#turns].answer, text) end,
  }
  roles.developer = roles.system
  for i, message in ipairs(messages) do
    local where = ("messages[%d]"):format(i - 1)
    local role = json.is_object(message) and message.role
    if not roles[role] then refusal.raise(400, where .. ": its role has to be system, user or assistant", where .. ".role") end
    if role == "assistant" and not last then
      refusal.raise(400, "messages: the first message has to be the user's", where .. ".role")
    end
    if role == "user" and last ~= "user" then turns[#turns + 1] = { question = {}, answer = {} } end
    roles[role](text_of(message.content, where .. ".content", role == "user" and add_picture(where .. ".content")))
    if role == "user" or role == "assistant" then last = role end
  end
  if last ~= "user" then refusal.raise(400, "messages: the last message has to be the user's", "messages") end
  for i, turn in ipairs(turns) do
    turns[i] = { question = table.concat(turn.question, "\n"), answer = turn.answer[1] and table.concat(turn.answer, "\n") }
  end
  if #system > 0 then turns[1].question = table.concat(system, "\n") .. "\n" .. turns[1].question end
  return { turns = turns, picture = seen }
end

return M
