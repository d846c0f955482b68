-- Preference training on pairs: what the HA-DPO recipes share. A step is six calls (batch, policy,
-- reference, loss, backward, optimizer step); a recipe that wants another step writes its own.
local args = require "lucid.args"
local native = require "lucid.native"
local forest = require "lucid.forest"
local tensor = require "lucid.tensor"
local loss = require "lucid.loss"
local cycle = require "lucid.cycle"
local preference = require "lucid.preference"
local start = require "lucid.start"

local M = {}

--- What recipes of preference training share: the loss and its options (groups = { lucid.dpo.OPTIONS }).
M.OPTIONS = { title = "the loss",
  { "loss", "sigmoid", "a name (sigmoid is DPO), a sum (sigmoid:0.8,bco_pair:0.2,sft:1) or a .lua file" },
  { "reference-free", false, "leave the reference out" },
  { "gamma", 0, "weight of the chosen answers' cross-entropy beside the loss" },
}
for _, o in ipairs(preference.OPTIONS) do
  local rule = o[4] or {}
  table.insert(M.OPTIONS, { o[1]:gsub("_", "-"), o[2], o[3], { choices = rule.choices, max = rule.max } })
end

---@class lucid.EncodedPair
---@field id string
---@field kind string           "desc" or "pope"
---@field image any
---@field prompt integer[]
---@field chosen integer[]      with the end token
---@field rejected integer[]

--- Turns pairs { id, kind, image, question, chosen, rejected } into ids, as the model's template has it.
---@return lucid.EncodedPair[]
function M.encode(model, list)
  local tk, out, prompts = model.tokenizer, {}, {}
  for i, p in ipairs(list) do
    local prompt = prompts[p.question]
    if not prompt then
      prompt = model.template:tokens(tk, p.question, { train = true })
      prompts[p.question] = prompt
    end
    out[i] = { id = p.id, kind = p.kind, image = model:picture(p.image, p.question), prompt = prompt,
      chosen = model.template:answer(tk, p.chosen), rejected = model.template:answer(tk, p.rejected) }
  end
  return out
end

--- "desc:16,pope:64" -> { desc = 16, pope = 64 }, in order under [1], [2].
function M.mix(text)
  local mix = {}
  for item in text:gmatch("[^,]+") do
    local kind, count = item:match("^%s*([%w_]+):(%d+)%s*$")
    if not kind then error(("'%s' is not KIND:COUNT"):format(item), 0) end
    mix[#mix + 1], mix[kind] = kind, tonumber(count)
    if mix[kind] < 1 then error(("'%s': counts are 1 or more"):format(item), 0) end
  end
  if #mix == 0 then error(("'%s' is not KIND:COUNT,KIND:COUNT"):format(text), 0) end
  return mix
end

--- How batches are drawn: next() gives a list of pairs. With opt.mix every batch has that many of each
--- kind; else all pairs (each kind repeated opt.repeats[kind] times) are shuffled every epoch and cut
--- into opt.batch at a time.
function M.sampler(encoded, opt)
  local kinds = {}
  for _, p in ipairs(encoded) do
    kinds[p.kind] = kinds[p.kind] or {}
    table.insert(kinds[p.kind], p)
  end
  if opt.mix then
    local draw = {}
    for _, kind in ipairs(opt.mix) do
      if not kinds[kind] then error("--mix: there are no pairs of the kind " .. kind, 0) end
      draw[kind] = cycle(kinds[kind], opt.seed, kind)
    end
    return function()
      local batch = {}
      for _, kind in ipairs(opt.mix) do
        for _ = 1, opt.mix[kind] do batch[#batch + 1] = draw[kind]() end
      end
      return batch
    end
  end
  local all = {}
  for _, p in ipairs(encoded) do
    for _ = 1, opt.repeats and opt.repeats[p.kind] or 1 do all[#all + 1] = p end
  end
  local draw, left = cycle(all, opt.seed, "all"), #all
  return function()
    local batch = {}
    for _ = 1, math.min(opt.batch, left) do batch[#batch + 1] = draw() end
    left = left - #batch
    if left == 0 then left = #all end
    return batch
  end, #all
end

-- Weights that make the mean over pairs the sum over kinds of weight * (mean of the kind).
local function weights_of(batch, kind_weights)
  local count, w = {}, {}
  for _, p in ipairs(batch) do count[p.kind] = (count[p.kind] or 0) + 1 end
  for i, p in ipairs(batch) do w[i] = (kind_weights[p.kind] or 1) * #batch / count[p.kind] end
  return w
end

--- Says on stderr what a run will do: pairs of each kind, steps, tokens a pair as separate sequences
--- and as a forest, trained parameters.
---@param opt table    { steps, skipped, over_long, held, quiet }
function M.plan(model, encoded, opt)
  if opt.quiet then return end
  local kinds, order, apart, together = {}, {}, 0, 0
  for _, p in ipairs(encoded) do
    if not kinds[p.kind] then order[#order + 1] = p.kind end
    kinds[p.kind] = (kinds[p.kind] or 0) + 1
    local answers = #p.chosen + #p.rejected
    apart = apart + 2 * #p.prompt + answers
    together = together + #p.prompt + answers
  end
  local rows = model.image_rows - 1
  local n = math.max(1, #encoded)
  local trained = 0
  for _, p in ipairs(model:parameters()) do trained = trained + p.tensor:count() end
  for i, kind in ipairs(order) do order[i] = ("%d %s"):format(kinds[kind], kind) end
  local parts = { table.concat(order, ", ") }
  local function count(number, what)
    if (number or 0) > 0 then parts[#parts + 1] = ("%d %s"):format(number, what) end
  end
  count(opt.skipped, "without their picture left out")
  count(opt.over_long, "too long left out")
  count(opt.held, "held out")
  io.stderr:write(("pairs: %s; %d steps; %.0f tokens a pair (%.0f as separate sequences); %d trained parameters\n"):format(
    table.concat(parts, ", "), opt.steps, together / n + rows, apart / n + 2 * rows, trained))
  local quantised = model:quantised()
  if quantised then io.stderr:write("base: ", quantised, "\n") end
end

---@class lucid.DpoOptions
---@field loss string               a loss's name, a sum of losses or a .lua file
---@field options table|nil         of the loss: { beta =, label_smoothing =, ... }
---@field reference_free boolean|nil
---@field gamma number|nil          weight of the chosen answers' token-mean NLL beside the loss
---@field kind_weights table|nil    { kind = weight }; each kind's mean loss counts that much
---@field state table|nil           what the loss remembers between steps; plain numbers, part of a checkpoint
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
  local _ = loss[opt.loss]                  -- a name that there is not is a failed run, not a wrong option
  local options = { weights = kind_weights }
  for _, o in ipairs(preference.OPTIONS) do options[o[1]] = opt[o[1]] end
  local ok, reason = pcall(loss.check, opt.loss, options)
  if not ok then args.usage(as_typed(reason)) end
  options.weights = nil                     -- M.step makes every batch's own
  return { loss = opt.loss, options = options, reference_free = opt.reference_free, gamma = opt.gamma,
    kind_weights = kind_weights, state = {} }
end

--- The loss of one batch of encoded pairs, and what to log.
---@param policy table
---@param reference table           policy:base(), or another model
---@param opt lucid.DpoOptions
function M.step(policy, reference, batch, opt)
  local f = forest.pairs(batch)
  local options = { state = opt.state }
  for name, v in pairs(opt.options or {}) do options[name] = v end
  if opt.kind_weights then options.weights = tensor(weights_of(batch, opt.kind_weights)) end
  local p = policy:pairs(f, { log_squares = options.use_weighting })
  local r = not opt.reference_free and native.no_grad(reference.pairs, reference, f) or nil
  if opt.compare and r then
    start.compare(p, r, batch)
    opt.compare = nil
  end
  local value, stats = loss[opt.loss](p, r, options)
  if opt.gamma and opt.gamma > 0 then
    local nll = p.chosen:sum() * (-1 / p.chosen_count:sum():item())
    value = value + opt.gamma * nll
    stats.nll = nll
  end
  stats.loss = value
  stats.count = #batch
  stats.tokens = f:tokens()
  return value, stats
end

--- Log-probabilities and rewards of pairs, without gradients: a list of { chosen, rejected,
--- reference_chosen, reference_rejected, chosen_tokens, rejected_tokens, margin }.
---@param policy table
---@param reference table
---@param batch lucid.EncodedPair[]
---@param beta number
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

--- Prints one pair token by token: place, id, piece, and for scored tokens the log-probability under
--- the policy and the reference.
---@param model table
---@param pair lucid.EncodedPair
function M.explain(model, pair)
  local f = forest.pairs { pair }
  local p = native.no_grad(model.token_logps, model, f)
  local r = native.no_grad(model.token_logps, model:base(), f)
  local policy, reference = p:tolist(), r:tolist()
  local function line(place, id, ...)
    local piece = id == forest.IMAGE and ("<image> (%d rows)"):format(model.image_rows) or model.tokenizer:piece(id)
    print((("%4d %6d  %-20s"):format(place, id, piece) .. ("%12.4f"):rep(select("#", ...))):format(...))
  end
  local picture = type(pair.image) == "table" and pair.image.picture or pair.image
  print(("pair %s (%s), picture %s\nprompt, not scored:"):format(tostring(pair.id), pair.kind, tostring(picture)))
  for i, id in ipairs(pair.prompt) do line(i, id) end
  local at = 0
  for _, side in ipairs { "chosen", "rejected" } do
    local sums = { 0, 0 }
    print(("%s, scored: %27s%12s"):format(side, "policy", "reference"))
    for i, id in ipairs(pair[side]) do
      at = at + 1
      line(#pair.prompt + i, id, policy[at], reference[at])
      sums[1], sums[2] = sums[1] + policy[at], sums[2] + reference[at]
    end
    print(("%33s%12.4f%12.4f"):format("sum", sums[1], sums[2]))
  end
end

return M
