-- A picture and a question.      lucid examples/03_describe.lua MODEL PICTURE [QUESTION]
local lucid = require "lucid"

local model, picture, question = ...
if not picture then error("usage: lucid examples/03_describe.lua MODEL PICTURE [QUESTION]", 0) end
local m = lucid.model(model)
local text, answer = m:generate {
  image = picture, prompt = question or "Describe this image in detail.", max_new_tokens = 200,
}
print(text)
print(("%d tokens, ended by %s"):format(#answer.ids, answer.reason))
