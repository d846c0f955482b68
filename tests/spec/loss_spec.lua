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

local function margin(c, r, i, free)
  return c[i] - r[i] - (free and 0 or REF_CHOSEN[i] - REF_REJECTED[i])
end

-- name -> function(chosen, rejected, opt, reference-free) in plain Lua
local FORMULA = {
  sigmoid = function(c, r, opt, free)
    local e = opt.label_smoothing or 0
    return mean(function(i)
      local h = opt.beta * margin(c, r, i, free)
      return -(1 - e) * log_sigmoid(h) - e * log_sigmoid(-h)
    end, opt)
  end,
  hinge = function(c, r, opt, free)
    return mean(function(i) return math.max(0, 1 - opt.beta * margin(c, r, i, free)) end, opt)
  end,
  ipo = function(c, r, opt, free)
    return mean(function(i)
      local h = c[i] / COUNT[i] - r[i] / REJECTED_COUNT[i]
      if not free then h = h - (REF_CHOSEN[i] / COUNT[i] - REF_REJECTED[i] / REJECTED_COUNT[i]) end
      return (h - 1 / (2 * opt.beta)) ^ 2
    end, opt)
  end,
  sft = function(c, _, opt)
    if opt.weights then return mean(function(i) return -c[i] / COUNT[i] end, opt) end
    local sum, n = 0, 0
    for i = 1, #c do sum, n = sum + c[i], n + COUNT[i] end
    return -sum / n
  end,
}

local function check(name, opt, free)
  local formula = FORMULA[name]
  local policy = tensors(CHOSEN, REJECTED, true)
  local reference = not free and tensors(REF_CHOSEN, REF_REJECTED) or nil
  local given = { beta = opt.beta, label_smoothing = opt.label_smoothing,
    weights = opt.weights and lucid.tensor(opt.weights) or nil }
  local loss, stats = lucid.loss[name](policy, reference, given)
  local expected = formula(CHOSEN, REJECTED, opt, free)
  assert.is_true(math.abs(loss:item() - expected) <= 1e-5 * math.max(1, math.abs(expected)), name)
  loss:backward()
  for side, values in pairs { chosen = CHOSEN, rejected = REJECTED } do
    local grad = policy[side].grad and policy[side].grad:tolist() or { 0, 0, 0, 0 }
    for i = 1, #values do
      local function at(x)
        local moved = { unpack(values) }
        moved[i] = x
        if side == "chosen" then return formula(moved, REJECTED, opt, free) end
        return formula(CHOSEN, moved, opt, free)
      end
      local slope = (at(values[i] + 1e-4) - at(values[i] - 1e-4)) / 2e-4
      assert.is_true(math.abs(grad[i] - slope) <= 1e-4 * math.max(1, math.abs(slope)), name .. " " .. side .. i)
    end
  end
  return stats
end

describe("the loss", function()
  for name in pairs(FORMULA) do
    it(name .. " is its formula, with its gradient", function()
      check(name, { beta = 0.1 })
      check(name, { beta = 0.5, weights = WEIGHTS })
      check(name, { beta = 0.3 }, true)
    end)
  end

  it("sigmoid takes label smoothing", function()
    check("sigmoid", { beta = 0.2, label_smoothing = 0.1 })
  end)

  it("is log 2 where policy and reference agree", function()
    local loss = lucid.loss.sigmoid(tensors(CHOSEN, REJECTED), tensors(CHOSEN, REJECTED), { beta = 0.1 })
    assert.is_near(math.log(2), loss:item(), 1e-6)
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
  end)

  it("is found by name or by file, or refused", function()
    local path = os.tmpname() .. ".lua"
    local f = assert(io.open(path, "w"))
    f:write("return function(policy) return policy.chosen:sum(), {} end")
    f:close()
    assert.is_near(-32.25, lucid.loss[path](tensors(CHOSEN, REJECTED)):item(), 1e-5)
    os.remove(path)
    local ok, reason = pcall(function() return lucid.loss.sigmoidal end)
    assert.is_false(ok)
    assert.is_truthy(reason:find("there is no loss 'sigmoidal'", 1, true))
  end)
end)
