-- Preference training on pairs: what the HA-DPO recipes share. A step is six calls (batch, policy,
-- reference, loss, backward, optimizer step); a recipe that wants another step writes its own.
local args = require "lucid.args"
local dist = require "lucid.dist"
local native = require "lucid.native"
local forest = require "lucid.forest"
local tensor = require "lucid.tensor"
local loss = require "lucid.loss"
local captions = require "lucid.captions"
local microbatch = require "lucid.microbatch"
local preference = require "lucid.preference"
local questions = require "lucid.questions"
local start = require "lucid.start"

local M = {}

--- What recipes of preference training share: the loss and its options (groups = { lucid.dpo.OPTIONS }).
M.OPTIONS = { title = "the loss",
  { "loss", "sigmoid", "a name (sigmoid is DPO), a sum (sigmoid:0.8,bco_pair:0.2,sft:1) or a .lua file",
    { check = loss.check_names } },
  { "reference-free", false, "leave the reference out" },
  { "gamma", 0, "weight of a cross-entropy beside the loss, the mean over its tokens: --gamma-on says whose" },
  { "gamma-on", "chosen", "the pairs' chosen answers (chosen) or the captions of --captions, one a pair (captions)",
    { choices = "chosen captions" } },
}

--- How a step is computed, which changes nothing but time and memory, and which pairs meet in a step.
M.WORK = { title = "work and memory",
  { "group", "image", "pairs share their picture's rows (image), both answers their prompt (pair), or nothing (none)",
    { choices = "image pair none" } },
  { "accumulate", 1, "batches a step", { whole = true, min = 1 } },
  { "tokens-per-step", 0, "most packed tokens computed at once; larger batches are accumulated; 0: any",
    { whole = true } },
  { "recompute", "auto", "activations in the backward pass, instead of keeping them: auto, on or off",
    { choices = "auto on off" } },
  { "reference-cache", "on", "keep the reference's log-probabilities in --cache", { choices = "on off" } },
}
for _, o in ipairs(preference.OPTIONS) do
  local rule = o[4] or {}
  table.insert(M.OPTIONS, { o[1]:gsub("_", "-"), o[2], o[3], { choices = rule.choices, max = rule.max } })
end

---@class lucid.EncodedPair
---@field id string
---@field kind string           "desc" or "pope"
---@field image any
---@field source any           the picture as it came, without what a bridge reads with it
---@field question string
---@field prompt integer[]
---@field reference_prompt integer[]|nil    where the reference model reads another instruction
---@field chosen integer[]      with the end token
---@field rejected integer[]
---@field caption lucid.Sequence|nil    what the caption loss is taken of

--- Turns pairs { id, kind, image, question, reference_question, chosen, rejected } into ids, as the model's template has it.
---@param model lucid.Model
---@param list table[]
---@return lucid.EncodedPair[]
function M.encode(model, list)
  local tk, out, prompt_of = model.tokenizer, {}, questions(model)
  for i, p in ipairs(list) do
    out[i] = { id = p.id, kind = p.kind, source = p.image, question = p.question, prompt = prompt_of(p.question),
      reference_prompt = p.reference_question and prompt_of(p.reference_question),
      image = model:picture(p.image, p.question),
      chosen = model.template:answer(tk, p.chosen), rejected = model.template:answer(tk, p.rejected) }
  end
  return out
end

--- "desc:16,pope:64" -> { desc = 16, pope = 64 }, in order under [1], [2].
---@param text string
---@return string[]
function M.mix(text)
  local mix = {}
  for item in text:gmatch("[^,]+") do
    local kind, count = item:match("^%s*([%w_]+):(%d+)%s*$")
    if not kind then error(("'%s' is not KIND:COUNT"):format(item), 0) end
    if kind ~= "desc" and kind ~= "pope" then error(("'%s': kinds are desc and pope"):format(item), 0) end
    if mix[kind] then error(("'%s': %s has a count already"):format(item, kind), 0) end
    mix[#mix + 1], mix[kind] = kind, tonumber(count)
    if mix[kind] < 1 then error(("'%s': counts are 1 or more"):format(item), 0) end
  end
  if #mix == 0 then error(("'%s' is not KIND:COUNT,KIND:COUNT"):format(text), 0) end
  return mix
end

---@class lucid.DpoOptions
---@field loss string               a loss's name, a sum of losses or a .lua file
---@field options table|nil         of the loss: { beta =, label_smoothing =, ... }
---@field reference_free boolean|nil
---@field gamma number|nil          weight of the chosen answers' token-mean NLL beside the loss
---@field caption_gamma number|nil  weight of the captions' loss, where pairs bring captions
---@field kind_weights table|nil    { kind = weight }; each kind's mean loss counts that much
---@field state table|nil           what the loss remembers between steps; plain numbers, part of a checkpoint
---@field group string              "image", "pair" or "none": what pairs share, as lucid.forest.pairs has it
---@field tokens_per_step integer|nil   most packed tokens of a part; 0 or nil: any
---@field joint boolean|nil         pairs of a part depend on each other, so each part is a batch
---@field compare boolean|nil       the next batch's policy and reference have to be equal: adapters begin at zero

-- "--label-smoothing: ..." of "label_smoothing: ..."; pairs have weights where a --mix of kinds is given.
local function as_typed(reason)
  local name, rest = reason:match("^([%w_]+)(:.*)$")
  if name == "weights" then name = "mix" end
  return "--" .. name:gsub("_", "-") .. rest
end

--- The settings of M.step from what M.OPTIONS were given. Options that do not fit the loss end the program.
---@param opt table
---@param kind_weights table|nil
---@return lucid.DpoOptions
function M.settings(opt, kind_weights)
  local _ = loss[opt.loss]                  -- a file that does not hold one is a failed run, not a wrong option
  local options = { weights = kind_weights }
  for _, o in ipairs(preference.OPTIONS) do options[o[1]] = opt[o[1]] end
  local ok, reason = pcall(loss.check, opt.loss, options)
  if not ok then args.usage(as_typed(reason)) end
  options.weights = nil                     -- M.step makes every batch's own
  local joint = loss.joint(opt.loss, options)
  if joint and opt.tokens_per_step > 0 then
    args.usage(("--tokens-per-step: what %s makes of a pair depends on the others of its batch; use --batch"):format(
      joint))
  end
  local apart = dist.started() and opt.sync ~= "none" and loss.joint(opt.loss, options, true)
  if apart then
    args.usage(("--loss: what %s makes of a pair depends on the others of its batch, which processes share; start one, or --sync none")
      :format(apart))
  end
  local on_captions = opt.gamma_on == "captions"
  return { loss = opt.loss, options = options, reference_free = opt.reference_free,
    gamma = on_captions and 0 or opt.gamma, caption_gamma = on_captions and opt.gamma or 0,
    kind_weights = kind_weights, state = {}, group = opt.group,
    tokens_per_step = opt.tokens_per_step, joint = joint ~= nil }
end

---@class lucid.WholeBatch
---@field pairs number            how many pairs a step's batch has, those that stand twice counted twice
---@field tokens number           of their chosen answers
---@field kinds table<string, number>

-- What a step's batch holds, over all of its parts.
---@param parts lucid.Microbatch[]
---@return lucid.WholeBatch
local function whole_of(parts)
  local whole = { pairs = 0, tokens = 0, kinds = {} }
  for _, part in ipairs(parts) do
    for i, p in ipairs(part) do
      local n = part.counts and part.counts[i] or 1
      whole.pairs, whole.tokens = whole.pairs + n, whole.tokens + n * #p.chosen
      if p.kind then whole.kinds[p.kind] = (whole.kinds[p.kind] or 0) + n end
    end
  end
  return whole
end

-- Weights that make the mean over the whole batch's pairs the sum over kinds of weight * (mean of the kind).
local function weights_of(part, kind_weights, whole)
  local w = {}
  for i, p in ipairs(part) do w[i] = (kind_weights[p.kind] or 1) * whole.pairs / whole.kinds[p.kind] end
  return tensor(w)
end

-- The pairs as the reference model reads them, or nil where it reads what the policy does.
local function for_reference(part)
  local list, other = {}, false
  for i, p in ipairs(part) do
    other = other or p.reference_prompt ~= nil
    list[i] = { image = p.image, prompt = p.reference_prompt or p.prompt, chosen = p.chosen, rejected = p.rejected }
  end
  return other and list or nil
end

-- The captions that pairs bring.
local function captions_of(part)
  local list = {}
  for i, p in ipairs(part) do list[i] = p.caption end
  return list
end

--- The loss of one part of a step's batch, what to log of it, and how much of the batch it is. The losses of the parts
--- add up to the batch's.
---@param policy table
---@param reference table           policy:base(), another model, or a lucid.references
---@param part lucid.Microbatch
---@param opt lucid.DpoOptions
---@param whole lucid.WholeBatch|nil    default: the part is the whole batch
---@return lucid.Tensor, table, number
function M.step(policy, reference, part, opt, whole)
  whole = whole or whole_of { part }
  local f = forest.pairs(part, opt.group)
  local own = whole_of { part }
  local counts = part.counts and tensor(part.counts)
  local options, share = { state = opt.state }, own.pairs / whole.pairs
  if counts or share < 1 then options.whole = { pairs = whole.pairs, tokens = whole.tokens, counts = counts } end
  for name, v in pairs(opt.options or {}) do options[name] = v end
  if opt.kind_weights then options.weights = weights_of(part, opt.kind_weights, whole) end
  local p = policy:pairs(f, { log_squares = options.use_weighting })
  local asked = not opt.reference_free and for_reference(part)
  local r = not opt.reference_free
    and native.no_grad(reference.pairs, reference, asked and forest.pairs(asked, opt.group) or f) or nil
  if opt.compare and r then
    -- What is kept was checked by itself: here the base speaks, bit for bit.
    start.compare(p, reference.path and native.no_grad(reference.base.pairs, reference.base, f) or r, part)
    opt.compare = nil
  end
  local value, stats = loss[opt.loss](p, r, options)
  if share == 0 then return value, {}, share end
  for name, v in pairs(stats) do
    if name:find("^loss/") then stats[name] = v / share end
  end
  if opt.gamma and opt.gamma > 0 then
    local nll = (counts and p.chosen * counts or p.chosen):sum() * (-1 / whole.tokens)
    value = value + opt.gamma * nll
    stats.nll = nll / share
  end
  if (opt.caption_gamma or 0) > 0 and part[1].caption then
    local nll = captions.loss(policy, captions_of(part), part.counts)
    value = value + opt.caption_gamma * share * nll
    stats.caption_nll = nll
  end
  stats.loss = value / share
  stats.count, stats.tokens = whole.pairs, f:count(policy.image_rows).tokens / share
  return value, stats, share
end

-- This process's share of each batch as a part of it. Who has none of its pairs takes part in what the loss sums over
-- processes, and adds nothing.
local function joint_parts(shares, wholes)
  local parts = {}
  for i, share in ipairs(shares) do
    parts[i] = #share > 0 and share or { wholes[i][1], counts = { 0 } }
    parts[i].whole = whole_of { wholes[i] }
  end
  return parts
end

--- What lucid.train asks of preference training: split(batches) makes the parts that this process computes of a step,
--- loss(part) computes one. Parts of a loss that depends on what is together in a batch are batches, the step's loss
--- their mean.
---@param policy table
---@param reference table
---@param opt lucid.DpoOptions
---@return table
function M.steps(policy, reference, opt)
  local by, whole, weight = microbatch.sharing(opt.group, policy.image_rows), nil, 1
  return {
    split = function(batches)
      local shares, wholes = {}, {}
      for i, batch in ipairs(batches) do shares[i], wholes[i] = dist.share(batch, by) end
      if opt.joint then
        weight = 1 / #batches
        return joint_parts(shares, wholes)
      end
      whole = whole_of(wholes)
      return microbatch.split(shares, opt, policy.image_rows)
    end,
    loss = function(part)
      local value, stats, share = M.step(policy, reference, part, opt, part.whole or whole)
      return value * weight, stats, share * weight
    end,
  }
end

--- Log-probabilities and rewards of pairs, without gradients: a list of { chosen, rejected,
--- reference_chosen, reference_rejected, chosen_tokens, rejected_tokens, margin }.
---@param policy table
---@param reference table
---@param batch lucid.EncodedPair[]
---@param beta number
---@return table[]
function M.score(policy, reference, batch, beta)
  local f = forest.pairs(batch)
  local p, r = policy:pairs(f), reference:pairs(f)
  local columns = {}
  for name, t in pairs { chosen = p.chosen, rejected = p.rejected, reference_chosen = r.chosen,
    reference_rejected = r.rejected, chosen_tokens = p.chosen_count, rejected_tokens = p.rejected_count } do
    columns[name] = t:tolist()
  end
  local rows = {}
  for i = 1, #batch do
    local row = {}
    for name, values in pairs(columns) do row[name] = values[i] end
    row.margin = beta * ((row.chosen - row.reference_chosen) - (row.rejected - row.reference_rejected))
    rows[i] = row
  end
  return rows
end

---@class lucid.PairExplained
---@field id any
---@field kind string
---@field image string
---@field prompt table[]      tokens { id, piece }, which are not scored
---@field chosen table[]      tokens { id, piece, policy, reference }: log-probabilities
---@field rejected table[]

--- One pair token by token: what is read, and of what is scored the log-probability under the policy and the reference.
---@param model table
---@param pair lucid.EncodedPair
---@return lucid.PairExplained
function M.explain(model, pair)
  local f = forest.pairs { pair }
  local policy = native.no_grad(model.token_logps, model, f):tolist()
  local reference = native.no_grad(model.token_logps, model:base(), f):tolist()
  local picture = type(pair.image) == "table" and pair.image.picture or pair.image
  local e = { id = pair.id, kind = pair.kind, image = tostring(picture), prompt = {}, chosen = {}, rejected = {} }
  local at = 0
  for _, part in ipairs { "prompt", "chosen", "rejected" } do
    for i, id in ipairs(pair[part]) do
      local piece = id == forest.IMAGE and ("<image> (%d rows)"):format(model.image_rows) or model.tokenizer:piece(id)
      if part ~= "prompt" then at = at + 1 end
      e[part][i] = { id = id, piece = piece, policy = part ~= "prompt" and policy[at] or nil,
        reference = part ~= "prompt" and reference[at] or nil }
    end
  end
  return e
end

--- The same as lines of text.
---@param e lucid.PairExplained
---@return string
function M.explain_text(e)
  local lines = { ("pair %s (%s), picture %s"):format(tostring(e.id), e.kind, e.image), "prompt, not scored:" }
  local function add(form, ...) lines[#lines + 1] = form:format(...) end
  for i, t in ipairs(e.prompt) do add("%4d %6d  %-20s", i, t.id, t.piece) end
  for _, side in ipairs { "chosen", "rejected" } do
    local policy, reference = 0, 0
    add("%s, scored: %27s%12s", side, "policy", "reference")
    for i, t in ipairs(e[side]) do
      add("%4d %6d  %-20s%12.4f%12.4f", #e.prompt + i, t.id, t.piece, t.policy, t.reference)
      policy, reference = policy + t.policy, reference + t.reference
    end
    add("%33s%12.4f%12.4f", "sum", policy, reference)
  end
  return table.concat(lines, "\n")
end

return M
