-- A prompt of one's own for a judge that is a language model: from what is known of a picture, and the sentences about
-- it, to the text that is asked. recipes/prompts/judge.lua is the one in its place.
--   lucid shr ... --judge openai --prompt examples/09_own_prompt.lua
local lucid = require "lucid"

local TEXT = [[
These things are in a picture:
%s
Somebody has written about it:
%s
Label every numbered sentence: hallucination, correct or cannot judge. Answer with the line "Judgement:", then with
one line a sentence, "n. label: your reason".]]

---@param request lucid.JudgeRequest
return function(request)
  local things = {}
  for i, region in ipairs(request.regions or {}) do things[i] = ("- %s\n"):format(region.phrase) end
  return TEXT:format(table.concat(things), lucid.sentences.numbered(request.sentences))
end
