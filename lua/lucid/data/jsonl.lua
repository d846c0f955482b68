-- Conversations in LLaVA's form: records { id, image, conversations = { { from = "human", value =
-- }, { from = "gpt", value = }, ... } } in a JSON array or in JSON lines.
local file = require "lucid.file"
local json = require "lucid.json"

local M = {}

local ASKS = { human = true, user = true }
local ANSWERS = { gpt = true, assistant = true, model = true }

local function question_of(value)
  return (value:gsub("^%s*<image>%s*\n?", ""):gsub("\n?%s*<image>%s*$", ""))
end

local function turns_of(record, path, number)
  local list = record.conversations
  if type(list) ~= "table" then
    error(("%s: record %d has no 'conversations'"):format(path, number), 0)
  end
  local turns, question = {}, nil
  for i, m in ipairs(list) do
    local text = type(m) == "table" and m.value
    if type(text) ~= "string" then
      error(("%s: record %d: message %d has no 'value'"):format(path, number, i), 0)
    end
    if ASKS[m.from] and not question then
      question = question_of(text)
    elseif ANSWERS[m.from] and question then
      turns[#turns + 1] = { question = question, answer = text }
      question = nil
    elseif m.from ~= "system" then
      error(("%s: record %d: message %d is from '%s'; human and gpt take turns"):format(path, number,
        i, tostring(m.from)), 0)
    end
  end
  if #turns == 0 then error(("%s: record %d has no answer"):format(path, number), 0) end
  return turns
end

--- Reads conversations: a list of { id, image (path), turns = { {question, answer}, ... } }.
---@param path string
---@param opt table    images: the folder of the pictures; skip_missing; limit (0: all)
---@return table[] records, integer missing
function M.conversations(path, opt)
  local list, number, missing, known = {}, 0, 0, {}
  local limit = (opt.limit or 0) > 0 and opt.limit or math.huge
  for record in json.each(path) do
    if #list >= limit then break end
    number = number + 1
    if type(record) ~= "table" then error(("%s: record %d is no object"):format(path, number), 0) end
    local image = record.image
    if image == json.null then image = nil end
    if image then
      if type(image) ~= "string" then
        error(("%s: record %d has an 'image' that is no text"):format(path, number), 0)
      end
      if (opt.images or "") ~= "" then image = opt.images .. "/" .. image end
      if known[image] == nil then known[image] = file.exists(image) end
    end
    if image and not known[image] then
      if not opt.skip_missing then
        error(("%s: record %d (id %s): there is no picture %s. Get it, or pass --skip-missing"):format(
          path, number, tostring(record.id), image), 0)
      end
      missing = missing + 1
    else
      local id = record.id
      if id == nil or id == json.null then id = number end
      list[#list + 1] = { id = tostring(id), image = image, turns = turns_of(record, path, number) }
    end
  end
  if #list == 0 then
    error(("%s: there are no conversations in it%s"):format(path,
      missing > 0 and (" but %d whose picture is missing"):format(missing) or ""), 0)
  end
  return list, missing
end

--- One conversation record of one question.
function M.conversation(id, image, question, answer)
  return { id = id, image = image, conversations = {
    { from = "human", value = "<image>\n" .. question },
    { from = "gpt", value = answer },
  } }
end

return M
