-- Answers as OpenAI's clients read them: completion objects, the chunks of a stream, log-probabilities.
local json = require "lucid.json"

local M = {}

local SPACE = "\226\150\129"    -- U+2581, a space in a piece
local REASONS = { eos = "stop", stop = "stop", length = "length" }

-- A token's text and its bytes; what is no text alone is written as \xNN.
local function token(tokenizer, id)
  local piece = tokenizer:piece(id) or ""
  local hex = piece:match "^<0x(%x%x)>$"
  local bytes = hex and string.char(tonumber(hex, 16)) or piece:gsub(SPACE, " ")
  local text = hex and bytes:byte() > 127 and "\\x" .. hex:lower() or bytes
  return text, json.array { bytes:byte(1, -1) }
end

local LEAST = -9999             -- JSON has no infinity

local function scored(tokenizer, entry)
  local text, bytes = token(tokenizer, entry.id)
  return { token = text, bytes = bytes, logprob = math.max(entry.logp, LEAST) }
end

--- The log-probabilities of tokens { id, logp, top }; null for nil.
---@param tokenizer lucid.Tokenizer
---@param tokens table[]
---@return table
function M.logprobs(tokenizer, tokens)
  if not tokens then return json.null end
  local content = json.array {}
  for i, entry in ipairs(tokens) do
    content[i] = scored(tokenizer, entry)
    content[i].top_logprobs = json.array {}
    for k, other in ipairs(entry.top) do content[i].top_logprobs[k] = scored(tokenizer, other) end
  end
  return { content = content, refusal = json.null }
end

--- finish_reason of what ended an answer; null while it grows.
---@param reason string|nil
---@return any
function M.reason(reason) return reason and REASONS[reason] or json.null end

--- What a request cost.
---@param prompt integer
---@param completion integer
---@return table
function M.usage(prompt, completion)
  return { prompt_tokens = prompt, completion_tokens = completion, total_tokens = prompt + completion }
end

--- A completion object, or a chunk's frame: { id, created, model } of a job, with its choices.
---@param job table
---@param object string
---@param choices table[]
---@param usage table|nil
---@return table
function M.completion(job, object, choices, usage)
  return { id = job.id, object = object, created = job.created, model = job.model, choices = json.array(choices),
    system_fingerprint = json.null, usage = usage }
end

--- One event of a stream.
---@param value table|string     an object, or "[DONE]"
---@return string
function M.event(value)
  return ("data: %s\n\n"):format(type(value) == "string" and value or json.encode(value))
end

return M
