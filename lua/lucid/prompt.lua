-- Prompts: a template (lucid.template) and a question become token ids.
--
--   local t = prompt.template "llava_v1"                 a name, or a .lua file that returns a template
--   local ids = t:tokens(tokenizer, "Is there a cat?")   up to where the answer begins
--   local c = t:conversation(tokenizer, turns)           ids and where the answers stand in them
--
-- Nothing is looked for in ids: where a picture, a question and an answer are follows from how they are put
-- together. IMAGE (-200) stands for the picture's rows. Questions and answers are text, also where they hold
-- "<image>" or "</s>".
local forest = require "lucid.forest"
local keys = require "lucid.keys"
local templates = require "lucid.template"

local M = {}

---@class lucid.Template
---@field name string
---@field form table            its entry in lucid.template
local Template = {}
Template.__index = Template

-- ---- templates ---------------------------------------------------------------------------------

local FIELDS = {
  text = "string", train_text = "string", alone = "string", next = "string", answer = "string", bos = "string",
  ended = "boolean", question_max = "number", answer_max = "number", model = "string",
}
local NEEDS = {                 -- what a field's text has to hold
  text = { "<image>", "{q}" }, train_text = { "<image>", "{q}" }, alone = { "{q}" }, next = { "{q}" }, answer = { "{a}" },
}

--- The names of the templates that come along, sorted.
---@return string[]
function M.names() return keys(templates) end

--- The name of the template that a kind of model ("llava") has by default, or nil.
---@param kind string
---@return string
function M.default(kind)
  for _, name in ipairs(M.names()) do
    if templates[name].model == kind then return name end
  end
end

-- What is wrong with a template, or nil.
local function fault(t)
  for field, value in pairs(t) do
    if type(value) ~= FIELDS[field] then
      return FIELDS[field] and ("its %s should be a %s"):format(field, FIELDS[field])
        or ("'%s' is no field of a template"):format(tostring(field))
    end
  end
  if t.bos and t.bos ~= "<s>" and t.bos ~= "</s>" then return "its bos should be <s> or </s>" end
  for field, needed in pairs(NEEDS) do
    for _, mark in ipairs(needed) do
      if t[field] and not t[field]:find(mark, 1, true) then
        return ("its %s needs %s"):format(field, table.concat(needed, " and "))
      end
    end
  end
end

local function unknown(name)
  return ("there is no template '%s'; %s are known, or a .lua file that returns { text = ... }"):format(name,
    table.concat(M.names(), ", "))
end

--- A check of recipes' options (lucid.args): raises what is wrong with a name; a file is not looked into.
---@param name string
function M.check(name)
  if name ~= "" and not templates[name] and not name:find("%.lua$") then error(unknown(name), 0) end
end

--- A template by name, or from a .lua file that returns one.
---@param name string
---@return lucid.Template
function M.template(name)
  if type(name) ~= "string" then error(("template: a name is expected, not a %s"):format(type(name)), 0) end
  local t = templates[name]
  if not t and name:find("%.lua$") then
    local chunk, reason = loadfile(name)
    if not chunk then error("template " .. reason, 2) end
    t = chunk()
  end
  if type(t) ~= "table" or type(t.text) ~= "string" then
    error(unknown(name), 2)
  end
  local wrong = fault(t)
  if wrong then error(("template '%s': %s"):format(name, wrong), 2) end
  return setmetatable({ name = name, form = t }, Template)
end

-- ---- texts to ids ------------------------------------------------------------------------------

local MARKS = { "<image>", "<s>", "</s>", "{bos}" }

-- A template's text cut at its marks: "A", "<image>", "B". Every other one is a mark.
local function split(text)
  local parts, at = {}, 1
  while true do
    local first, last
    for _, mark in ipairs(MARKS) do
      local a, b = text:find(mark, at, true)
      if a and (not first or a < first) then first, last = a, b end
    end
    parts[#parts + 1] = text:sub(at, (first or 0) - 1)
    if not first then return parts end
    parts[#parts + 1] = text:sub(first, last)
    at = last + 1
  end
end

local function fill(text, place, value)
  local first, last = text:find(place, 1, true)
  return first and text:sub(1, first - 1) .. value .. text:sub(last + 1) or text
end

local function append(ids, more)
  for i = 1, #more do ids[#ids + 1] = more[i] end
  return ids
end

local function id_of(tokenizer, mark)
  local id
  if mark == "<s>" then id = tokenizer.bos else id = tokenizer.eos end
  return id or error(("the tokenizer has no %s, which the template needs"):format(mark), 0)
end

-- The last n ids; all when n is nil.
local function keep_end(ids, n)
  if not n or #ids <= n then return ids end
  return { unpack(ids, #ids - n + 1) }
end

-- The ids of a template's text with the question in it. behind: it goes on after a special id.
local function encode(self, tokenizer, text, question, behind)
  local ids = {}
  for i, part in ipairs(split(text)) do
    if i % 2 == 1 then
      local more = tokenizer:encode(fill(part, "{q}", question), { inside = behind })
      append(ids, part:find("{q}", 1, true) and keep_end(more, self.form.question_max) or more)
    elseif part == "<image>" then
      ids[#ids + 1], behind = forest.IMAGE, false
    elseif part == "{bos}" then
      ids[#ids + 1], behind = id_of(tokenizer, self.form.bos or "<s>"), false
    else
      ids[#ids + 1], behind = id_of(tokenizer, part), true
    end
  end
  return ids
end

local function first_text(self, opt)
  local text = opt and opt.train and self.form.train_text or self.form.text
  if opt and opt.image == false then text = self.form.alone or text:gsub("<image>\n?", "") end
  return text:find("{bos}", 1, true) and text or "{bos}" .. text
end

--- The ids of a first question, up to where the answer begins.
---@param tokenizer lucid.Tokenizer
---@param question string
---@param opt table|nil    train: the training form; image = false: no picture
---@return integer[]
function Template:tokens(tokenizer, question, opt)
  return encode(self, tokenizer, first_text(self, opt), question, false)
end

-- A further question goes behind ids.
local function go_on(self, tokenizer, ids, question)
  if not self.form.next then error(("template '%s' has no form for further questions"):format(self.name), 3) end
  if self.form.ended == false then ids[#ids] = nil end
  return append(ids, encode(self, tokenizer, self.form.next, question, true))
end

--- The ids of a further question after history, the ids of all before it with its end token.
---@param tokenizer lucid.Tokenizer
---@param history number[]
---@param question string
---@return integer[]
function Template:continue(tokenizer, history, question)
  return (go_on(self, tokenizer, append({}, history), question))
end

--- The ids of an answer, with its end token unless answer_max cuts it off.
---@param tokenizer lucid.Tokenizer
---@param answer string
---@return integer[]
function Template:answer(tokenizer, answer)
  local ids = tokenizer:encode(fill(self.form.answer or "{a}", "{a}", answer))
  ids[#ids + 1] = tokenizer.eos
  for i = #ids, (self.form.answer_max or #ids) + 1, -1 do ids[i] = nil end
  return ids
end

---@class lucid.Conversation
---@field ids integer[]
---@field spans integer[][]     first and last place of each answer with its end token: the labels
---@field image integer|nil     the picture's place

--- A conversation: turns are { question =, answer = }; the last may have no answer yet.
---@param tokenizer lucid.Tokenizer
---@param turns table[]
---@param opt table|nil    as of tokens
---@return lucid.Conversation
function Template:conversation(tokenizer, turns, opt)
  local c = { ids = {}, spans = {} }
  for i, turn in ipairs(turns) do
    c.ids = i == 1 and self:tokens(tokenizer, turn.question, opt) or go_on(self, tokenizer, c.ids, turn.question)
    if i > 1 and self.form.ended == false then c.spans[i - 1][2] = c.spans[i - 1][2] - 1 end
    if turn.answer then
      local first = #c.ids + 1
      append(c.ids, self:answer(tokenizer, turn.answer))
      c.spans[i] = { first, #c.ids }
    end
  end
  for i, id in ipairs(c.ids) do
    if id == forest.IMAGE then c.image = i end
  end
  return c
end

return M
