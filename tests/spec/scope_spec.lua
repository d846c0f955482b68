-- Scopes: when storage goes, what outlives it, how a dead handle answers; and what happens when the
-- n-th allocation of a step fails, for every n.
local ffi = require("ffi")
local native = require("lucid.native")
local plain = require("tests.oracle.plain")
local check = require("tests.support.check")
local C = native.C
local adopt = native.adopt

local function tensor(shape, dtype)
  return check.tensor(plain.array(shape, function(i) return i % 7 / 7 end), dtype or "f32")
end

local function leaf(shape)
  local t = tensor(shape)
  check.done(C.lc_tensor_requires_grad(t, 1))
  return t
end

local function used() return tonumber(C.lc_memory_used()) end

local function dead(t, call)
  assert.equal(0, C.lc_tensor_alive(t))
  C.lc_error_clear()
  local result = call(t)
  assert.truthy(result == nil or result == -1)
  local message = ffi.string(C.lc_error())
  assert.truthy(message:find("was released at the end of its scope", 1, true), message)
end

describe("a scope", function()
  it("frees what was born in it, whoever holds it", function()
    local before = used()
    check.done(C.lc_scope_begin())
    local t = tensor { 1000 }
    assert.is_true(used() >= before + 4000)
    check.done(C.lc_scope_end())
    assert.is_true(used() < before + 1000)
    dead(t, C.lc_exp)
    dead(t, function(x) return C.lc_tensor_write_f32(x, ffi.new("float[1000]"), 1000) end)
    dead(t, function(x) return C.lc_tensor_read_f32(x, ffi.new("float[1000]"), 1000) end)
    dead(t, C.lc_tensor_keep)
    dead(t, C.lc_backward)
    dead(t, C.lc_detach)
    dead(t, function(x) return C.lc_tensor_requires_grad(x, 1) end)
    assert.equal(1000, tonumber(C.lc_tensor_count(t))) -- its shape is still known
  end)

  it("keeps what is kept, and hands what leaves to the scope around it", function()
    check.done(C.lc_scope_begin())
    local kept, left
    check.done(C.lc_scope_begin())
    kept, left = tensor { 3 }, tensor { 3 }
    check.done(C.lc_tensor_keep(kept))
    check.done(C.lc_tensor_leave(left))
    check.done(C.lc_scope_end())
    assert.equal(1, C.lc_tensor_alive(kept))
    assert.equal(1, C.lc_tensor_alive(left))
    check.done(C.lc_scope_end())
    assert.equal(1, C.lc_tensor_alive(kept))
    dead(left, C.lc_exp)
  end)

  it("frees the views of a tensor with it", function()
    local outer = tensor { 4 }
    check.done(C.lc_scope_begin())
    local view_of_outer = adopt(C.lc_slice(outer, 0, 1, 2))
    local view = adopt(C.lc_slice(tensor { 4 }, 0, 1, 2))
    check.done(C.lc_scope_end())
    assert.equal(1, C.lc_tensor_alive(view_of_outer)) -- its storage was born outside
    dead(view, C.lc_contiguous)
  end)

  it("leaves what is born outside of all scopes alone", function()
    check.done(C.lc_scope_begin())
    C.lc_scope_outside(1)
    local t = tensor { 3 }
    C.lc_scope_outside(0)
    check.done(C.lc_scope_end())
    assert.equal(1, C.lc_tensor_alive(t))
    assert.equal(-1, C.lc_scope_outside(0))
  end)

  it("lets gradients of leaves outlive it", function()
    local w = leaf { 5 }
    check.done(C.lc_scope_begin())
    check.done(C.lc_backward(adopt(C.lc_sum(C.lc_mul(w, tensor { 5 })))))
    check.done(C.lc_scope_end())
    local g = native.borrow(C.lc_tensor_grad(w))
    assert.equal(1, C.lc_tensor_alive(g))
    assert.same(check.read(tensor { 5 }), check.read(g))
  end)

  it("takes its tape with it: a loss that is kept cannot be walked later", function()
    local w = leaf { 5 }
    check.done(C.lc_scope_begin())
    local loss = adopt(C.lc_sum(C.lc_mul(C.lc_exp(w), w)))
    check.done(C.lc_tensor_keep(loss))
    check.done(C.lc_scope_end())
    assert.equal(1, C.lc_tensor_alive(loss))
    assert.equal(-1, C.lc_backward(loss))
    assert.truthy(ffi.string(C.lc_error()):find("backward of", 1, true))
  end)

  it("closes when the function raises, and gives the error on", function()
    local depth = C.lc_scope_depth()
    local ok, message = pcall(native.scope, function() error("inside") end)
    assert.is_false(ok)
    assert.truthy(tostring(message):find("inside", 1, true))
    assert.equal(depth, C.lc_scope_depth())
  end)

  it("cannot be left open by a coroutine that yields", function()
    local depth = C.lc_scope_depth()
    local function run(f) return coroutine.resume(coroutine.create(f)) end
    local ok, message = run(function() native.scope(coroutine.yield, 1) end)
    assert.is_false(ok)
    assert.truthy(tostring(message):find("cannot yield while its scope is open", 1, true), message)
    assert.equal(depth, C.lc_scope_depth())
    -- Outside of its own scopes, also within one of its caller's, a coroutine yields as ever.
    local co = coroutine.wrap(function()
      native.scope(function() end)
      coroutine.yield "after"
    end)
    assert.equal("after", native.scope(co))
  end)

  it("cannot be closed twice", function()
    if C.lc_scope_depth() == 0 then assert.equal(-1, C.lc_scope_end()) end
  end)
end)

describe("memory", function()
  it("has a limit, and says how much was asked", function()
    C.lc_memory_limit(used() + 10000)
    local t = C.lc_tensor_new(1, check.dims { 1000000 }, C.LC_F32, C.LC_HOST)
    C.lc_memory_limit(0)
    assert.is_true(t == nil)
    assert.equal(C.LC_ENOMEM, C.lc_error_code())
    assert.truthy(ffi.string(C.lc_error()):find("4000000 bytes", 1, true))
  end)

  it("refuses sizes that overflow", function()
    for _, shape in ipairs { { 2 ^ 40, 2 ^ 40 }, { 0, 2 ^ 40, 2 ^ 40 }, { 2 ^ 62 } } do
      assert.is_true(C.lc_tensor_new(#shape, check.dims(shape), C.LC_F32, C.LC_HOST) == nil)
      assert.equal(C.LC_ENOMEM, C.lc_error_code())
    end
    assert.is_true(C.lc_tensor_new(1, check.dims { -1 }, C.LC_F32, C.LC_HOST) == nil)
    assert.equal(C.LC_EINVAL, C.lc_error_code())
  end)
end)

-- ---- failing allocations -----------------------------------------------------------------------

-- A step through most ops; NULL or -1 at any place ends it. True when all of it worked.
local function step(x, w, head, ids, forest)
  local dims = check.dims
  local h = C.lc_rms_norm(C.lc_embedding(x, ids), w, 1e-5)
  h = C.lc_add(h, C.lc_linear(C.lc_swiglu(h, C.lc_gelu(h)), C.lc_transpose(head, 0, 0)))
  local parts = ffi.new("lc_tensor *[8]")
  for i = 0, 7 do parts[i] = C.lc_slice(h, 0, i % 3, 2) end
  for i = 0, 7 do if parts[i] == nil then return false end end
  local all = C.lc_cat(8, parts, 0)
  local turned = C.lc_rope(C.lc_view(all, 3, dims { 16, 2, 2 }), ids, 100)
  turned = C.lc_attention(turned, turned, turned, forest, 0.5)
  local flat = C.lc_layer_norm(C.lc_view(turned, 2, dims { 16, 4 }), w, w, 1e-5)
  local means = C.lc_mean_dim(C.lc_transpose(flat, 0, 1), 0)
  local sums = C.lc_mul(C.lc_sum_dim(C.lc_softmax(flat), 1), means)
  local logps = C.lc_token_logps(C.lc_cast(flat, C.LC_BF16), head, ids, ids)
  local loss = C.lc_sub(C.lc_cross_entropy(flat, ids), C.lc_mean(C.lc_mul(logps, sums)))
  loss = C.lc_add(loss, C.lc_dpo_loss(logps, sums, logps, sums, 0.1))
  return loss ~= nil and C.lc_backward(loss) == 0
end

describe("a step whose n-th allocation fails", function()
  it("fails with out of memory for every n, crashes never, and gives all memory back", function()
    local x, w, head = leaf { 4, 4 }, leaf { 4 }, leaf { 4, 4 }
    local ids = check.tensor(plain.array({ 16 }, function(i) return i % 4 end), "i32")
    local forest = ffi.gc(C.lc_forest_new(2, ffi.new("int32_t[2]", -1, 0),
      ffi.new("int32_t[2]", 9, 7), nil), C.lc_forest_release)
    local function whole(n)
      check.done(C.lc_scope_begin())
      C.lc_memory_fail_at(n)
      local done = step(x, w, head, ids, forest)
      C.lc_memory_fail_at(0)
      C.lc_tensor_adopt(nil)
      check.done(C.lc_scope_end())
      for _, t in ipairs { x, w, head } do C.lc_tensor_zero_grad(t) end
      return done
    end
    assert.is_true(whole(0), ffi.string(C.lc_error()))
    collectgarbage()
    collectgarbage()
    local before, failures = used(), 0
    for n = 1, 5000 do
      C.lc_error_clear()
      local done = whole(n)
      assert.equal(before, used(), "memory after failure " .. n)
      if done then break end
      failures = n
      local message = "failure " .. n .. ": " .. ffi.string(C.lc_error())
      assert.equal(C.LC_ENOMEM, C.lc_error_code(), message)
    end
    assert.is_true(failures > 100 and failures < 5000, failures .. " places to fail")
    assert.is_true(whole(0), "the step after all failures")
  end)
end)
