-- Prompt templates, questions and answers: fields separated by NUL bytes.
local forest = require "lucid.forest"
local prompt = require "lucid.prompt"
local refusal = require "tests.fuzz.refusal"
local templates = require "lucid.template"
local tokenizer = require "lucid.tokenizer" "tests/golden/tokenizer/tokenizer.model"

local FIELDS = { "text", "train_text", "alone", "next", "answer", "bos" }

local function try(form, question, answer)
  templates.fuzzed = form
  local t = refusal.of(prompt.template, "fuzzed")
  templates.fuzzed = nil
  if not t then return end
  for _, opt in ipairs { { train = true }, { image = false } } do
    local turns = { { question = question, answer = answer }, { question = answer, answer = question }, { question = question } }
    local c = refusal.of(t.conversation, t, tokenizer, turns, opt)
    if c then
      for _, id in ipairs(c.ids) do assert(id == forest.IMAGE or tokenizer:has(id), "an id that is no piece") end
      for _, span in ipairs(c.spans) do assert(span[1] <= span[2] + 1 and span[2] <= #c.ids, "an answer out of place") end
    end
  end
end

return function(input)
  local form, parts = {}, {}
  for part in (input .. "\0"):gmatch "([^%z]*)%z" do parts[#parts + 1] = part end
  for i, field in ipairs(FIELDS) do
    if parts[i + 2] and parts[i + 2] ~= "" then form[field] = parts[i + 2] end
  end
  if #input % 3 == 0 then form.ended = false end
  if #input % 5 == 0 then form.question_max, form.answer_max = #parts, #parts + 1 end
  try(form, parts[1], parts[2] or "")
end
