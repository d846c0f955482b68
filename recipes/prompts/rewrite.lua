-- What a language model is asked when it writes a description in other words (mining, step 3). The
-- right and the wrong description of a picture go through the same request, so that nothing but
-- their content tells them apart.
local sentences = require "lucid.sentences"

local TEXT = [[
Write the description below %d times in other words. Every version says exactly what the description
says, sentence by sentence and in the same order: the same things, colours, numbers, places and actions.
Do not correct it, even if it sounds unlikely; add nothing and leave nothing out. Keep about its length.

Answer with one line for each version, nothing else:
1. first version
2. second version
and so on

Description:
%s]]

---@param request lucid.JudgeRequest
return function(request)
  return TEXT:format(request.variants or 3, sentences.join(request.sentences))
end
