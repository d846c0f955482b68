-- The tape: what backward adds where, what it refuses, and that its memory comes back.
local ffi = require("ffi")
local native = require("lucid.native")
local plain = require("tests.oracle.plain")
local check = require("tests.support.check")
local C = native.C

local function tensor(shape, f, dtype)
  return check.tensor(plain.array(shape, f or function(i) return i end), dtype or "f32")
end

local function leaf(shape, f, dtype)
  local t = tensor(shape, f, dtype)
  check.done(C.lc_tensor_requires_grad(t, 1))
  return t
end

local adopt = native.adopt
local function grad(t) return check.read(native.borrow(C.lc_tensor_grad(t))) end

local function refused(pattern, status)
  assert.equal(-1, status)
  local message = ffi.string(C.lc_error())
  assert.truthy(message:find(pattern, 1, true), message)
end

describe("backward", function()
  it("adds up what reaches a tensor along several paths", function()
    local x = leaf { 3 }
    local y = adopt(C.lc_scale(x, 2))
    -- sum(2x * x + 2x + x) has the slope 4x + 3
    local loss = adopt(C.lc_sum(C.lc_add(C.lc_add(C.lc_mul(y, x), y), x)))
    check.done(C.lc_backward(loss))
    assert.same({ 7, 11, 15, shape = { 3 } }, grad(x))
  end)

  it("adds a second call's gradients to the first's", function()
    local x = leaf { 2 }
    for _ = 1, 2 do check.done(C.lc_backward(adopt(C.lc_sum(C.lc_mul(x, x))))) end
    assert.same({ 4, 8, shape = { 2 } }, grad(x))
    C.lc_tensor_zero_grad(x)
    assert.is_true(C.lc_tensor_grad(x) == nil)
  end)

  it("does not write into a gradient that two tensors share", function()
    local a, b = leaf { 2 }, leaf { 2 }
    local u, v = adopt(C.lc_scale(a, 1)), adopt(C.lc_scale(b, 1))
    -- add hands one dy to u and v; u gets more through its slice
    local s = adopt(C.lc_add(u, v))
    local loss = adopt(C.lc_add(C.lc_sum(s), C.lc_sum(C.lc_slice(u, 0, 0, 1))))
    check.done(C.lc_backward(loss))
    assert.same({ 2, 1, shape = { 2 } }, grad(a))
    assert.same({ 1, 1, shape = { 2 } }, grad(b))
  end)

  it("takes a gradient for a result of any shape and dtype", function()
    local x = leaf({ 2, 2 }, nil, "bf16")
    local y = adopt(C.lc_transpose(C.lc_scale(x, 3), 0, 1))
    check.done(C.lc_backward_from(y, tensor { 2, 2 }))
    assert.same({ 3, 9, 6, 12, shape = { 2, 2 } }, grad(x))
    assert.equal(C.LC_F32, C.lc_tensor_dtype(C.lc_tensor_grad(x)))
  end)

  it("of a leaf alone is one", function()
    local x = leaf {}
    check.done(C.lc_backward(x))
    assert.same({ 1, shape = {} }, grad(x))
  end)

  it("computes nothing for tensors that want no gradient", function()
    local x, w = leaf { 3 }, tensor { 3 }
    check.done(C.lc_backward(adopt(C.lc_sum(C.lc_mul(x, w)))))
    assert.is_true(C.lc_tensor_grad(w) == nil)
  end)

  it("goes through chains of any length", function()
    local x = leaf { 1 }
    local y = x
    for _ = 1, 20000 do y = adopt(C.lc_shift(y, 1)) end
    check.done(C.lc_backward(y))
    assert.same({ 1, shape = { 1 } }, grad(x))
  end)

  it("frees a long chain that nobody walks", function()
    local x = leaf { 1 }
    local before = tonumber(C.lc_memory_used())
    local y = C.lc_tensor_retain(x)
    for _ = 1, 20000 do
      local next = C.lc_tensor_adopt(C.lc_shift(y, 1))
      C.lc_tensor_release(y)
      y = next
    end
    C.lc_tensor_release(y)
    C.lc_tensor_adopt(nil)
    assert.is_true(tonumber(C.lc_memory_used()) <= before + 4096)
  end)

  it("consumes the tape: a second call is an error that says so", function()
    local x = leaf { 2 }
    local loss = adopt(C.lc_sum(C.lc_exp(x)))
    check.done(C.lc_backward(loss))
    refused("already consumed; run the forward pass again", C.lc_backward(loss))
    assert.same({ 2 }, grad(x).shape)
  end)

  it("refuses what is no loss", function()
    local x = leaf { 2 }
    refused("a loss has one element, this is f32 [2]", C.lc_backward(x))
    refused("nothing that made this f32 [] requires a gradient", C.lc_backward(tensor {}))
    refused("the result is f32 [2] but its gradient f32 [3]", C.lc_backward_from(x, tensor { 3 }))
  end)

  it("stops when it is interrupted", function()
    local x = leaf { 2 }
    local loss = adopt(C.lc_sum(C.lc_exp(x)))
    C.lc_interrupt(1)
    local status = C.lc_backward(loss)
    C.lc_interrupt(0)
    refused("backward: interrupted", status)
    assert.equal(C.LC_EINTR, C.lc_error_code())
  end)
end)

describe("recording", function()
  it("is off inside no_grad, also after an error", function()
    local x = leaf { 2 }
    pcall(native.no_grad, function()
      assert.equal(0, C.lc_tensor_wants_grad(adopt(C.lc_exp(x))))
      error("stop")
    end)
    assert.equal(1, C.lc_tensor_wants_grad(adopt(C.lc_exp(x))))
  end)

  it("stops at detach and at integers", function()
    local x = leaf { 2 }
    assert.equal(0, C.lc_tensor_wants_grad(adopt(C.lc_detach(x))))
    assert.equal(0, C.lc_tensor_wants_grad(adopt(C.lc_cast(x, C.LC_I32))))
    assert.equal(0, C.lc_tensor_wants_grad(adopt(C.lc_argmax(x))))
  end)

  it("is for leaves of floats to ask for", function()
    local x = leaf { 2 }
    refused("is the result of an op, not a leaf", C.lc_tensor_requires_grad(adopt(C.lc_exp(x)), 1))
    refused("has no gradients", C.lc_tensor_requires_grad(tensor({ 2 }, nil, "i32"), 1))
  end)
end)

describe("an op", function()
  local function fails(pattern, result)
    assert.is_true(result == nil)
    local message = ffi.string(C.lc_error())
    assert.truthy(message:find(pattern, 1, true), message)
  end

  it("given NULL returns NULL without a word", function()
    C.lc_error_clear()
    local none, x = ffi.cast("lc_tensor *", nil), tensor { 2 }
    assert.is_true(C.lc_add(none, x) == nil)
    assert.is_true(C.lc_softmax(C.lc_mul(x, none)) == nil)
    assert.is_true(C.lc_rms_norm(x, none, 1) == nil)
    assert.is_true(C.lc_view(none, 0, nil) == nil)
    assert.equal("", ffi.string(C.lc_error()))
  end)

  it("names itself, the shapes and the element that is wrong", function()
    local x, ids = tensor { 2, 3 }, tensor({ 2 }, function(i) return 5 * i end, "i32")
    fails("add: shapes do not fit: f32 [2, 3] and f32 [2]", C.lc_add(x, tensor { 2 }))
    fails("exp: i32 [2]; f32, bf16 or f16 is expected", C.lc_exp(ids))
    fails("view: f32 [2, 3]", C.lc_view(x, 1, check.dims { 4 }))
    fails("transpose: f32 [2, 3] has no dim 3", C.lc_transpose(x, 2, 0))
    fails("slice: ", C.lc_slice(x, 0, 1, 2))
    fails("cat: tensor 1 is f32 [2, 3] but tensor 2 is f32 [2]",
      C.lc_cat(2, ffi.new("lc_tensor *[2]", { x, tensor { 2 } }), 0))
    fails("rows: index 1 is 5, but it must be from 0 to 1", C.lc_rows(x, ids))
    fails("embedding: index 1 is 5, but it must be from 0 to 1", C.lc_embedding(x, ids))
    fails("rms_norm: x is f32 [2, 3] but", C.lc_rms_norm(x, tensor { 2 }, 1))
    fails("cross_entropy: target 1 is 5; 0 to 2", C.lc_cross_entropy(x, ids))
    fails("token_logps: row 1 is 5, but it must be from 0 to 1", C.lc_token_logps(x, x, ids, ids))
    fails("argmax: f32 [2, 0]", C.lc_argmax(tensor { 2, 0 }))
    fails("dpo_loss: argument 1 is f32 [2, 3]", C.lc_dpo_loss(x, x, x, x, 1))
  end)

  it("takes extreme numbers as the mathematics does", function()
    local huge, nan = math.huge, 0 / 0
    local x = tensor({ 6 }, function(i) return ({ huge, -huge, 1e4, -1e4, 0, nan })[i] end)
    local function values(t) return check.read(adopt(t)) end
    local function same(expected, got)
      for i, v in ipairs(expected) do
        assert.truthy(v == got[i] or (v ~= v and got[i] ~= got[i]), ("%d: %g"):format(i, got[i]))
      end
    end
    same({ huge, 0, huge, 0, 1, nan }, values(C.lc_exp(x)))
    same({ 1, 0, 1, 0, 0.5, nan }, values(C.lc_sigmoid(x)))
    same({ 0, -huge, 0, -1e4 }, values(C.lc_log_sigmoid(x)))
    same({ 1, -1, 1, -1, 0, nan }, values(C.lc_tanh(x)))
    same({ huge, nan, 1e4, 0, 0, nan }, values(C.lc_silu(x)))
    same({ huge, nan, 1e4, 0, 0, nan }, values(C.lc_gelu(x)))
    same({ huge, 0, 1e4, 0, 0, nan }, values(C.lc_relu(x)))
    same({ 2, -2, 2, -2, 0, nan }, values(C.lc_clamp(x, -2, 2)))
    same({ 0, 0, 1, 0 }, values(C.lc_softmax(tensor({ 4 }, function(i)
      return ({ -huge, -1e4, 1e4, 0 })[i]
    end))))
    same({ nan, nan }, values(C.lc_softmax(tensor({ 2 }, function() return -huge end))))
    same({ nan, nan, nan }, values(C.lc_softmax(tensor({ 3 }, function(i)
      return ({ 1, huge, 0 })[i]
    end))))
    same({ nan }, values(C.lc_mean(tensor { 0 })))
    same({ 1, 0, 0 }, values(C.lc_argmax(tensor({ 3, 3 }, function(i)
      return ({ 1, 7, 7, nan, nan, nan, -huge, -huge, -huge })[i]
    end))))
  end)

  it("gives a row the same bits whatever is beside it, wherever it lies, on any thread", function()
    local width = 71
    local function bits(t, at)
      local n = tonumber(C.lc_tensor_count(t))
      local values = ffi.new("float[?]", n)
      check.done(C.lc_tensor_read_f32(t, values, n))
      return ffi.string(values + at * width, width * 4)
    end
    local all = adopt(C.lc_tensor_randn(2, check.dims { 700, width }, C.LC_F32, C.LC_HOST, 5, 0))
    local w = adopt(C.lc_tensor_randn(1, check.dims { width }, C.LC_F32, C.LC_HOST, 5, 1))
    local ops = {
      gelu = C.lc_gelu, exp = C.lc_exp, softmax = C.lc_softmax, log_softmax = C.lc_log_softmax,
      rms_norm = function(x) return C.lc_rms_norm(x, w, 1e-5) end,
      layer_norm = function(x) return C.lc_layer_norm(x, w, w, 1e-5) end,
      swiglu = function(x) return C.lc_swiglu(x, x) end,
    }
    for name, op in pairs(ops) do
      local whole = adopt(op(all))
      for _, at in ipairs { 0, 1, 349, 699 } do
        local alone = adopt(op(C.lc_slice(all, 0, at, 1)))
        assert.is_true(bits(whole, at) == bits(alone, 0), name .. " of row " .. at)
      end
      C.lc_threads(1)
      local single = adopt(op(all))
      C.lc_threads(0)
      assert.is_true(bits(whole, 600) == bits(single, 600), name .. " on one thread")
    end
  end)
end)
