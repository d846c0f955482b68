-- What a judge's endpoint answers: a status that the first byte chooses, and a body.
local completion = require "lucid.completion"
local refusal = require "tests.fuzz.refusal"

local STATUS = { 200, 400, 401, 413, 429, 500 }

return function(input)
  local answer = { status = STATUS[(input:byte() or 0) % #STATUS + 1], body = input:sub(2) }
  local job = { body = '{"max_tokens":800}' }
  local reply = refusal.of(completion.read, job, answer)
  if reply then
    assert(type(reply.text) == "string", "a reply without a text")
    assert(reply.usage.prompt_tokens >= 0 and reply.usage.completion_tokens >= 0, "a reply that costs less than nothing")
  end
  refusal.of(completion.lasting, answer)
end
