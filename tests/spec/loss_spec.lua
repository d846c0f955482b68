-- Losses: values against the formulas in plain Lua, gradients against central differences of them,
-- and what is logged.
local lucid = require "lucid"

local CHOSEN, REJECTED = { -3.5, -20.25, -7, -1.5 }, { -4, -18, -9.5, -1.5 }
local REF_CHOSEN, REF_REJECTED = { -3, -21, -7.5, -2 }, { -3.25, -19, -9, -1 }
local COUNT, REJECTED_COUNT = { 4, 11, 6, 2 }, { 5, 9, 6, 1 }
local WEIGHTS = { 1, 4, 0.5, 2 }

local function tensors(chosen, rejected, grad)
  local t = { chosen = lucid.tensor(chosen), rejected = lucid.tensor(rejected), chosen_count = lucid.tensor(COUNT),
    rejected_count = lucid.tensor(REJECTED_COUNT) }
  if grad then
    t.chosen:requires_grad(true)
    t.rejected:requires_grad(true)
  end
  return t
end

local function log_sigmoid(x) return -math.log(1 + math.exp(-x)) end

local function mean(f, opt)
  local sum = 0
  for i = 1, #CHOSEN do sum = sum + f(i) * (opt.weights and opt.weights[i] or 1) end
  return sum / #CHOSEN
end

-- log ratio of one answer, and the scores that a divergence makes of it
local function ratio(logps, ref, i, opt) return logps[i] - (opt.free and 0 or ref[i]) end

local SCORE = {
  reverse_kl = function(x) return x end,
  forward_kl = function(x) return 1 - math.exp(-x) end,
  js_divergence = function(x) return math.log(2 / (1 + math.exp(-x))) end,
  alpha_divergence = function(x, alpha) return (math.exp((alpha - 1) * x) - 1) / (alpha - 1) end,
}

local function scores(c, r, i, opt)
  local f, alpha = SCORE[opt.f_divergence_type or "reverse_kl"], opt.f_alpha_divergence_coef or 0.5
  return f(ratio(c, REF_CHOSEN, i, opt), alpha), f(ratio(r, REF_REJECTED, i, opt), alpha)
end

-- A loss of beta * delta and the label smoothing; one of both rewards; one of a pair sorted otherwise.
local function of_delta(f)
  return function(c, r, opt)
    return mean(function(i)
      local chosen, rejected = scores(c, r, i, opt)
      return f(opt.beta * (chosen - rejected), opt.label_smoothing or 0)
    end, opt)
  end
end

local function of_means(f)
  return function(c, r, opt)
    return mean(function(i)
      local chosen, rejected = scores(c, r, i, opt)
      return f(chosen / COUNT[i] - rejected / REJECTED_COUNT[i], opt.beta)
    end, opt)
  end
end

local function of_rewards(f)
  return function(c, r, opt)
    return mean(function(i)
      return f(opt.beta * ratio(c, REF_CHOSEN, i, opt), opt.beta * ratio(r, REF_REJECTED, i, opt), opt.beta)
    end, opt)
  end
end

local function smoothed(h, e) return -(1 - e) * log_sigmoid(h) - e * log_sigmoid(-h) end

local function of_sorted(left, right)
  return function(c, r, opt)
    local a, b = {}, {}
    for i = 1, #c do a[i], b[i] = left(c, r, i, opt), right(c, r, i, opt) end
    table.sort(a)
    table.sort(b)
    return mean(function(i) return smoothed(opt.beta * (a[i] - b[i]), opt.label_smoothing or 0) end, opt)
  end
end

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end

-- name -> function(chosen, rejected, opt) in plain Lua; opt.free: without a reference
local FORMULA = {
  sigmoid = of_delta(smoothed),
  hinge = of_delta(function(h) return math.max(0, 1 - h) end),
  exo_pair = of_delta(function(h, e)
    local p = sigmoid(h)
    return p * math.log(p / (1 - e)) + (1 - p) * math.log((1 - p) / e)
  end),
  robust = of_delta(function(h, e) return (-(1 - e) * log_sigmoid(h) + e * log_sigmoid(-h)) / (1 - 2 * e) end),
  discopop = of_delta(function(h)
    local mix = sigmoid(h / 0.05)
    return -log_sigmoid(h) * (1 - mix) + math.exp(-h) * mix
  end),
  ipo = of_means(function(delta, beta) return (delta - 1 / (2 * beta)) ^ 2 end),
  sigmoid_norm = of_means(function(delta, beta) return -log_sigmoid(beta * delta) end),
  nca_pair = of_rewards(function(chosen, rejected)
    return -log_sigmoid(chosen) - (log_sigmoid(-chosen) + log_sigmoid(-rejected)) / 2
  end),
  bco_pair = of_rewards(function(chosen, rejected) return -log_sigmoid(chosen) - log_sigmoid(-rejected) end),
  sppo_hard = of_rewards(function(chosen, rejected, beta)
    return (chosen / beta - 0.5 / beta) ^ 2 + (rejected / beta + 0.5 / beta) ^ 2
  end),
  apo_zero = of_rewards(function(chosen, rejected) return 1 - sigmoid(chosen) + sigmoid(rejected) end),
  apo_down = of_rewards(function(chosen, rejected) return sigmoid(chosen) + 1 - sigmoid(chosen - rejected) end),
  aot = of_sorted(function(c, r, i) return c[i] - r[i] end,
    function(_, _, i, opt) return opt.free and 0 or REF_CHOSEN[i] - REF_REJECTED[i] end),
  aot_unpaired = of_sorted(function(c, _, i, opt) return ratio(c, REF_CHOSEN, i, opt) end,
    function(_, r, i, opt) return ratio(r, REF_REJECTED, i, opt) end),
  sft = function(c, _, opt)
    if opt.weights then return mean(function(i) return -c[i] / COUNT[i] end, opt) end
    local sum, n = 0, 0
    for i = 1, #c do sum, n = sum + c[i], n + COUNT[i] end
    return -sum / n
  end,
}
local NEEDS = { exo_pair = { label_smoothing = 0.1 }, bco_pair = { bco_shift = "none" } }
local SMOOTHED = { "sigmoid", "exo_pair", "robust", "aot", "aot_unpaired" }
local DIVERGENT = { "sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft" }
local SORTS = { aot = true, aot_unpaired = true }

-- Options as they are given: those of the formula with what the loss cannot do without, weights as a tensor.
local function given(name, opt)
  local all = {}
  for key, value in pairs(NEEDS[name] or {}) do all[key] = value end
  for key, value in pairs(opt) do all[key] = value end
  all.free, all.weights = nil, opt.weights and lucid.tensor(opt.weights) or nil
  return all
end

local function check(name, opt)
  local formula, all = FORMULA[name], given(name, opt)
  local policy = tensors(CHOSEN, REJECTED, true)
  local reference = not opt.free and tensors(REF_CHOSEN, REF_REJECTED) or nil
  local loss, stats = lucid.loss[name](policy, reference, all)
  all.weights, all.free = opt.weights, opt.free
  local expected = formula(CHOSEN, REJECTED, all)
  assert.is_true(math.abs(loss:item() - expected) <= 1e-5 * math.max(1, math.abs(expected)), name)
  loss:backward()
  for side, values in pairs { chosen = CHOSEN, rejected = REJECTED } do
    local grad = policy[side].grad and policy[side].grad:tolist() or { 0, 0, 0, 0 }
    for i = 1, #values do
      local function at(x)
        local moved = { unpack(values) }
        moved[i] = x
        if side == "chosen" then return formula(moved, REJECTED, all) end
        return formula(CHOSEN, moved, all)
      end
      local slope = (at(values[i] + 1e-4) - at(values[i] - 1e-4)) / 2e-4
      assert.is_true(math.abs(grad[i] - slope) <= 1e-4 * math.max(1, math.abs(slope)), name .. " " .. side .. i)
    end
  end
  return stats
end

local function refused(words, name, opt, reference)
  if reference == nil then reference = tensors(REF_CHOSEN, REF_REJECTED) end
  local ok, reason = pcall(function()
    return lucid.loss[name](tensors(CHOSEN, REJECTED), reference or nil, opt)
  end)
  assert.is_false(ok)
  assert.is_truthy(reason:find(words, 1, true), reason)
  assert.is_nil(reason:find("\n"))
end

describe("the loss", function()
  for name in pairs(FORMULA) do
    it(name .. " is its formula, with its gradient", function()
      check(name, { beta = 0.1 })
      check(name, { beta = 0.3, free = true })
      if not SORTS[name] then check(name, { beta = 0.5, weights = WEIGHTS }) end
    end)

    it(name .. " passes the gradient check", function()
      local options = given(name, { beta = 0.2 })
      lucid.gradcheck(function(chosen, rejected)
        local policy = tensors(CHOSEN, REJECTED)
        policy.chosen, policy.rejected = chosen, rejected or policy.rejected
        return (lucid.loss[name](policy, tensors(REF_CHOSEN, REF_REJECTED), options))
      end, name == "sft" and { lucid.tensor(CHOSEN) } or { lucid.tensor(CHOSEN), lucid.tensor(REJECTED) })
    end)
  end

  for name in pairs(FORMULA) do
    if not SORTS[name] and name ~= "sft" then
      it(name .. " of pairs is the mean of each pair's", function()
        local options, sum = given(name, { beta = 0.2 }), 0
        local function one(list, i) return lucid.tensor { list[i] } end
        for i = 1, 4 do
          local policy = { chosen = one(CHOSEN, i), rejected = one(REJECTED, i), chosen_count = one(COUNT, i),
            rejected_count = one(REJECTED_COUNT, i) }
          local reference = { chosen = one(REF_CHOSEN, i), rejected = one(REF_REJECTED, i) }
          sum = sum + lucid.loss[name](policy, reference, options):item() / 4
        end
        local all = lucid.loss[name](tensors(CHOSEN, REJECTED), tensors(REF_CHOSEN, REF_REJECTED), options):item()
        assert.is_near(all, sum, 1e-6 * math.max(1, all))
      end)
    end
  end

  for _, name in ipairs(SMOOTHED) do
    it(name .. " takes label smoothing", function() check(name, { beta = 0.2, label_smoothing = 0.2 }) end)
  end

  for _, name in ipairs(DIVERGENT) do
    it(name .. " is built on any divergence", function()
      for kind in pairs(SCORE) do check(name, { beta = 0.3, f_divergence_type = kind, f_alpha_divergence_coef = 1.7 }) end
    end)
  end

  it("is log 2 where policy and reference agree", function()
    local loss = lucid.loss.sigmoid(tensors(CHOSEN, REJECTED), tensors(CHOSEN, REJECTED), { beta = 0.1 })
    assert.is_near(math.log(2), loss:item(), 1e-6)
  end)

  it("may be a weighted sum, which logs its parts", function()
    local weighed = { beta = 0.1, label_smoothing = 0.1, bco_shift = "none", weights = lucid.tensor(WEIGHTS) }
    local policy = tensors(CHOSEN, REJECTED, true)
    local loss, stats = lucid.loss["sigmoid:0.8, bco_pair:0.2,sft"](policy, tensors(REF_CHOSEN, REF_REJECTED), weighed)
    local opt = { beta = 0.1, label_smoothing = 0.1, weights = WEIGHTS }
    local parts = {}
    for _, name in ipairs { "sigmoid", "bco_pair", "sft" } do
      parts[name] = FORMULA[name](CHOSEN, REJECTED, opt)
      assert.is_near(parts[name], stats["loss/" .. name]:item(), 1e-5)
    end
    assert.is_near(0.8 * parts.sigmoid + 0.2 * parts.bco_pair + parts.sft, loss:item(), 1e-5)
    assert.is_number(stats["rewards/margins"])
    loss:backward()
    assert.is_truthy(policy.chosen.grad)
  end)

  it("bco_pair shifts rewards by their running mean, which a table of numbers keeps", function()
    local state, seen = {}, {}
    for step = 1, 3 do
      local moved = {}
      for i, v in ipairs(CHOSEN) do moved[i] = v + step * step end
      local sum = 0
      for i = 1, 4 do sum = sum + 0.1 * (moved[i] - REF_CHOSEN[i] + REJECTED[i] - REF_REJECTED[i]) / 8 end
      seen[step] = sum
      local shift = 0
      for _, v in ipairs(seen) do shift = shift + v / step end
      local want = mean(function(i)
        return -log_sigmoid(0.1 * (moved[i] - REF_CHOSEN[i]) - shift)
          - log_sigmoid(shift - 0.1 * (REJECTED[i] - REF_REJECTED[i]))
      end, {})
      local loss = lucid.loss.bco_pair(tensors(moved, REJECTED), tensors(REF_CHOSEN, REF_REJECTED), { state = state })
      assert.is_near(want, loss:item(), 1e-5)
      state = lucid.json.decode(lucid.json.encode(state))      -- as a checkpoint holds it
      assert.equal(step, state.bco_pair.count)
    end
  end)

  it("logs under TRL's names", function()
    local stats = check("sigmoid", { beta = 0.1 })
    local chosen, rejected, won = 0, 0, 0
    for i = 1, 4 do
      local c, r = 0.1 * (CHOSEN[i] - REF_CHOSEN[i]), 0.1 * (REJECTED[i] - REF_REJECTED[i])
      chosen, rejected, won = chosen + c / 4, rejected + r / 4, won + (c > r and 1 or 0)
    end
    assert.is_near(chosen, stats["rewards/chosen"], 1e-6)
    assert.is_near(rejected, stats["rewards/rejected"], 1e-6)
    assert.is_near(chosen - rejected, stats["rewards/margins"], 1e-6)
    assert.equal(won / 4, stats["rewards/accuracies"])
    assert.is_near((-3.5 - 20.25 - 7 - 1.5) / 4, stats["logps/chosen"], 1e-6)
    assert.is_nil(check("sigmoid", { beta = 0.1, free = true })["ref_logps/chosen"])
  end)

  it("refuses options that are wrong or that it does not take, in one line", function()
    refused("bta: losses have no such option; did you mean beta?", "sigmoid", { bta = 1 })
    refused("beta: 0 is out of range: more than 0", "sigmoid", { beta = 0 })
    refused("beta: a number is expected, this is a string", "sigmoid", { beta = "big" })
    refused("label_smoothing: 0.5 is out of range: at least 0 and less than 0.5", "robust", { label_smoothing = 0.5 })
    refused("label_smoothing: the loss hinge does not take it", "hinge", { label_smoothing = 0.1 })
    refused("label_smoothing: exo_pair needs more than 0", "exo_pair", {})
    refused("ld_alpha: 2 is out of range: at least 0 and at most 1", "sigmoid", { ld_alpha = 2 })
    refused("ld_alpha: the tokens' own", "sigmoid", { ld_alpha = 0.5 })
    refused("use_weighting: it needs the policy's log_squares", "sigmoid", { use_weighting = true })
    refused("use_weighting: the loss aot does not take it", "aot", { use_weighting = true })
    refused("weights: the loss aot_unpaired", "sigmoid,aot_unpaired", { weights = lucid.tensor(WEIGHTS) })
    refused("'js' is none of reverse_kl, forward_kl, js_divergence, alpha_divergence", "sigmoid",
      { f_divergence_type = "js" })
    refused("f_divergence_type: the loss nca_pair", "sigmoid,nca_pair", { f_divergence_type = "forward_kl" })
    refused("without a reference there is no forward_kl", "sigmoid", { f_divergence_type = "forward_kl" }, false)
    refused("discopop_tau: the loss ipo", "sigmoid,ipo", { discopop_tau = 1 })
    refused("a weight is above 0", "sigmoid:0,ipo", {})
    refused("there is no loss 'bco'", "sigmoid,bco", {})
    refused("a loss's name is expected", ",", {})
  end)

  it("accepts the default of an option that it does not take", function()
    lucid.loss.hinge(tensors(CHOSEN, REJECTED), nil, { label_smoothing = 0, use_weighting = false, ld_alpha = 1 })
  end)

  it("is found by name or by file, or refused", function()
    local path = os.tmpname() .. ".lua"
    local f = assert(io.open(path, "w"))
    f:write("return function(policy) return policy.chosen:sum(), {} end")
    f:close()
    assert.is_near(-32.25, lucid.loss[path](tensors(CHOSEN, REJECTED)):item(), 1e-5)
    local sum = lucid.loss["sft," .. path .. ":2"](tensors(CHOSEN, REJECTED), nil, { own = 1 })
    assert.is_near(-64.5 + 32.25 / 23, sum:item(), 1e-5)
    os.remove(path)
    local ok, reason = pcall(function() return lucid.loss.sigmoidal end)
    assert.is_false(ok)
    assert.is_truthy(reason:find("there is no loss 'sigmoidal'", 1, true))
  end)
end)
