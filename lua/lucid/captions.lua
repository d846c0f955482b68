-- The caption loss beside a preference loss: the mean cross-entropy of a caption's tokens under the policy, which keeps a
-- model to what it could say before (MiniGPT-4's training, on CC-SBU align). Every pair of a batch brings one caption.
--
--   local draw = captions.draw(model, ccsbu.read(dir), { seed = 42 })      draw("desc") -> a sequence
--   loss = loss + gamma * captions.loss(policy, { draw("desc"), draw("pope") })
local ccsbu = require "lucid.data.ccsbu"
local forest = require "lucid.forest"
local hadpo = require "lucid.data.hadpo"
local prompts = require "lucid.questions"
local rng = require "lucid.rng"
local tensor = require "lucid.tensor"

local M = {}

---@class lucid.CaptionOptions
---@field seed integer
---@field crop boolean|nil       pictures are random crops, each drawn once

--- A function that gives the next caption for a kind of pairs as a sequence to score. Kinds go through the captions
--- each on its own, as the reference's two data sets do on one process; all processes draw the same. The question is one of the published instructions, drawn anew
--- every time.
---@param model table
---@param list table[]           of lucid.data.ccsbu
---@param opt lucid.CaptionOptions
---@return fun(kind: string): lucid.Sequence
function M.draw(model, list, opt)
  local prompt_of, cycles, counts = prompts(model), {}, {}
  return function(kind)
    cycles[kind] = cycles[kind] or ccsbu.cycle(list)
    counts[kind] = (counts[kind] or 0) + 1
    local c = cycles[kind]()
    local question = rng(opt.seed, ("caption:%s:%d"):format(kind, counts[kind])):pick(hadpo.INSTRUCTIONS)
    local crop = opt.crop and { seed = opt.seed, name = "caption/" .. c.image_id } or nil
    local prompt, ids = prompt_of(question), {}
    for i = 1, #prompt do ids[i] = prompt[i] end
    for _, id in ipairs(model.template:answer(model.tokenizer, c.caption)) do ids[#ids + 1] = id end
    return { image = model:picture(c.image, question, crop), ids = ids, score_from = #prompt + 1 }
  end
end

--- The mean over captions of each one's token-mean cross-entropy.
---@param policy table
---@param sequences lucid.Sequence[]
---@param counts integer[]|nil     how often each counts; default: once
---@return lucid.Tensor
function M.loss(policy, sequences, counts)
  local tokens, first = policy:token_logps(forest.of(sequences))
  local weight, all = {}, 0
  for i = 1, #sequences do all = all + (counts and counts[i] or 1) end
  for i = 1, #sequences do
    local each = -(counts and counts[i] or 1) / all / (first[i + 1] - first[i])
    for j = first[i], first[i + 1] - 1 do weight[j] = each end
  end
  return (tokens * tensor(weight)):sum()
end

return M
