-- A step of preference training on a tiny LLaVA: what it asks of the model, what it hands to the loss.
local lucid = require "lucid"
local native = require "lucid.native"

local m = lucid.model(native.root .. "tests/golden/llava_tiny/classic", { dtype = "f32" })
local PAIRS = {
  { kind = "desc", prompt = { 1, 5, 9 }, chosen = { 30, 31, 32, 2 }, rejected = { 40, 2 } },
  { kind = "pope", prompt = { 1, 6 }, chosen = { 33, 2 }, rejected = { 33, 44, 45, 2 } },
  { kind = "pope", prompt = { 1, 7, 8 }, chosen = { 50, 2 }, rejected = { 51, 52, 2 } },
}
local BASE = m:base()

local function step(settings, reference) return lucid.dpo.step(m, reference or BASE, PAIRS, settings) end

-- The log of the sum of squared probabilities after each row of logits, in plain Lua.
local function log_squares(logits)
  local all = {}
  for i, row in ipairs(logits) do
    local sum, squares = 0, 0
    for _, x in ipairs(row) do sum, squares = sum + math.exp(x), squares + math.exp(2 * x) end
    all[i] = math.log(squares) - 2 * math.log(sum)
  end
  return all
end

describe("a model's log_squares", function()
  it("are those of its logits, token by token", function()
    local f = lucid.forest.of { { ids = { 1, 5, 9, 30, 31, 32, 2 }, score_from = 4 } }
    lucid.no_grad(function()
      local _, _, _, got = m:token_logps(f, { log_squares = true })
      local want = log_squares(m:logits(f):tolist())
      for i, v in ipairs(got:tolist()) do assert.is_near(want[i + 2], v, 1e-5) end
      assert.equal(4, got:count())
    end)
  end)

  it("are there when they are asked for", function()
    local f = lucid.forest.pairs(PAIRS)
    lucid.no_grad(function()
      assert.is_nil(m:pairs(f).log_squares)
      assert.equal(17, m:pairs(f, { log_squares = true }).log_squares:count())
    end)
  end)
end)

describe("a step of preference training", function()
  it("weighs pairs by their likelihood, also losses that TRL cannot", function()
    local f = lucid.forest.pairs(PAIRS)
    lucid.no_grad(function()
      local p = m:pairs(f, { log_squares = true })
      local tokens, squares, weights = p.tokens:tolist(), p.log_squares:tolist(), {}
      for pair = 1, 3 do
        local exponent = 0
        for answer = 2 * pair - 1, 2 * pair do
          local n = p.first[answer + 1] - p.first[answer]
          for i = p.first[answer], p.first[answer + 1] - 1 do exponent = exponent + (tokens[i] - squares[i]) / n end
        end
        weights[pair] = math.exp(exponent)
      end
      local mean = (weights[1] + weights[2] + weights[3]) / 3
      local weighted = { use_weighting = true }
      assert.is_near(mean, step({ loss = "hinge", options = weighted }):item(), 1e-5 * mean)    -- no margin yet
      local plain = step({ loss = "sft" }):item()
      assert.is_near(plain * mean, step({ loss = "sft", options = weighted }):item(), 1e-5 * plain * mean)
    end)
  end)

  it("asks no reference where there is none", function()
    local none = { pairs = function() error("the reference was asked") end }
    local loss, stats = step({ loss = "sigmoid", reference_free = true, options = { beta = 0.3 } }, none)
    local p = m:pairs(lucid.forest.pairs(PAIRS))
    assert.is_near(lucid.loss.sigmoid(p, nil, { beta = 0.3 }):item(), loss:item(), 1e-6)
    assert.is_near(0.3 * stats["logps/chosen"], stats["rewards/chosen"], 1e-5)
  end)

  it("hands the loss its state, which stays", function()
    local settings = { loss = "sigmoid:0.5,bco_pair", state = {} }
    for count = 1, 2 do
      step(settings)
      assert.equal(count, settings.state.bco_pair.count)
    end
  end)

  it("weighs kinds by their means", function()
    local even = step({ loss = "sft", kind_weights = { desc = 2, pope = 3 } })
    local p = m:pairs(lucid.forest.pairs(PAIRS))
    local chosen, n = p.chosen:tolist(), { 4, 2, 2 }
    local want = -2 * chosen[1] / n[1] - 3 * (chosen[2] / n[2] + chosen[3] / n[3]) / 2
    assert.is_near(want, even:item(), 1e-4)
  end)
end)

describe("pairs that are held out", function()
  local heldout = require "lucid.heldout"

  it("are measured as a step would log them, whatever is measured together", function()
    local settings = { loss = "sigmoid:0.5,sft", options = { beta = 0.2 }, kind_weights = { pope = 9 }, state = {} }
    local _, want = step { loss = "sigmoid:0.5,sft", options = { beta = 0.2 } }
    local whole = heldout.measure(m, BASE, PAIRS, 3, settings)
    assert.is_near(want.loss:item(), whole.loss, 1e-5)
    local apart = heldout.measure(m, BASE, PAIRS, 2, { loss = "hinge" })
    local together = heldout.measure(m, BASE, PAIRS, 3, { loss = "hinge" })
    for name, value in pairs(together) do assert.is_near(value, apart[name], 1e-4, name) end
    assert.is_nil(together.count)
  end)

  it("leave what the loss remembers alone", function()
    local settings = { loss = "bco_pair", state = { bco_pair = { mean = 3, count = 5 } } }
    heldout.measure(m, BASE, PAIRS, 3, settings)
    assert.same({ bco_pair = { mean = 3, count = 5 } }, settings.state)
  end)
end)
