-- What a pair looks like each time it is drawn. With MiniGPT-4 and InstructBLIP a description's instruction is drawn anew
-- every time, with random crops the part of the picture, too; and a caption may come with every pair. All of it depends
-- on the seed and on how often the pair was drawn before.
--
--   local present = access(model, { seed = 42, redraw = true, crops = access.CROPS.minigpt4 })
--   batch = present(draw())
local hadpo = require "lucid.data.hadpo"
local questions = require "lucid.questions"

local M = {}

--- Which pictures are random crops, and when they are drawn: "always", every time anew; "once". The rest is whole.
M.CROPS = {
  minigpt4 = { desc = "always" },
  instructblip = { desc = "always", pope = "once", mirror = true },
}

-- The crop of a pair's picture at its n-th time, from 0; nil: it is whole.
local function crop_of(pair, n, opt)
  local when = opt.crops and opt.crops[pair.kind]
  if not when then return nil end
  return { seed = opt.seed, name = when == "always" and ("%s:%d"):format(pair.id, n) or pair.id, mirror = opt.crops.mirror }
end

---@class lucid.AccessOptions
---@field seed integer
---@field redraw boolean|nil      a description's instruction is drawn anew every time
---@field pairing string|nil      "independent": the reference model's, too, on its own
---@field crops table|nil         a row of CROPS
---@field captions (fun(kind: string): lucid.Sequence)|nil

--- A function from a batch of encoded pairs to the same as they are seen this time, each with its caption.
---@param model table
---@param opt lucid.AccessOptions
---@return fun(batch: lucid.EncodedPair[]): lucid.EncodedPair[]
function M.new(model, opt)
  local times, prompt_of = {}, questions(model)
  local function present(pair)
    local n = times[pair.id] or 0
    times[pair.id] = n + 1
    local redraw, crop = opt.redraw and pair.kind == "desc", crop_of(pair, n, opt)
    if not redraw and not crop and not opt.captions then return pair end
    local seen, question = {}, pair.question
    for k, v in pairs(pair) do seen[k] = v end
    if redraw then
      local other
      question, other = hadpo.instruction(pair, { seed = opt.seed, epoch = n, pairing = opt.pairing })
      seen.prompt, seen.reference_prompt = prompt_of(question), other and prompt_of(other)
    end
    seen.image = model:picture(pair.source, question, crop)
    seen.caption = opt.captions and opt.captions(pair.kind)
    return seen
  end
  return function(batch)
    local seen = {}
    for i, pair in ipairs(batch) do seen[i] = present(pair) end
    return seen
  end
end

return setmetatable(M, { __call = function(_, ...) return M.new(...) end })
