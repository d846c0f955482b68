-- What a language model is asked when it makes yes/no questions of what a judge found in a description (mining, step 4).
-- Half of the questions are meant to tempt a model that makes things up.
local sentences = require "lucid.sentences"

local TEXT = [[
Below are the sentences of a description of a picture, each with a verdict, and the description as it should
be. Write questions about single things in the picture that can be answered by yes or no: %d about things
that are there, taken from the corrected description, and %d about things that are not, taken from the
sentences that are hallucinations; if there are too few of these, ask for things that are often seen in such
a picture and are not named in the corrected description. Ask nothing twice and nothing that is uncertain.

Answer with one line for each question, nothing else, in exactly this form: number, question, the right
answer in one word, the right answer as a short sentence, the wrong answer as a short sentence.
1. Is there a bench in the image? | yes | Yes, there is a bench. | No, there is no bench.
2. Is the bus green? | no | No, the bus is not green. | Yes, the bus is green.

Sentences:
%s
Corrected description:
%s]]

---@param request lucid.JudgeRequest
return function(request)
  local list = {}
  for i, sentence in ipairs(request.sentences) do list[i] = ("%s (%s)"):format(sentence, request.labels[i]) end
  return TEXT:format(request.present or 2, request.absent or 2, sentences.numbered(list), request.corrected)
end
