-- AdamW against its formula in plain Lua; masters of 16-bit parameters; the norm; saved state.
local ffi = require("ffi")
local native = require("lucid.native")
local plain = require("tests.oracle.plain")
local check = require("tests.support.check")
local C = native.C

local B1, B2, EPS, DECAY, LR = 0.9, 0.95, 1e-6, 0.1, 3e-2

local function optimizer()
  return ffi.gc(C.lc_adamw_new(B1, B2, EPS, DECAY), C.lc_adamw_free)
end

local function parameter(n, dtype, stream)
  local values = plain.array({ n }, function(i) return C.lc_uniform(1, stream or 0, i) - 0.5 end)
  local t = check.tensor(values, dtype or "f32")
  check.done(C.lc_tensor_requires_grad(t, 1))
  return t
end

-- Sets the gradient of step t: numbers that differ from step to step.
local function set_gradient(p, t)
  local n = tonumber(C.lc_tensor_count(p))
  local g = plain.array({ n }, function(i) return C.lc_uniform(2, t, i) - 0.3 end)
  check.done(C.lc_tensor_set_grad(p, check.tensor(g, "f32")))
  return g
end

-- One step of the formula, in doubles. s = { x=, m=, v= }
local function formula(s, g, t, scale)
  for i = 1, #s.x do
    local gradient = g[i] * scale
    s.m[i] = B1 * s.m[i] + (1 - B1) * gradient
    s.v[i] = B2 * s.v[i] + (1 - B2) * gradient ^ 2
    local m, v = s.m[i] / (1 - B1 ^ t), s.v[i] / (1 - B2 ^ t)
    s.x[i] = s.x[i] - LR * DECAY * s.x[i] - LR * m / (math.sqrt(v) + EPS)
  end
end

local function state(p)
  local x = check.read(p)
  local function zeros() return plain.map(x, function() return 0 end) end
  return { x = x, m = zeros(), v = zeros() }
end

local function refused(pattern, status)
  assert.equal(-1, status)
  local message = ffi.string(C.lc_error())
  assert.truthy(message:find(pattern, 1, true), message)
end

describe("AdamW", function()
  it("follows its formula, and clears the gradients", function()
    local o = optimizer()
    local list, expected = {}, {}
    for k, n in ipairs { 1, 17, 20000, 0 } do
      list[k] = parameter(n, "f32", k)
      expected[k] = state(list[k])
      check.done(C.lc_adamw_add(o, list[k], "p" .. k))
    end
    for t = 1, 5 do
      for k, p in ipairs(list) do formula(expected[k], set_gradient(p, t), t, 0.5) end
      check.done(C.lc_adamw_step(o, LR, 0.5))
      for k, p in ipairs(list) do
        assert.is_true(check.distance(check.read(p), expected[k].x) < 1e-6, "step " .. t)
        assert.is_true(C.lc_tensor_grad(p) == nil)
      end
    end
    assert.equal(5, tonumber(C.lc_adamw_steps(o)))
  end)

  it("leaves a parameter without a gradient alone", function()
    local o, a, b = optimizer(), parameter(3), parameter(3)
    check.done(C.lc_adamw_add(o, a, "a"))
    check.done(C.lc_adamw_add(o, b, "b"))
    local before = check.read(b)
    set_gradient(a, 1)
    check.done(C.lc_adamw_step(o, LR, 1))
    assert.same(before, check.read(b))
  end)

  it("does not lose steps that are smaller than a bf16 weight can show", function()
    local o, p = optimizer(), parameter(64, "bf16")
    check.done(C.lc_adamw_add(o, p, "p"))
    local expected = state(p)
    local lr = LR
    LR = 1e-4 -- a step of 1e-4 on weights up to 0.5: a unit there is 2e-3
    for t = 1, 40 do
      formula(expected, set_gradient(p, t % 2), t, 1)
      check.done(C.lc_adamw_step(o, LR, 1))
    end
    LR = lr
    assert.is_true(check.distance(check.read(p), expected.x) < 3e-3)
    assert.is_true(check.distance(state(parameter(64, "bf16")).x, expected.x) > 5e-3)
  end)

  it("measures the norm of all gradients; NaN when it is not finite", function()
    local o, a, b = optimizer(), parameter(3), parameter(40000)
    check.done(C.lc_adamw_add(o, a, "a"))
    check.done(C.lc_adamw_add(o, b, "b"))
    assert.equal(0, C.lc_adamw_grad_norm(o))
    local sum = 0
    for k, p in ipairs { a, b } do
      for _, g in ipairs(set_gradient(p, k)) do sum = sum + g * g end
    end
    assert.near(1, C.lc_adamw_grad_norm(o) / math.sqrt(sum), 1e-6)
    check.done(C.lc_tensor_set_grad(a, check.tensor({ shape = { 3 }, 1, math.huge, 0 }, "f32")))
    local norm = C.lc_adamw_grad_norm(o)
    assert.is_true(norm ~= norm)
  end)

  it("refuses what it cannot train", function()
    local o, p = optimizer(), parameter(3)
    check.done(C.lc_adamw_add(o, p, "p"))
    refused("adamw: p is there already", C.lc_adamw_add(o, parameter(2), "p"))
    refused("a dense leaf of floats is expected",
      C.lc_adamw_add(o, native.adopt(C.lc_exp(p)), "q"))
    assert.is_true(C.lc_adamw_new(1, 0.9, 1e-8, 0) == nil)
    assert.truthy(ffi.string(C.lc_error()):find("betas in [0, 1)", 1, true))
  end)

  it("gives everything back when an allocation fails while a parameter is added", function()
    local o, p = optimizer(), parameter(3, "bf16")
    check.done(C.lc_adamw_add(o, parameter(2), "first")) -- the list has room now
    collectgarbage() -- what earlier tests left must not go in between
    collectgarbage()
    local before, n = tonumber(C.lc_memory_used()), 0
    repeat
      n = n + 1
      C.lc_memory_fail_at(n)
      local status = C.lc_adamw_add(o, p, "p")
      C.lc_memory_fail_at(0)
      if status ~= 0 then assert.equal(before, tonumber(C.lc_memory_used()), "failure " .. n) end
    until status == 0
    assert.is_true(n > 5)
  end)

  it("resumes to the bit from what it saved", function()
    local path = os.tmpname()
    local function train(first, last, o, list)
      for t = first, last do
        for _, p in ipairs(list) do set_gradient(p, t) end
        check.done(C.lc_adamw_step(o, LR, 1))
      end
    end
    local function set_up()
      local o, list = optimizer(), { parameter(33, "f32", 1), parameter(5, "bf16", 2) }
      for k, p in ipairs(list) do check.done(C.lc_adamw_add(o, p, "layer." .. k)) end
      return o, list
    end
    local o, list = set_up()
    train(1, 3, o, list)
    local w = C.lc_writer_new(path)
    check.done(C.lc_adamw_save(o, w))
    check.done(C.lc_writer_finish(w))
    local halfway = { check.read(list[1]), check.read(list[2]) }
    train(4, 6, o, list)

    local again, copies = set_up()
    local c = ffi.gc(C.lc_checkpoint_open(path), C.lc_checkpoint_close)
    assert.is_true(c ~= nil, ffi.string(C.lc_error()))
    for k, p in ipairs(copies) do
      check.done(C.lc_tensor_copy(p, check.tensor(halfway[k], "f32")))
    end
    check.done(C.lc_adamw_load(again, c))
    assert.equal(3, tonumber(C.lc_adamw_steps(again)))
    train(4, 6, again, copies)
    for k in ipairs(list) do assert.same(check.read(list[k]), check.read(copies[k])) end

    local other = optimizer()
    check.done(C.lc_adamw_add(other, parameter(34), "layer.1"))
    refused("adamw: the saved layer.1.m is f32 [33], but the optimizer's is f32 [34]",
      C.lc_adamw_load(other, c))
    os.remove(path)
  end)
end)
