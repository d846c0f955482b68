-- Stage 3: a judge looks at every sentence of a description, finds what is made up, and writes the text as it should be.
local asking = require "lucid.mine.asking"
local claims = require "lucid.claims"
local lines = require "lucid.mine.lines"
local sentences = require "lucid.sentences"

local M = {
  from = { "describe", "select" },
  asks = true,
  options = asking.options "prompt-correct complete",
}

-- The names of things in a false sentence that are not there, as far as a noun table knows them.
local function made_up(list, labels, picture, nouns)
  local names = {}
  if not nouns then return names end
  local facts = claims.facts(picture, nouns)
  for k, sentence in ipairs(list) do
    for _, c in ipairs(labels[k].label == "hallucination" and claims.of(sentence, nouns) or {}) do
      if claims.fault(c, facts) == "absent" then names[#names + 1] = c.name end
    end
  end
  return names
end

--- What the stage keeps between its parts of the pictures.
---@param run lucid.Mining
---@return table
function M.begin(run) return { find = lines.ahead(run:file "select"), nouns = run:nouns() } end

--- One line of each input, in the same order.
---@param run lucid.Mining
---@param inputs table[]
---@return table[]
function M.work(run, inputs)
  local requests, pictures, list = {}, {}, {}
  for i, input in ipairs(inputs) do
    pictures[i] = run.state.find(input.image_id)
    requests[i] = asking.request(run, "correct", pictures[i], { sentences = sentences.split(input.response),
      complete = run.opt.complete or nil })
  end
  for i, answer in ipairs(asking.ask(run, requests, asking.correction)) do
    local id, split = inputs[i].image_id, requests[i].sentences
    if answer.lost then
      list[i] = asking.lost(id, answer)
    else
      local labels, faults, judged = answer.value.labels, 0, {}
      for k, l in ipairs(labels) do
        judged[k] = { text = split[k], label = l.label, reason = l.reason }
        if l.label == "hallucination" then faults = faults + 1 end
      end
      list[i] = { image_id = id, response = inputs[i].response, sentences = judged, faults = faults,
        made_up = made_up(split, labels, pictures[i], run.state.nouns), corrected = answer.value.description, tries = answer.tries }
    end
  end
  return list
end

return M
