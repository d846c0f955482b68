-- The optimizer as training uses it: AdamW with clipping against the formula in plain Lua.
local lucid = require "lucid"
local checkpoint = require "lucid.checkpoint"
local native = require "lucid.native"
local folder = require "tests.support.folder"
local optim = require "lucid.optim"

local B1, B2, EPS, DECAY = 0.8, 0.95, 1e-6, 0.05
local SETTINGS = { betas = { B1, B2 }, eps = EPS, weight_decay = DECAY }
local SHAPES = { a = { 3 }, b = { 2, 4 }, c = { 1 } }

local function parameters()
  lucid.seed(4)
  local list = {}
  for _, name in ipairs { "a", "b", "c" } do
    list[#list + 1] = { name = name, tensor = lucid.randn(SHAPES[name]):requires_grad() }
  end
  return list
end

local function numbers(t) return t:view(-1):tolist() end

-- Gives every parameter a gradient by differentiating sum(w * p); the gradients w as lists.
local function differentiate(list, step)
  local loss, gradients = 0, {}
  for i, p in ipairs(list) do
    local w = {}
    for j = 1, p.tensor:count() do w[j] = math.sin(step * 7 + i * 3 + j) end
    gradients[i] = w
    loss = (p.tensor:view(-1) * lucid.tensor(w)):sum() + loss
  end
  loss:backward()
  return gradients
end

local function global_norm(gradients)
  local sum = 0
  for _, g in ipairs(gradients) do for _, x in ipairs(g) do sum = sum + x * x end end
  return math.sqrt(sum)
end

-- One step of Loshchilov and Hutter's algorithm 2 with the rate folded into the decay, as in PyTorch.
local function formula(s, gradients, step, lr, scale)
  for i, g in ipairs(gradients) do
    for j, x in ipairs(g) do
      x = x * scale
      s.m[i][j] = B1 * s.m[i][j] + (1 - B1) * x
      s.v[i][j] = B2 * s.v[i][j] + (1 - B2) * x * x
      local m, v = s.m[i][j] / (1 - B1 ^ step), s.v[i][j] / (1 - B2 ^ step)
      s.x[i][j] = s.x[i][j] * (1 - lr * DECAY) - lr * m / (math.sqrt(v) + EPS)
    end
  end
end

local function state_of(list)
  local s = { x = {}, m = {}, v = {} }
  for i, p in ipairs(list) do
    s.x[i], s.m[i], s.v[i] = numbers(p.tensor), {}, {}
    for j = 1, #s.x[i] do s.m[i][j], s.v[i][j] = 0, 0 end
  end
  return s
end

local function compare(s, list, tolerance)
  for i, p in ipairs(list) do
    for j, x in ipairs(numbers(p.tensor)) do
      assert.is_true(math.abs(x - s.x[i][j]) <= tolerance, ("%s[%d]: %.9g, not %.9g"):format(p.name, j, x, s.x[i][j]))
    end
  end
end

describe("the optimizer", function()
  for _, clip in ipairs { 0, 0.5, 100 } do
    it(("follows AdamW's formula, clipped at %g"):format(clip), function()
      local list = parameters()
      local s = state_of(list)
      local o = optim.adamw(list, { betas = SETTINGS.betas, eps = EPS, weight_decay = DECAY, clip = clip })
      for step = 1, 12 do
        local lr = 0.02 / step
        local gradients = differentiate(list, step)
        local norm = global_norm(gradients)
        local got = o:step(lr)
        assert.is_true(math.abs(got - norm) < 1e-5 * norm)      -- the norm before clipping
        formula(s, gradients, step, lr, clip > 0 and math.min(1, clip / (norm + 1e-6)) or 1)
        compare(s, list, 2e-6)
        for _, p in ipairs(list) do assert.is_nil(p.tensor.grad) end
      end
      assert.equal(12, o:steps())
    end)
  end

  it("raises on a gradient that is not finite, and changes nothing", function()
    local list = parameters()
    local o, before = optim.adamw(list, SETTINGS), state_of(list)
    differentiate(list, 1)
    list[2].tensor.grad = lucid.full({ 2, 4 }, 0 / 0)
    local ok, message = pcall(o.step, o, 0.1)
    assert.is_false(ok)
    assert.truthy(message:find("not finite", 1, true), message)
    compare(before, list, 0)
    assert.equal(0, o:steps())
  end)

  it("leaves a step out when its gradients are cleared", function()
    local list = parameters()
    local o, before = optim.adamw(list, SETTINGS), state_of(list)
    differentiate(list, 1)
    list[2].tensor.grad = lucid.full({ 2, 4 }, 1 / 0)
    local norm = o:norm()
    assert.is_true(norm ~= norm)
    o:clear()
    assert.equal(0, o:norm())
    compare(before, list, 0)
    assert.equal(0, o:steps())
  end)

  it("goes on from what was saved as if it had never stopped", function()
    local dir = folder.folder()
    local function run(from, to, list, o)
      for step = from, to do
        differentiate(list, step)
        o:step(0.03)
      end
    end
    local whole = parameters()
    run(1, 8, whole, optim.adamw(whole, SETTINGS))

    local first = parameters()
    local o = optim.adamw(first, SETTINGS)
    run(1, 4, first, o)
    local writer = native.check(native.C.lc_writer_new(dir .. "/state.safetensors"))
    o:save(writer)
    native.check(native.C.lc_writer_finish(writer))
    local second = parameters()
    for i, p in ipairs(second) do lucid.no_grad(function() p.tensor:copy(first[i].tensor:detach()) end) end
    local again = optim.adamw(second, SETTINGS)
    again:load(checkpoint.open(dir .. "/state.safetensors").handle)
    assert.equal(4, again:steps())
    run(5, 8, second, again)
    for i, p in ipairs(whole) do assert.same(numbers(p.tensor), numbers(second[i].tensor)) end
    folder.remove(dir)
  end)
end)
