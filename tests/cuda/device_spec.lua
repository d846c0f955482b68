-- A device beside the host: where tensors are, what ops say of a mixture, memory, and numbers that must be the host's.
local ffi = require "ffi"
local golden = require "tests.support.golden"
local lucid = require "lucid"
local native = require "lucid.native"
local C = native.C

local function refused(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  for _, words in ipairs { ... } do assert.truthy(tostring(message):find(words, 1, true), message) end
end

local function both(shape, opt)
  local host = lucid.randn(shape, opt)
  return host, host:to("cuda")
end

local function same(a, b) assert.same(a:to("cpu"):tolist(), b:to("cpu"):tolist()) end

describe("a tensor on a device", function()
  it("says where it is, and goes there and back", function()
    local x = lucid.tensor({ { 1, 2, 3 }, { 4, 5, 6 } }, { device = "cuda" })
    assert.equal("cuda:0", x:device())
    assert.equal("cuda:0", (x * 2):device())
    assert.same({ { 1, 4 }, { 2, 5 }, { 3, 6 } }, x:t():to("cpu"):tolist())
    assert.equal("cpu", x:to("cpu"):device())
    assert.same({ { 4, 5, 6 } }, x:slice(1, 2):to("cpu"):tolist())
  end)

  it("keeps its numbers between dtypes and devices", function()
    for _, dtype in ipairs { "f32", "bf16", "f16", "i32", "u8" } do
      local host = lucid.tensor({ 0, 1, 2.5, 300, -7.25, 65504, 1e-7 }):to(dtype)
      local there = lucid.tensor({ 0, 1, 2.5, 300, -7.25, 65504, 1e-7 }, { device = "cuda" }):to(dtype)
      same(host, there)
      local copy = lucid.empty({ 7 }, { device = "cuda" })
      same(host:to("f32"), copy:copy(host))
      same(host:to("bf16"), lucid.empty({ 7 }, { dtype = "bf16" }):copy(there))
    end
  end)

  it("has gradients, also through the move", function()
    local x = lucid.tensor({ 1, 2, 3 }):requires_grad()
    local y = x:to("cuda")
    ;(y * y):sum():backward()
    assert.same({ 2, 4, 6 }, x.grad:tolist())
    assert.equal("cpu", x.grad:device())
  end)

  it("does not mix with the host's: the op, the shapes and the devices are named", function()
    local a, b = lucid.ones { 2, 3 }, lucid.ones({ 2, 3 }, { device = "cuda" })
    for name, f in pairs {
      add = function() return a + b end,
      matmul = function() return a:matmul(b:t()) end,
      cat = function() return lucid.cat { a, b } end,
      rms_norm = function() return b:rms_norm(lucid.ones { 3 }, 1e-5) end,
    } do refused(f, name .. ": ", "on cuda:0", "on the cpu", ":to") end
    refused(function() b:requires_grad():sum():backward(lucid.tensor(1)) end, "backward: ", "on the cpu")
  end)

  it("takes indices of the host", function()
    local table_ = lucid.tensor({ { 1, 2 }, { 3, 4 }, { 5, 6 } }, { device = "cuda" })
    assert.same({ { 5, 6 }, { 1, 2 }, { 5, 6 } }, table_:rows({ 3, 1, 3 }):to("cpu"):tolist())
    refused(function() return C.lc_rows(table_, lucid.tensor({ 7 }, { dtype = "i32", device = "cuda" })) == nil
      and native.fail() end, "index 1 is 7")
  end)

  it("is on the device that the process uses: another one is refused", function()
    refused(function() lucid.zeros({ 2 }, { device = "cuda:1" }) end, "cuda:1", "cuda:0")
    refused(function() lucid.zeros({ 2 }, { device = "gpu" }) end, "gpu", "cuda:N")
  end)
end)

describe("on the device", function()
  it("random numbers are the host's", function()
    for _, make in ipairs { lucid.randn, lucid.rand } do
      for _, dtype in ipairs { "f32", "bf16", "f16" } do
        same(make({ 3, 1031 }, { seed = 5, dtype = dtype }), make({ 3, 1031 }, { seed = 5, dtype = dtype, device = "cuda" }))
      end
    end
  end)

  it("quantised weights are the host's, and what fits no block is named", function()
    local host, there = both({ 7, 130 }, { seed = 1 })
    for _, kind in ipairs { "q8_0", "nf4", "fp4" } do
      for _, dtype in ipairs { "f32", "bf16" } do
        same(host:quantise(kind, dtype), there:quantise(kind, dtype))
        local x = lucid.randn({ 3, 130 }, { seed = 2 }):to(dtype)
        local y = x:linear(host:pack(kind))
        golden.agree(x:to("cuda"):linear(there:pack(kind)):to("cpu"), y, dtype == "f32" and 1e-5 or 1e-2, kind)
      end
    end
    local wild = lucid.tensor({ 1, 2, 1e30, 4, 1e31 }, { device = "cuda" })
    refused(function() wild:quantise("nf4") end, "element 3 is 1e+30")
  end)

  it("packed weights multiply few rows as the expanded ones do, each row as alone, and more rows as the host's", function()
    for _, dtype in ipairs { "bf16", "f16", "f32" } do
      for _, size in ipairs { { 37, 1344 }, { 16, 96 }, { 9, 50 } } do
        for _, kind in ipairs { "q8_0", "nf4", "fp4" } do
          local p = lucid.randn(size, { seed = 3, device = "cuda" }):pack(kind)
          local w, all = p:expand(dtype), lucid.randn({ 12, size[2] }, { seed = 4, dtype = dtype, device = "cuda" })
          for _, rows in ipairs { 1, 2, 3, 5, 8, 12 } do
            local x = all:slice(1, 1, rows)
            same(x:linear(w), x:linear(p))
          end
        end
      end
    end
  end)

  it("packed weights without a row, or for no row, make nothing", function()
    for _, kind in ipairs { "q8_0", "nf4" } do
      for _, size in ipairs { { 3, 0 }, { 0, 16 }, { 0, 0 } } do
        local x = lucid.zeros({ size[1], 64 }, { dtype = "bf16", device = "cuda" })
        local w = lucid.zeros({ size[2], 64 }, { device = "cuda" }):pack(kind)
        assert.same(size, x:linear(w):shape())
      end
    end
  end)

  it("argmax takes the first of equals and never NaN", function()
    local rows = { { 1, 3, 3, 0 / 0, 2 }, { 0 / 0, 0 / 0, 0 / 0, 0 / 0, 0 / 0 }, { -1, -1, -1, -1, -1 } }
    same(lucid.tensor(rows):argmax(), lucid.tensor(rows, { device = "cuda" }):argmax())
  end)

  it("a row without a softmax is NaN as a whole, and only that row", function()
    local rows = { { 1, math.huge, 2 }, { 1, 2, 3 }, { -math.huge, -math.huge, -math.huge } }
    local y = lucid.tensor(rows, { device = "cuda" }):softmax():tolist()
    for i = 1, 3 do
      assert.is_true(y[1][i] ~= y[1][i] and y[3][i] ~= y[3][i] and y[2][i] == y[2][i])
    end
  end)

  it("a row's bits do not depend on the rows around it", function()
    local x, w = lucid.randn({ 70, 333 }, { seed = 2, device = "cuda" }), lucid.randn({ 90, 333 }, { seed = 3, device = "cuda" })
    for _, f in ipairs {
      function(t) return t:linear(w) end, function(t) return t:softmax() end,
      function(t) return t:rms_norm(w:slice(1, 1):view(333), 1e-5) end,
    } do
      local whole = f(x):to("cpu"):tolist()
      local some = f(x:slice(1, 32, 40):contiguous()):to("cpu"):tolist()
      for i = 1, 9 do assert.same(whole[31 + i], some[i]) end
    end
  end)

  it("an optimizer's steps and norm are the host's", function()
    local steps = {}
    for _, device in ipairs { "cpu", "cuda" } do
      local p = {}
      for i, spec in ipairs { { { 5000 }, "f32" }, { { 3, 7 }, "bf16" }, { { 33 }, "f16" }, { { 1 }, "f32" } } do
        p[i] = { name = "p" .. i, tensor = lucid.randn(spec[1], { seed = i, dtype = spec[2], device = device }) }
        p[i].tensor:requires_grad()
      end
      local adamw = lucid.optim.adamw(p, { weight_decay = 0.1, clip = 1 })
      local norms = {}
      for step = 1, 3 do
        for i = 1, 4 do p[i].tensor.grad = lucid.randn(p[i].tensor:shape(), { seed = 10 * step + i, device = device }) end
        norms[step] = adamw:step(1e-2)
      end
      steps[device] = { p = p, norms = norms }
    end
    for step = 1, 3 do assert.is_near(steps.cpu.norms[step], steps.cuda.norms[step], 1e-4) end
    for i = 1, 4 do
      local a, b = steps.cpu.p[i].tensor:to("f32"), steps.cuda.p[i].tensor:to("cpu"):to("f32")
      local off = (a - b):abs():sum():item() / a:abs():sum():item()
      assert.is_true(off < (i == 1 and 1e-6 or 1e-3), i .. ": " .. off)
    end
  end)
end)

describe("memory of the device", function()
  local function bytes(what) return tonumber(C.lc_device_memory(what)) end

  it("is counted, also by what it is for, and given back", function()
    collectgarbage()
    collectgarbage()
    local held, activations = bytes "held", bytes "activations"
    lucid.scope(function()
      local x = lucid.zeros({ 1000, 100 }, { device = "cuda" })
      assert.is_true(bytes "held" >= held + 400000 and bytes "held" < held + 402000)
      assert.is_true(bytes "activations" >= activations + 400000)
      assert.is_true(x:device() == "cuda:0" and bytes "peak" >= bytes "held")
    end)
    assert.equal(held, bytes "held")
    assert.equal(activations, bytes "activations")
    assert.equal(-1, bytes "nothing")
  end)

  it("can be used again at once, in any sizes", function()
    local reserved
    for turn = 1, 30 do
      lucid.scope(function()
        local list = {}
        for i = 1, 20 do list[i] = lucid.zeros({ (i * 7919 * turn) % 5000 + 1 }, { device = "cuda" }) end
        for i = 1, 20 do assert.equal(0, list[i]:sum():item()) end
      end)
      if turn == 10 then reserved = bytes "reserved" end
    end
    assert.is_true(bytes "reserved" <= 2 * reserved)
  end)

  it("is filled from a ring: an upload of many times its size arrives whole, and small ones do not wait", function()
    local waits = function() return tonumber(C.lc_device_count "waits") end
    local host = lucid.randn({ 300000 }, { seed = 9 })
    local there = host:to "cuda"
    host:copy(lucid.zeros { 300000 })
    same(lucid.randn({ 300000 }, { seed = 9 }), there)
    local before = waits()
    for i = 1, 20 do lucid.tensor({ i, i + 1 }, { device = "cuda" }) end
    assert.equal(before, waits())
    assert.equal(-1, tonumber(C.lc_device_count "nothing"))
  end)

  it("has a budget; beyond it what was asked and what is held is said", function()
    C.lc_device_budget(bytes "reserved" + 1000)
    local ok, message = pcall(lucid.zeros, { 64 * 2 ^ 20 }, { device = "cuda" })
    C.lc_device_budget(0)
    assert.is_false(ok)
    for _, words in ipairs { "out of device memory: 268.4 MB asked", "held", "largest free block", "--batch" } do
      assert.truthy(message:find(words, 1, true), message)
    end
    assert.equal(C.LC_ENOMEM, C.lc_error_code())
    assert.equal(0, lucid.zeros({ 64 }, { device = "cuda" }):sum():item())
  end)

  it("has a name", function() assert.truthy(ffi.string(C.lc_device_name(0)):find("%a")) end)
end)
