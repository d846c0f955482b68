-- The body of a chat completion: its fields, checked, as the settings that answers grow by.
local json = require "lucid.json"
local messages = require "lucid.serve.messages"
local options = require "lucid.options"
local refusal = require "lucid.serve.refusal"

local M = {}

-- Fields that change nothing here, and those that would and are not built in.
local WITHOUT_EFFECT = "user store metadata service_tier safety_identifier prompt_cache_key parallel_tool_calls"
local MISSING = "tools tool_choice functions function_call logit_bias audio modalities prediction web_search_options"
local KNOWN = options("model messages stream stream_options max_tokens max_completion_tokens temperature top_p top_k "
  .. "stop seed n logprobs top_logprobs frequency_penalty presence_penalty response_format "
  .. WITHOUT_EFFECT .. " " .. MISSING)
local UNSUPPORTED = options(MISSING).known

-- A field's value; nil where it is null or absent.
local function given(body, name)
  local v = body[name]
  if v == json.null then return nil end
  return v
end

local function flag(body, name)
  local v = given(body, name)
  if v ~= nil and type(v) ~= "boolean" then refusal.raise(400, name .. ": true or false is expected", name) end
  return v or false
end

local function number(body, name, least, most, whole)
  local v = given(body, name)
  if v == nil then return nil end
  if type(v) ~= "number" or v ~= v or v < least or v > most or whole and v % 1 ~= 0 then
    refusal.raise(400, ("%s: %s from %g to %.17g is expected"):format(name, whole and "a whole number" or "a number",
      least, most), name)
  end
  return v
end

local function check_fields(body)
  for name, value in pairs(body) do
    if not KNOWN.known[name] then
      local near = options.nearest(name, KNOWN.names)
      local hint = near and ("; did you mean '%s'?"):format(near) or ""
      refusal.raise(400, ("there is no field '%s'%s"):format(name, hint), name)
    end
    if UNSUPPORTED[name] and value ~= json.null and not (type(value) == "table" and next(value) == nil) then
      refusal.raise(400, name .. " is not supported by this server", name, "unsupported_parameter")
    end
  end
  for _, name in ipairs { "frequency_penalty", "presence_penalty" } do
    if (number(body, name, -2, 2) or 0) ~= 0 then
      refusal.raise(400, name .. " is not supported by this server; leave it 0", name, "unsupported_parameter")
    end
  end
  local format = given(body, "response_format")
  if format and not (json.is_object(format) and format.type == "text") then
    refusal.raise(400, "response_format: text alone is supported", "response_format", "unsupported_parameter")
  end
end

local function stops(body)
  local v = given(body, "stop")
  if v == nil then return {} end
  local list = type(v) == "string" and json.array { v } or v
  if not json.is_list(list) or #list > 16 then
    refusal.raise(400, "stop: a text or up to 16 texts are expected", "stop")
  end
  for _, text in ipairs(list) do
    if type(text) ~= "string" or #text > 256 then
      refusal.raise(400, "stop: texts of up to 256 bytes are expected", "stop")
    end
  end
  return list
end

local function include_usage(body, stream)
  local v = given(body, "stream_options")
  if v == nil then return false end
  if not stream then refusal.raise(400, "stream_options: only with stream = true", "stream_options") end
  if not json.is_object(v) then refusal.raise(400, "stream_options: an object is expected", "stream_options") end
  return v.include_usage == true
end

---@class lucid.ServedCompletion
---@field model string
---@field conversation lucid.ServedConversation
---@field settings lucid.GenerateOptions
---@field choices integer
---@field stream boolean
---@field include_usage boolean
---@field top integer|nil       alternatives a token; nil: no log-probabilities are wanted

--- Reads a body. Raises a refusal.
---@param text string
---@param limits table      max_tokens (most), tokens (where a request does not say), temperature, seed
---@return lucid.ServedCompletion
function M.read(text, limits)
  local ok, body = pcall(json.decode, text, "the body")
  if not ok then refusal.raise(400, (tostring(body):gsub("^[^\n]-%.lua:%d+: ", ""))) end
  if not json.is_object(body) then refusal.raise(400, "the body: a JSON object is expected") end
  check_fields(body)
  local model = given(body, "model")
  if type(model) ~= "string" then
    refusal.raise(400, "model: a name is expected; GET /v1/models lists them", "model")
  end
  local stream, logprobs = flag(body, "stream"), flag(body, "logprobs")
  local top = number(body, "top_logprobs", 0, 20, true)
  if top and not logprobs then refusal.raise(400, "top_logprobs: only with logprobs = true", "top_logprobs") end
  local most = number(body, "max_completion_tokens", 1, 2 ^ 31, true) or number(body, "max_tokens", 1, 2 ^ 31, true)
  local temperature = number(body, "temperature", 0, 2) or limits.temperature
  local choices = number(body, "n", 1, 8, true) or 1
  if choices > 1 and temperature == 0 then
    refusal.raise(400, "n: at temperature 0 all answers are one; ask for one, or give a temperature", "n")
  end
  local top_p = number(body, "top_p", 0, 1) or 1
  if top_p == 0 then refusal.raise(400, "top_p: more than 0 is expected", "top_p") end
  return {
    model = model, conversation = messages.read(given(body, "messages")), choices = choices, stream = stream,
    include_usage = include_usage(body, stream), top = logprobs and (top or 0) or nil,
    settings = { max_new_tokens = math.min(most or limits.tokens, limits.max_tokens), temperature = temperature,
      top_p = top_p, top_k = number(body, "top_k", 0, 2 ^ 31, true) or 0, seed = number(body, "seed", -2 ^ 53, 2 ^ 53, true),
      stop = stops(body) },
  }
end

return M
