-- Stage 6: the model is asked the questions. `correct` marks those that it answers right already, by POPE's own reading:
-- LLaVA and InstructBLIP are trained on the others alone.
local lines = require "lucid.mine.lines"
local pope = require "lucid.metric.pope"

local M = {
  from = { "questions", "select" }, weights = true,
  options = { "check", "model", "vision", "bridge", "bert", "adapter", "device", "dtype", "quant", "template" },
}

local function enough(text) return text:find(".", 1, true) ~= nil end

--- What the stage keeps between its parts of the pictures.
---@param run lucid.Mining
---@return table
function M.begin(run) return { find = lines.ahead(run:file "select") } end

--- Marks questions by the model's answers, in the same order.
---@param questions table[]      get reply and correct
---@param answers string[]
function M.mark(questions, answers)
  for i, q in ipairs(questions) do
    q.reply, q.correct = answers[i], pope.official(answers[i]) == q.answer
  end
end

--- One line of each input, in the same order.
---@param run lucid.Mining
---@param inputs table[]
---@return table[]
function M.work(run, inputs)
  local requests, all = {}, {}
  for _, r in ipairs(inputs) do
    local path = run.state.find(r.image_id).image
    for _, q in ipairs(r.questions) do
      q.correct = false
      all[#all + 1] = q
      requests[#requests + 1] = { image = path, prompt = q.question }
    end
  end
  if run.opt.check and #all > 0 then
    local answers = run:model():generate_all(requests, { max_new_tokens = 64, batch = 128, enough = enough })
    for i, a in ipairs(answers) do answers[i] = a.text end
    M.mark(all, answers)
  end
  for _, r in ipairs(inputs) do r.tries = nil end
  return inputs
end

return M
