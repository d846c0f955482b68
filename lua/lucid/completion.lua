-- Chat completions, the form in which OpenAI's API and those compatible with it are asked: the body of a request, and
-- what an answer says. Settings of the kind "judge" are those that HA-DPO published for SHR.
local json = require "lucid.json"

local M = {}

-- ---- bodies ----------------------------------------------------------------------------------------------

local SETTINGS = {
  judge = { temperature = 0.7, max_tokens = 800, top_p = 1, n = 1, stop = "###", logit_bias = { ["50256"] = -100 },
    presence_penalty = 0, frequency_penalty = 0 },
  correct = { temperature = 0, max_tokens = 1500 },
  rewrite = { temperature = 0.7, max_tokens = 1500 },
  questions = { temperature = 0, max_tokens = 1500 },
  ask = { temperature = 0, max_tokens = 300 },
}

--- What is posted for a request.
---@param request lucid.JudgeRequest
---@param model string
---@param parameters table      fields in place of the kind's; json.null takes one out
---@return table
function M.body(request, model, parameters)
  local body = { model = model, messages = { { role = "user", content = request.text or request.question } } }
  for name, value in pairs(SETTINGS[request.kind] or SETTINGS.ask) do body[name] = value end
  for name, value in pairs(parameters) do
    if value == json.null then body[name] = nil else body[name] = value end
  end
  return body
end

local UNKNOWN = 4096           -- tokens of an answer that nothing bounds
local BYTES = 3                -- of a token, at least

--- Most tokens of a request's text and of its answer: { prompt, completion }. A token has about four bytes in English,
--- three are counted.
---@param body string
---@return table
function M.estimate(body)
  local most = body:match('"max_tokens":(%d+)') or body:match('"max_completion_tokens":(%d+)')
  return { prompt = math.ceil(#body / BYTES), completion = tonumber(most) or UNKNOWN }
end

-- ---- answers ---------------------------------------------------------------------------------------------

local function field(t, name)
  local value = type(t) == "table" and t[name]
  if value ~= json.null then return value or nil end
end

local function text_of(value) return type(value) == "string" and value or nil end

-- The most tokens that a text has where nobody counted them.
local function tokens_of(text) return math.ceil(#text / BYTES) end

-- What an answer cost. An endpoint that does not say is taken to have counted the most, so that a budget holds.
local function usage_of(body, asked, text)
  local usage, estimated = field(body, "usage"), nil
  local function count(name, most)
    local n = field(usage, name)
    if type(n) == "number" and n >= 0 and n < 2 ^ 53 then return n end
    estimated = true
    return most
  end
  return { prompt_tokens = count("prompt_tokens", tokens_of(asked)), completion_tokens = count("completion_tokens", tokens_of(text)),
    estimated = estimated }
end

-- The text of a content: itself, or that of its parts; nil: it is something else.
local function content_of(value)
  if type(value) ~= "table" then return text_of(value) end
  local list = {}
  for i, part in ipairs(value) do
    list[i] = text_of(field(part, "text"))
    if not list[i] then return nil end
  end
  return #list > 0 and table.concat(list) or nil
end

local LONGEST = 300           -- bytes of what a provider says of an error

local function one_line(text)
  text = text:gsub("[%s%c]+", " "):gsub("^ ", ""):gsub(" $", "")
  return #text > LONGEST and text:sub(1, LONGEST):gsub("[\192-\255]?[\128-\191]*$", "") .. "..." or text
end

-- What a body says of an error: code, message.
local function error_in(body)
  local fault = field(body, "error")
  local message = text_of(field(fault, "message")) or text_of(fault) or text_of(field(body, "message"))
  return text_of(field(fault, "code")) or text_of(field(fault, "type")) or "", one_line(message or "")
end

-- The same of an answer; what is no JSON is a page, which is read without its tags.
local function error_of(text)
  local ok, body = pcall(json.decode, text)
  if ok then return error_in(body) end
  return "", one_line((text:gsub("<[^>]*>", " ")))
end

local function said(status, message) return ("HTTP %d%s%s"):format(status, message ~= "" and ": " or "", message) end

--- The reply that an answer's body holds: { text, usage, model, refused, empty, cut }; or nil and what is wrong.
---@param body any           decoded
---@param asked string       the body that was posted
---@return table|nil, string
function M.reply(body, asked)
  local choices = field(body, "choices")
  local choice = field(choices, 1)
  local message = field(choice, "message")
  if type(message) ~= "table" then
    local _, what = error_in(body)
    return nil, what ~= "" and "in place of an answer: " .. what or "the answer has no message"
  end
  local finish, refusal = text_of(field(choice, "finish_reason")), text_of(field(message, "refusal"))
  local content = field(message, "content")
  if content then content = content_of(content) or false end
  if content == false then return nil, "the answer's content is no text" end
  local filtered = finish == "content_filter"
  local text = content or refusal or ""
  return { text = text, usage = usage_of(body, asked, text), model = text_of(field(body, "model")),
    refused = (refusal or filtered) and true or nil, cut = finish == "length" or nil,
    empty = not text:find("%S") and not filtered or nil }
end

-- Providers word it differently, and some have no code for it.
local TOO_LONG = { "maximum context length", "reduce the length", "reduce your prompt", "context length" }
local FILTERED = { content_filter = true, content_policy_violation = true }

local function is_too_long(code, message)
  if code == "context_length_exceeded" then return true end
  for _, words in ipairs(TOO_LONG) do
    if message:lower():find(words, 1, true) then return true end
  end
end

local LEAST = 64               -- tokens of an answer, below which a prompt counts as too long

-- As published: where prompt and answer do not fit together, the answer gets a fifth less room, at once.
local function shrink(job)
  local most = tonumber(job.body:match('"max_tokens":(%d+)'))
  local fewer = most and math.floor(0.8 * most)
  if not fewer or fewer < LEAST then return false end
  job.body = job.body:gsub('"max_tokens":%d+', '"max_tokens":' .. fewer, 1)
  return true
end

local function unasked(what) return { text = "", usage = { prompt_tokens = 0, completion_tokens = 0 }, [what] = true } end

local HINT = { [401] = "; is the key right (OPENAI_API_KEY, --api-key-file)?", [403] = "; may this key use the model?",
  [404] = "; are --base-url and --judge-model right?" }

local function refusal(job, answer)
  local code, message = error_of(answer.body)
  if answer.status == 400 or answer.status == 413 then
    if FILTERED[code] then return unasked("refused") end
    if answer.status == 413 or is_too_long(code, message) then
      if shrink(job) then return nil, "now" end
      return unasked("too_long")
    end
  end
  return false, said(answer.status, message) .. (HINT[answer.status] or "")
end

--- What lucid.http makes of an answer: the reply; nil and a fault; or false and why nothing more is to be sent.
---@param job table
---@param answer table     status, body
---@return boolean|table|nil, string
function M.read(job, answer)
  if answer.status < 200 or answer.status > 299 then return refusal(job, answer) end
  local ok, body = pcall(json.decode, answer.body)
  if not ok then return nil, "the answer is no JSON" end
  return M.reply(body, job.body)
end

--- Why an answer that is usually tried again is not worth it: the account has nothing left.
---@param answer table
---@return string
function M.lasting(answer)
  local code, message = error_of(answer.body)
  if code == "insufficient_quota" then return said(answer.status, message) end
end

--- The reply that stands in a batch's output for a status and a body, or nil.
---@param status number
---@param body any         decoded
---@return table|nil
function M.batched(status, body)
  if status >= 200 and status <= 299 then return (M.reply(body, "")) end
  local reply = refusal({ body = "" }, { status = status, body = json.encode(body) })
  return reply or nil
end

return M
