-- Supervised fine-tuning on conversations: the answers' cross-entropy, everything else given.
local cycle = require "lucid.cycle"
local dist = require "lucid.dist"
local forest = require "lucid.forest"
local microbatch = require "lucid.microbatch"
local tensor = require "lucid.tensor"

local M = {}

---@class lucid.SftSequence
---@field id string
---@field kind string           which group of the mix it belongs to
---@field image any
---@field ids integer[]
---@field score_from integer

--- Which parts of a model "vision,language" trains: { vision = true, projector = false, ... }.
---@param text string
---@return table<string, boolean>
function M.parts(text)
  local parts = { vision = false, projector = false, language = false }
  for name in text:gmatch("[^,]+") do
    if parts[name] == nil then error(("'%s' is none of vision, projector, language"):format(name), 0) end
    parts[name] = true
  end
  return parts
end

--- The numbers of "NAME:WEIGHT,NAME:WEIGHT" by name.
---@param text string
---@return table<string, number>
function M.weights(text)
  local weights = {}
  for item in text:gmatch("[^,]+") do
    local name, weight = item:match("^([^:]+):(%d[%d.eE+-]*)$")
    weight = tonumber(weight)
    if not weight then error(("'%s' is not NAME:WEIGHT"):format(item), 0) end
    weights[name] = weight
  end
  return weights
end

--- Turns conversation records { id, image, turns = { {question, answer}, ... } } into sequences, one
--- for every answer: what came before it is given, its own tokens and the end token are scored.
---@param model lucid.Model
---@param records table[]
---@param kind string
---@return lucid.SftSequence[]
function M.encode(model, records, kind)
  local tk, out, prompts = model.tokenizer, {}, {}
  for _, r in ipairs(records) do
    local history
    local picture = r.turns[1] and model:picture(r.image, r.turns[1].question)
    for turn, t in ipairs(r.turns) do
      local prompt
      if turn == 1 then
        prompt = prompts[t.question]
        if not prompt then
          prompt = model.template:tokens(tk, t.question, { train = true, image = r.image ~= nil })
          prompts[t.question] = prompt
        end
      else
        prompt = model.template:continue(tk, history, t.question)
      end
      local ids = {}
      for i = 1, #prompt do ids[i] = prompt[i] end
      for _, id in ipairs(model.template:answer(tk, t.answer)) do ids[#ids + 1] = id end
      out[#out + 1] = { id = r.id, kind = kind, image = picture, ids = ids, score_from = #prompt + 1 }
      history = ids
    end
  end
  return out
end

--- How batches are drawn: next() gives a list of sequences; the second value is how many batches make
--- an epoch. With opt.pictures a batch holds that many pictures, each with all its sequences: they
--- share its rows.
---@param sequences lucid.SftSequence[]
---@param opt table        { seed, batch, pictures }
---@return fun(): table, number
function M.sampler(sequences, opt)
  local groups, of = {}, {}
  for _, s in ipairs(sequences) do
    local picture = type(s.image) == "table" and s.image.picture or s.image
    local key = opt.pictures > 0 and picture ~= nil and tostring(picture) or s
    if not of[key] then
      of[key] = {}
      groups[#groups + 1] = of[key]
    end
    table.insert(of[key], s)
  end
  local draw, size = cycle(groups, opt.seed, "sft"), opt.pictures > 0 and opt.pictures or opt.batch
  return function()
    local batch = {}
    for _ = 1, math.min(size, #groups) do
      for _, s in ipairs(draw()) do batch[#batch + 1] = s end
    end
    return batch
  end, math.ceil(#groups / size)
end

--- The loss of one batch of sequences: per kind the mean over its scored tokens, summed over kinds.
---@param model table
---@param batch lucid.SftSequence[]
---@param kind_weights table<string, number>|nil   what a kind's mean counts in the sum, default 1
---@param whole lucid.SftSequence[]|nil            what the batch is a part of: its loss is then a part of the whole's
---@return lucid.Tensor, table
function M.step(model, batch, kind_weights, whole)
  local tokens, first = model:token_logps(forest.of(batch))
  local count = {}
  for _, s in ipairs(whole or batch) do count[s.kind] = (count[s.kind] or 0) + #s.ids - s.score_from + 1 end
  local weight = {}
  for i, s in ipairs(batch) do
    local scale = kind_weights and kind_weights[s.kind] or 1
    for j = first[i], first[i + 1] - 1 do weight[j] = -scale / count[s.kind] end
  end
  local loss = (tokens * tensor(weight)):sum()
  return loss, { loss = loss, count = #batch, tokens = #weight }
end

--- What lucid.train asks of fine-tuning: split(batches) makes the parts that this process computes of a step, loss(part)
--- computes one.
---@param model table
---@param kind_weights table<string, number>|nil
---@return table
function M.steps(model, kind_weights)
  local by = microbatch.sharing("image", model.image_rows)
  return {
    split = function(batches)
      local parts = {}
      for _, batch in ipairs(batches) do
        local own, whole = dist.share(batch, by)
        own.whole, own.weight = whole, 1 / #batches
        if #own > 0 then parts[#parts + 1] = own end
      end
      return parts
    end,
    loss = function(part)
      local value, stats = M.step(model, part, kind_weights, part.whole)
      return value * part.weight, stats, part.weight
    end,
  }
end

return M
