-- Prompt templates: how a question about a picture becomes token ids. A template is a table
--
--   { text = "USER: <image>\n{q} ASSISTANT:",   -- a first question; training may have its own: train_text
--     next = "USER: {q} ASSISTANT:" }           -- a further question, after the answer's end token
--
-- Ids: the text is cut at <image>; each side is encoded by itself, the left one with BOS, and IMAGE
-- (-200) stands between them. An answer is encoded by itself, too, and ends with EOS.
local forest = require "lucid.forest"

local M = {}
local Template = {}
Template.__index = Template

local function system(person)
  return ("A chat between a curious %s and an artificial intelligence assistant. The assistant gives "
    .. "helpful, detailed, and polite answers to the %s's questions."):format(person, person)
end

local TEMPLATES = {
  tiny_v1 = {
    text = "USER: <image>\n{q} ASSISTANT:",
    next = "USER: {q} ASSISTANT:",
  },
  -- LLaVA-1.5: it is trained as a "user" and evaluated as a "human".
  llava_v1 = {
    text = system("human") .. " USER: <image>\n{q} ASSISTANT:",
    train_text = system("user") .. " USER: <image>\n{q} ASSISTANT:",
    next = "USER: {q} ASSISTANT:",
  },
}

--- A template by name, or from a .lua file that returns one.
---@param name string
function M.template(name)
  local t = TEMPLATES[name]
  if not t and name:find("%.lua$") then
    local chunk, reason = loadfile(name)
    if not chunk then error("template " .. reason, 2) end
    t = chunk()
    if type(t) ~= "table" or type(t.text) ~= "string" then
      error(("template %s: the file does not return { text = ... }"):format(name), 2)
    end
  end
  if not t then
    error(("there is no template '%s'; llava_v1 and tiny_v1 are known, or a .lua file that returns "
      .. "{ text = ... }"):format(name), 2)
  end
  for _, key in ipairs { "text", "train_text" } do
    local text = t[key]
    if text and not (text:find("{q}", 1, true) and text:find("<image>", 1, true)) then
      error(("template '%s': its %s needs <image> and {q}"):format(name, key), 2)
    end
  end
  return setmetatable({ name = name, text = t.text, train_text = t.train_text or t.text, next = t.next },
    Template)
end

local function fill(text, question)
  return (text:gsub("{q}", function() return question end))
end

local function append(ids, more)
  for i = 1, #more do ids[#ids + 1] = more[i] end
  return ids
end

--- The ids of a first question, up to where the answer begins.
---@param tokenizer table
---@param question string
---@param opt table|nil    train: the training form; image = false: no picture
---@return integer[]
function Template:tokens(tokenizer, question, opt)
  local text = opt and opt.train and self.train_text or self.text
  if opt and opt.image == false then
    return tokenizer:encode(fill(text:gsub("<image>\n?", ""), question), { bos = true })
  end
  local left, right = text:match("^(.-)<image>(.*)$")
  local ids = tokenizer:encode(fill(left, question), { bos = true })
  ids[#ids + 1] = forest.IMAGE
  return append(ids, tokenizer:encode(fill(right, question)))
end

--- The ids of a further question after history, the ids of all before it with its end token.
function Template:continue(tokenizer, history, question)
  if not self.next then error(("template '%s' has no form for further questions"):format(self.name), 2) end
  return append(append({}, history), tokenizer:encode(fill(self.next, question)))
end

--- The ids of an answer, with its end token.
function Template.answer(_, tokenizer, answer)
  local ids = tokenizer:encode(answer)
  ids[#ids + 1] = tokenizer.eos
  return ids
end

return M
