-- Bodies of chat completions that a client of lucid serve sends.
local refusal = require "tests.fuzz.refusal"
local served = require "lucid.serve.completion"

local LIMITS = { max_tokens = 64, tokens = 16, temperature = 0 }

return function(input)
  local request = refusal.of(served.read, input, LIMITS)
  if not request then return end
  assert(request.choices >= 1 and request.choices <= 8, "too many choices")
  assert(request.settings.max_new_tokens <= LIMITS.max_tokens, "too many tokens")
  assert(#request.conversation.turns >= 1, "no turn")
end
