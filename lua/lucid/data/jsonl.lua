-- Conversations in LLaVA's form: records { id, image, conversations = { { from = "human", value =
-- }, { from = "gpt", value = }, ... } } in a JSON array or in JSON lines.
local file = require "lucid.file"
local json = require "lucid.json"
local record = require "lucid.data.record"

local M = {}

local ASKS = { human = true, user = true }
local ANSWERS = { gpt = true, assistant = true, model = true }

local function question_of(value)
  return (value:gsub("^%s*<image>%s*\n?", ""):gsub("\n?%s*<image>%s*$", ""))
end

local function turns_of(r)
  local turns, question = {}, nil
  for i, m in r:parts("conversations", "message") do
    local from, text = m:text("from"), m:text("value")
    if ASKS[from] and not question then
      question = question_of(text)
    elseif ANSWERS[from] and question then
      turns[#turns + 1] = { question = question, answer = text }
      question = nil
    elseif from ~= "system" or i > 1 then
      m:fail(" is from '%s'; human and gpt take turns", from)
    end
  end
  if question then r:wrong("conversations", "end with a question") end
  if #turns == 0 then r:wrong("conversations", "hold no answer") end
  return turns
end

local SHOWN = { string = tostring, number = json.encode, cdata = json.encode }      -- tostring keeps 14 digits

-- Any text or number; where there is none, the record's number.
local function id_of(r)
  local id = r:find("id")
  if id == nil then return tostring(r.number) end
  return (SHOWN[type(id)] or r:wrong("id", "is neither a text nor a number"))(id)
end

-- The path of a record's picture, nil where it has none, and whether there is such a file.
local function picture(r, opt, known)
  local image = r:find("image") and r:picture("image")
  if not image then return nil, true end
  if (opt.images or "") ~= "" then image = opt.images .. "/" .. image end
  if known[image] == nil then known[image] = file.exists(image) end
  if not known[image] and not opt.skip_missing then
    r:fail(" (id %s): there is no picture %s. Get it, or pass --skip-missing", id_of(r), image)
  end
  return image, known[image]
end

--- Reads conversations: a list of { id, image (path), turns = { {question, answer}, ... } }.
---@param path string
---@param opt table    images: the folder of the pictures; skip_missing; limit (0: all)
---@return table[] records, integer missing
function M.conversations(path, opt)
  local list, number, missing, known = {}, 0, 0, {}
  local limit = (opt.limit or 0) > 0 and opt.limit or math.huge
  for value in json.each(path) do
    if #list >= limit then break end
    number = number + 1
    local r = record.of(value, path, number)
    local image, there = picture(r, opt, known)
    if there then
      list[#list + 1] = { id = id_of(r), image = image, turns = turns_of(r) }
    else
      missing = missing + 1
    end
  end
  if #list == 0 then
    error(("%s: there are no conversations in it%s"):format(path,
      missing > 0 and (" but %d whose picture is missing"):format(missing) or ""), 0)
  end
  return list, missing
end

--- One conversation record of one question.
---@param id string
---@param image string
---@param question string
---@param answer string
---@return table
function M.conversation(id, image, question, answer)
  return { id = id, image = image, conversations = {
    { from = "human", value = "<image>\n" .. question },
    { from = "gpt", value = answer },
  } }
end

return M
