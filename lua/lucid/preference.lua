-- Preference losses: what all of them share. A loss is a name, what it takes, and a function from the scores of
-- N pairs to N values; this file checks its options, makes the scores, weighs the values and averages them.
--
--   return preference { name = "hinge", divergence = true, losses = function(s, opt)
--     return (1 - s.delta * opt.beta):relu()
--   end }
--
-- What it makes is called as any loss: loss(policy, reference, opt) -> value, stats; reference nil: reference-free.
local divergence = require "lucid.divergence"
local options = require "lucid.options"
local rewards = require "lucid.rewards"
local tensor = require "lucid.tensor"

local M = {}

-- ---- options ------------------------------------------------------------------------------------

-- Every option of every loss, as lucid.args takes them: name, default, what it is, rule. A default changes
-- nothing, so a loss that does not take an option accepts that. every: in a sum of losses each one has to take it.
M.OPTIONS = {
  { "beta", 0.1, "strength of the pull to the reference", { above = 0 } },
  { "label_smoothing", 0, "share of pairs that are taken to be the wrong way round (sigmoid: cDPO)", { below = 0.5 } },
  { "f_divergence_type", "reverse_kl", "from the reference: reverse_kl, forward_kl, js_divergence or alpha_divergence",
    { choices = "reverse_kl forward_kl js_divergence alpha_divergence", every = true } },
  { "f_alpha_divergence_coef", 0.5, "alpha of alpha_divergence", { every = true } },
  { "ld_alpha", 1, "weight of the tokens by which an answer is longer than the pair's other one (LD-DPO)", { max = 1 } },
  { "use_weighting", false, "weigh pairs by how likely the policy finds both answers (WPO)", { every = true } },
  { "discopop_tau", 0.05, "temperature of discopop", { above = 0 } },
  { "bco_shift", "running", "what bco_pair takes off the rewards: their running mean, or none (TRL from 1.0 on)",
    { choices = "running none" } },
}

local OPTION, KNOWN = {}, { "weights", "state", "whole" }
for _, o in ipairs(M.OPTIONS) do
  OPTION[o[1]] = { default = o[2], rule = o[4] or {} }
  KNOWN[#KNOWN + 1] = o[1]
end
-- Tables that only a program gives: weights = [N]; state, where a loss keeps what it remembers between steps, plain
-- numbers that a checkpoint can hold; whole, the batch that these pairs are a part of: { pairs =, tokens = (of chosen
-- answers), counts = [N] or nil }, counts being how often each stands in it. A loss is then this part's share of the
-- whole batch's, so that the parts add up.
OPTION.weights, OPTION.state, OPTION.whole = { rule = { every = true } }, { free = true }, { free = true }

-- What is wrong with a value, or nil.
local function fault(option, value)
  local default, rule = option.default, option.rule
  if default == nil then return nil end
  if type(value) ~= type(default) then
    return ("a %s is expected, this is a %s"):format(type(default), type(value))
  end
  if type(default) == "number" then
    local least, most = rule.above or 0, rule.max or rule.below or math.huge
    local inside = value >= least and value <= most and value < math.huge and value ~= rule.above and value ~= rule.below
    if not inside then
      return ("%g is out of range: %s %g%s is possible"):format(value, rule.above and "more than" or "at least", least,
        most < math.huge and (" and %s %g"):format(rule.below and "less than" or "at most", most) or "")
    end
  elseif rule.choices and not (" " .. rule.choices .. " "):find(" " .. value .. " ", 1, true) then
    return ("'%s' is none of %s"):format(value, (rule.choices:gsub(" ", ", ")))
  end
end

local Loss = {}
Loss.__index = Loss

--- Whether a loss makes something of an option.
---@param name string
---@return boolean
function Loss:takes(name) return self.taken[name] == true end

--- Whether what the loss makes of a pair depends on which others are in its batch, so that parts of a batch do not
--- add up to the whole.
---@param opt table
---@return boolean
function Loss:joint(opt)
  if type(self.is_joint) == "function" then return self.is_joint(self:options(opt)) end
  return self.is_joint == true
end

--- A loss's own options of those that are given, which may be another loss's of the same sum; the rest are defaults.
---@param opt table
---@return table
function Loss:options(opt)
  local own = { weights = opt.weights, state = opt.state, whole = opt.whole }
  for _, o in ipairs(M.OPTIONS) do
    local name = o[1]
    own[name] = o[2]
    if opt[name] ~= nil and self:takes(name) then own[name] = opt[name] end
  end
  return own
end

-- Raises when one option is wrong for losses of this module.
local function check_option(losses, name, value)
  local option = OPTION[name]
  if not option then
    local near = options.nearest(tostring(name), KNOWN)
    error(("%s: losses have no such option%s"):format(tostring(name), near and "; did you mean " .. near .. "?" or ""), 0)
  end
  local wrong = fault(option, value)
  if wrong then error(("%s: %s"):format(name, wrong), 0) end
  if option.free or value == option.default then return end
  local users, refusing = 0, nil
  for _, loss in ipairs(losses) do
    if loss:takes(name) then users = users + 1 else refusing = loss.name end
  end
  if refusing and (users == 0 or option.rule.every) then
    error(("%s: the loss %s does not take it; lua/README.md says which losses do"):format(name, refusing), 0)
  end
end

--- Raises one line when an option is wrong, or when none of the losses makes something of it.
---@param losses table[]    what this module made
---@param opt table
function M.check(losses, opt)
  for name, value in pairs(opt) do check_option(losses, name, value) end
  for _, loss in ipairs(losses) do
    local missing = loss.demand and loss.demand(loss:options(opt))
    if missing then error(missing, 0) end
  end
end

-- ---- scores -------------------------------------------------------------------------------------

---@class lucid.PairScores
---@field chosen any           [N] the policy's sums of log-probabilities
---@field rejected any         [N]
---@field ref_chosen any|nil   [N] the reference's; nil: reference-free
---@field ref_rejected any|nil
---@field chosen_ratio any     [N] policy - reference
---@field rejected_ratio any   [N]
---@field chosen_score any     [N] the divergence's function of the ratio
---@field rejected_score any   [N]
---@field delta any            [N] chosen_score - rejected_score
---@field chosen_count any     [N] tokens
---@field rejected_count any   [N]
---@field policy lucid.PairLogps
---@field reference lucid.PairLogps|nil
---@field weighted boolean     whether the loss is more than the plain mean over these pairs

-- LD-DPO (Liu et al. 2024): the tokens behind the length of the pair's shorter answer count alpha.
local function desensitised(logps, alpha)
  local first, edges = logps.first, {}
  if not first then error("ld_alpha: the tokens' own log-probabilities are needed (tokens, first)", 0) end
  local n = (#first - 1) / 2
  for i = 1, n do
    local chosen, rejected, ends = first[2 * i - 1], first[2 * i], first[2 * i + 1]
    local shared = math.min(rejected - chosen, ends - rejected)
    for _, from in ipairs { chosen, rejected } do
      edges[#edges + 1], edges[#edges + 2] = from - 1, from - 1 + shared
    end
  end
  edges[#edges + 1] = first[#first] - 1
  local parts = logps.tokens:segment_sum(tensor(edges, { dtype = "i32" })):view(n, 2, 2)   -- pair, answer, part
  local function side(i)
    local answer = parts:slice(2, i, i)
    return (answer:slice(3, 1, 1) + answer:slice(3, 2, 2) * alpha):view(n)
  end
  return side(1), side(2)
end

local function sums(logps, opt)
  if opt.ld_alpha ~= 1 then return desensitised(logps, opt.ld_alpha) end
  return logps.chosen, logps.rejected
end

-- WPO (Zhou et al. 2024, its aligned weights): the product over both answers of the mean token's probability,
-- relative to the probability that a sampled token has on average. A weight, without gradient.
local function likelihoods(policy)
  if not policy.log_squares then
    error("use_weighting: it needs the policy's log_squares; call model:pairs(forest, { log_squares = true })", 0)
  end
  local first, from, counts = policy.first, {}, {}
  for i = 1, #first do from[i] = first[i] - 1 end
  for i = 1, #first - 1 do counts[i] = math.max(1, first[i + 1] - first[i]) end
  local aligned = (policy.tokens:detach() - policy.log_squares):segment_sum(tensor(from, { dtype = "i32" }))
  return (aligned / tensor(counts)):view(-1, 2):sum(2):exp()
end

local function scores(policy, reference, opt)
  local s = { policy = policy, reference = reference, chosen_count = policy.chosen_count,
    rejected_count = policy.rejected_count }
  s.chosen, s.rejected = sums(policy, opt)
  s.chosen_ratio, s.rejected_ratio = s.chosen, s.rejected
  if reference then
    s.ref_chosen, s.ref_rejected = sums(reference, opt)
    s.chosen_ratio, s.rejected_ratio = s.chosen - s.ref_chosen, s.rejected - s.ref_rejected
  elseif opt.f_divergence_type ~= "reverse_kl" then
    error(("f_divergence_type: without a reference there is no %s from it"):format(opt.f_divergence_type), 0)
  end
  local f, alpha = divergence[opt.f_divergence_type], opt.f_alpha_divergence_coef
  s.chosen_score, s.rejected_score = f(s.chosen_ratio, alpha), f(s.rejected_ratio, alpha)
  s.delta = s.chosen_score - s.rejected_score
  return s
end

-- ---- losses -------------------------------------------------------------------------------------

-- The mean over the batch's pairs of weight * loss. A loss that is one number for the whole batch (rank 0) counts as
-- if it were every pair's.
local function average(losses, weights, whole)
  if losses:dim() == 0 then return weights and losses * weights:mean() or losses end
  if weights then losses = losses * weights end
  if not whole then return losses:mean() end
  if whole.counts then losses = losses * whole.counts end
  return losses:sum() * (1 / whole.pairs)
end

--- The loss without the check of its options, among which another loss's may be.
---@param policy lucid.Model
---@param reference table|nil
---@param opt table
---@return lucid.Tensor, table
function Loss:run(policy, reference, opt)
  local own = self:options(opt)
  local s = scores(policy, reference, own)
  local weights = own.weights
  if own.use_weighting then
    local likely = likelihoods(policy)
    weights = weights and weights * likely or likely
  end
  local whole = own.whole
  s.weighted = weights ~= nil or whole ~= nil
  return average(self.losses(s, own), weights, whole), rewards.stats(s, own.beta, whole and whole.counts)
end

function Loss:__call(policy, reference, opt)
  opt = opt or {}
  M.check({ self }, opt)
  return self:run(policy, reference, opt)
end

---@class lucid.PreferenceSpec
---@field name string
---@field losses fun(s: lucid.PairScores, opt: table): any   [N], or one number for the batch
---@field options string|nil         what it takes beside what all take: "label_smoothing discopop_tau"
---@field divergence boolean|nil     whether it is built on scores, of any f-divergence; else on log ratios
---@field sorts boolean|nil          it sorts the pairs of a batch, so that none has a weight of its own
---@field joint (boolean|fun(opt: table): boolean)|nil   it depends on what else is in the batch
---@field across boolean|nil         and sums over processes what it needs to know of that (lucid.dist)
---@field demand (fun(opt: table): string|nil)|nil   what is missing: "OPTION: why"

--- A loss, which is called as loss(policy, reference, opt).
---@param spec lucid.PreferenceSpec
---@return table
function M.new(spec)
  local taken = { beta = true, ld_alpha = true }
  for name in (spec.options or ""):gmatch("%S+") do taken[name] = true end
  taken.f_divergence_type, taken.f_alpha_divergence_coef = spec.divergence, spec.divergence
  taken.weights, taken.use_weighting = not spec.sorts, not spec.sorts
  return setmetatable({ name = spec.name, losses = spec.losses, demand = spec.demand,
    is_joint = spec.joint or spec.sorts, across = spec.across, taken = taken }, Loss)
end

return setmetatable(M, { __call = function(_, spec) return M.new(spec) end })
