-- A prompt for the judge server of the tests (judge_server.c): it holds the answer that the talking judge would give, which
-- the server says again. For requests of every kind:
--   lucid mine --judge openai --prompt-judge tests/support/talking_prompt.lua ...
local talker = require "tests.support.talker"

---@param request lucid.JudgeRequest
return function(request)
  local said = talker.reply_to(request).text or "I would rather not say."
  return ("Picture %s, %s number %s. [[say:%s]]"):format(tostring(request.image_id), request.kind, tostring(request.sample), said)
end
