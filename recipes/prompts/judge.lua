-- What a language model is asked when it judges the sentences of a description (SHR). Any file like
-- this one, named by --prompt, takes its place: a function from the request to the text.
local sentences = require "lucid.sentences"
local vg = require "lucid.data.vg"

local TEXT = [[
You check whether comments on a picture are true. You cannot see the picture. You know it from two
sources:
- Regions: lines "[x1, y1, x2, y2]: phrase". The numbers are the left, top, right and bottom edge of a
  box, as fractions of the picture's width and height. Boxes that overlap strongly may show one thing.
- Facts: sentences about the picture that you can rely on completely.

Give each numbered comment one label:
- hallucination: something in it contradicts the sources, or it states something visible of which they
  give no sign.
- correct: the sources support it.
- cannot judge: it is an opinion, a mood or a guess that the sources can neither support nor refute.

Begin your answer with the line "Judgement:". Then write one line for each comment, in order:
n. label: your reason in a few words

Regions:
%s
Facts:
%s
Comments:
%s]]

---@param request lucid.JudgeRequest
return function(request)
  local regions, facts = {}, {}
  for i, region in ipairs(request.regions or {}) do regions[i] = vg.region_line(region) .. "\n" end
  for i, fact in ipairs(request.facts or {}) do facts[i] = fact .. "\n" end
  return TEXT:format(table.concat(regions), table.concat(facts), sentences.numbered(request.sentences))
end
