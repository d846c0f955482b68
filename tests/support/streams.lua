-- Streamed completions to ask lucid serve for, and what they have to say: what the model says alone.
local served = require "tests.support.served"
local socket = require "tests.support.socket"

local M = {}
local QUESTIONS = { "Is there a car in the image?", "Describe this image in detail.", "What is red?" }

--- 48 requests to a server of a model with an adapter that is called "tiny", { request, text } each.
---@param m lucid.Model
---@param pictures string[]     seven
function M.kinds(m, pictures)
  local list, base = {}, m:base()
  for i = 1, 48 do
    local model, picture, question = i % 2 == 0 and base or m, pictures[i % 7], QUESTIONS[i % 3 + 1]
    local fields = { model = i % 2 == 0 and "tiny" or "tiny+adapter", messages = { served.message(question, picture) },
      stream = true, max_tokens = 8 + i, temperature = i % 4 / 2, top_p = i % 5 == 0 and 0.9 or 1, seed = i }
    local text = model:generate { image = picture, prompt = question, max_new_tokens = fields.max_tokens,
      temperature = fields.temperature, top_p = fields.top_p, seed = i }
    list[i] = { request = served.completion(fields), text = text }
  end
  return list
end

--- The whole text of a stream.
function M.text(body)
  local pieces = {}
  for i, e in ipairs(socket.events(body)) do pieces[i] = e ~= "[DONE]" and e.choices[1].delta.content or "" end
  return table.concat(pieces)
end

return M
