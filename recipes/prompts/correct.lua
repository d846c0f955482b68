-- What a language model is asked when it finds and repairs what a description made up (mining, step
-- 2).
local sentences = require "lucid.sentences"
local vg = require "lucid.data.vg"

local TEXT = [[
Below are the sentences of a description of a picture, and what is annotated of that picture. Some
sentences may speak of things that are not there, or give things a wrong colour, number, place or action.

1. Judge every sentence: hallucination, correct, or cannot judge.
2. Write the description again. Keep every sentence that is not a hallucination word for word. Repair a
   sentence that is wrong in a detail. Where a thing is not there at all, speak of an annotated thing that
   the description does not mention yet, in the same kind of sentence; only if there is none, leave the
   sentence out. Keep the order, the tone and about the same length. Add no other sentences.

Answer in exactly this form:
Judgement:
n. label: your reason in a few words
(one line for each sentence)
Description:
the description, as one paragraph

Regions, "[x1, y1, x2, y2]: phrase", edges as fractions of the picture:
%s
Facts:
%s
Sentences:
%s]]

---@param request lucid.JudgeRequest
return function(request)
  local regions, facts = {}, {}
  for i, region in ipairs(request.regions or {}) do regions[i] = vg.region_line(region) .. "\n" end
  for i, fact in ipairs(request.facts or {}) do facts[i] = fact .. "\n" end
  return TEXT:format(table.concat(regions), table.concat(facts), sentences.numbered(request.sentences))
end
