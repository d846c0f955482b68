-- The gate to the library: what a wrong call says, and which line it blames.
local ffi = require "ffi"
local lucid = require "lucid"
local native = require "lucid.native"
local C = native.C

-- The error of f, and whether it blames this file.
local function raised(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  return message, message:find("native_spec.lua:%d+: ") ~= nil
end

local function line_of(message) return tonumber(message:match("native_spec.lua:(%d+): ")) end
local function this_line() return debug.getinfo(2, "l").currentline end

describe("an op", function()
  local a, b = lucid.zeros { 2, 3 }, lucid.zeros { 2, 3 }

  it("blames its caller's line and tells name and shapes", function()
    local here
    local message = raised(function()
      here = this_line() + 1
      local unused = a:matmul(b)
      return unused
    end)
    assert.equal(here, line_of(message))
    for _, part in ipairs { "matmul", "[2, 3]" } do assert.truthy(message:find(part, 1, true), message) end
    message = raised(function()
      here = this_line() + 1
      local unused = lucid.exp(7)
      return unused
    end)
    assert.equal(here, line_of(message))
  end)

  it("blames its caller also where Lucid's own Lua stands between", function()
    for pattern, f in pairs {
      ["add: shapes do not fit"] = function() local r = a + lucid.zeros { 4 } return r end,
      ["has no dim 5"] = function() local r = a:sum(5) return r end,
      ["no dtype 'f64'"] = function() local r = lucid.ones({ 2 }, { dtype = "f64" }) return r end,
      ["/nowhere: "] = function() local r = lucid.checkpoint("/nowhere") return r end,
    } do
      local message, blames = raised(f)
      assert.is_true(blames and message:find(pattern, 1, true) ~= nil, message)
      assert.equal(debug.getinfo(f, "S").linedefined, line_of(message), pattern)
    end
  end)

  it("says which argument is what", function()
    for _, case in ipairs {
      { { 7 }, "exp: argument 1 is a number; a tensor is expected" },
      { {}, "exp: argument 1 is missing; a tensor is expected" },
      { { "x" }, "exp: argument 1 is a string; a tensor is expected" },
      { { ffi.new("int[2]") }, "exp: argument 1 is a ctype<int [2]>; a tensor is expected" },
    } do
      local message = raised(native.ops.exp, unpack(case[1]))
      assert.truthy(message:find(case[2], 1, true), message)
    end
    local message = raised(function() return a:scale("much") .. "" end)
    assert.truthy(message:find("scale: argument 2 is a string; a number is expected", 1, true), message)
    message = raised(function() return a:matmul() .. "" end)
    assert.truthy(message:find("matmul: argument 2 is missing", 1, true), message)
  end)

  it("counts dimensions from 1, and from the end below 0", function()
    local t = lucid.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
    assert.same({ 5, 7, 9 }, t:sum_dim(1):tolist())
    assert.same({ 6, 15 }, t:sum_dim(2):tolist())
    assert.same({ 6, 15 }, t:sum_dim(-1):tolist())
    raised(function() return t:sum_dim(3) .. "" end)
    for _, f in ipairs {
      function() return t:size(0) end, function() return t:sum(0) end, function() return t:transpose(0, 1) end,
      function() return t:slice(0, 1) end, function() return lucid.cat({ t, t }, 0) end, function() return t:sum(1.5) end,
    } do
      assert.truthy(raised(f):find("they count from 1", 1, true))
    end
  end)

  it("refuses sizes, values and places that are none", function()
    local t = lucid.tensor { 1, 2, 3 }
    for pattern, f in pairs {
      ["zeros: size 1 of the shape is 2.5"] = function() return lucid.zeros { 2.5 } end,
      ["randn: size 2 of the shape is nan"] = function() return lucid.randn { 1, 0 / 0 } end,
      ["full: argument 2 is missing"] = function() return lucid.full { 2 } end,
      ["i32 cannot hold 1099511627776"] = function() return lucid.tensor({ 2 ^ 40 }, { dtype = "i32" }) end,
      ["size: argument 2 is missing"] = function() return t:size() end,
      ["slice: argument 3 is missing"] = function() return t:slice(1) end,
      ["slice: argument 4 is 2.5"] = function() return t:slice(1, 1, 2.5) end,
      ["rows: index 1 is 1.5"] = function() return t:rows { 1.5 } end,
      ["rows: argument 2 is missing"] = function() return t:rows() end,
      ["copy: argument 2 is a table"] = function() return t:copy { 1, 2, 3 } end,
      ["backward: argument 2 is a table"] = function() return t:backward { 1, 2, 3 } end,
      ["grad: a tensor or nil"] = function() t.grad = 3 end,
      ["gradcheck: argument 2 is a tensor"] = function() return lucid.gradcheck(lucid.exp, t) end,
      ["image.load: argument 1 is missing"] = function() return lucid.image.load() end,
      ["model: argument 1 is missing"] = function() return lucid.model() end,
      ["template: a name is expected"] = function() return require("lucid.prompt").template(5) end,
    } do
      local message = raised(f)
      assert.truthy(message:find(pattern, 1, true), message)
    end
  end)

  it("of the header is there by name, and as a method", function()
    for _, name in ipairs { "matmul", "softmax", "gelu", "rms_norm", "cross_entropy", "token_logps" } do
      assert.equal("function", type(native.ops[name]), name)
      assert.equal("function", type(lucid[name]), name)
      assert.equal("function", type(a[name]), name)
    end
    assert.is_nil(lucid.there_is_no_such_thing)
    local message, here = raised(function() return a.there_is_no_such_thing end)
    assert.truthy(here and message:find("no method 'there_is_no_such_thing'", 1, true), message)
  end)
end)

describe("the gate", function()
  it("stands as an operator in what the compiler finds hot", function()
    local function distance(s, opt)
      local x = s.d / s.c - 1 / (2 * opt.beta)
      return x * x
    end
    local got, want = 0, 0
    for i = 1, 400 do
      local s, beta = { d = lucid.tensor { 1, 2 }, c = lucid.tensor { 4, 5 } }, 0.1 * i
      local y = distance(s, { beta = beta })
      y = i % 3 == 0 and (y * s.c):mean() or y:mean()
      got = got + y:item()
      local first, second = (0.25 - 0.5 / beta) ^ 2, (0.4 - 0.5 / beta) ^ 2
      want = want + (i % 3 == 0 and 4 * first + 5 * second or first + second) / 2
    end
    assert.is_near(want, got, 1e-4)
  end)

  it("sorts a list, NaN last, and leads gradients back", function()
    local x = lucid.tensor { 3, -1, 0 / 0, 2, -1 }
    x:requires_grad(true)
    local sorted = x:sort()
    local list = sorted:tolist()
    assert.same({ -1, -1, 2, 3 }, { unpack(list, 1, 4) })
    assert.is_true(list[5] ~= list[5])
    sorted:backward(lucid.tensor { 1, 2, 3, 4, 5 })
    assert.same({ 4, 1, 5, 3, 2 }, x.grad:tolist())
    assert.truthy(raised(x.sort, lucid.zeros { 2, 2 }):find("sort: the tensor has 2 dims", 1, true))
  end)

  it("passes results on and raises the library's error for failures", function()
    assert.equal(0, native.check(0))
    assert.equal(5, native.check(5))
    local message = raised(function() native.check(C.lc_make_folder("/proc/none/such")) end)
    assert.truthy(message:find("/proc/none", 1, true), message)
    message = raised(function() native.check(nil) end)
    assert.equal("string", type(message))
    assert.is_nil(native.borrow(nil))
    raised(native.adopt, nil)
  end)

  it("knows dtypes and devices by name", function()
    collectgarbage()
    collectgarbage()                          -- what is older must not be freed between two readings
    for name, size in pairs { f32 = 4, bf16 = 2, f16 = 2, i32 = 4, u8 = 1 } do
      assert.equal(name, ffi.string(C.lc_dtype_name(native.dtype(name))))
      local before = lucid.memory().used
      local t = lucid.zeros({ 4096 }, { dtype = name })
      assert.is_true(lucid.memory().used - before >= 4096 * size)
      assert.equal(name, t:dtype())
    end
    assert.truthy(raised(native.dtype, "f8"):find("no dtype 'f8'", 1, true))
    assert.truthy(raised(native.dtype):find("no dtype 'nil'", 1, true))
    for _, name in ipairs { "auto", "cpu" } do assert.equal(C.LC_HOST, native.device(name)) end
    assert.equal(C.LC_HOST, native.device())
    assert.truthy(raised(native.device, "gpu"):find("no device 'gpu'", 1, true))
  end)

  it("tells tensors from everything else", function()
    assert.is_true(native.is_tensor(lucid.zeros { 1 }))
    for _, other in ipairs { 1, "t", {}, ffi.new("int[1]") } do assert.is_false(native.is_tensor(other)) end
    assert.is_false(native.is_tensor(nil))
  end)

  it("has operators on tensors and numbers", function()
    local x = lucid.tensor { 1, 2, 4 }:requires_grad()
    assert.same({ 2, 5, 17 }, (x ^ 2 + 1):tolist())
    assert.same({ 0, -0.5, -0.75 }, (1 / x - 1):tolist())
    assert.same({ -3, -6, -12 }, (-x * 2 - x):tolist())
    local y = (x ^ 3):sum()
    y:backward()
    assert.same({ 3, 12, 48 }, x.grad:tolist())
    assert.truthy(raised(function() return 2 ^ x end):find("pow: argument 1 is a number; a tensor is expected", 1, true))
    assert.truthy(raised(function() return x ^ x end):find("pow: argument 2 is a tensor; a number is expected", 1, true))
  end)

  it("turns recording off inside no_grad, also when that raises, and nests", function()
    local x = lucid.ones({ 2 }):requires_grad()
    local function records() return C.lc_grad_mode(1) == 1 end
    native.no_grad(function()
      native.no_grad(function() end)
      local y = (x * 2):sum()
      assert.has_error(function() y:backward() end)
    end)
    assert.is_true(records())
    assert.has_error(function() native.no_grad(function() error("stop", 0) end) end, "stop")
    assert.is_true(records())
    assert.same({ 1, nil, 3 }, { native.no_grad(function() return 1, nil, 3 end) })
  end)
end)

describe("lucid", function()
  it("loads its modules at first use and offers their names", function()
    assert.equal(require "lucid.schedule", lucid.schedule)
    local names = {}
    for _, name in ipairs(lucid.complete(lucid)) do
      assert.is_nil(names[name], name)           -- each once
      names[name] = true
    end
    for _, name in ipairs { "zeros", "matmul", "schedule", "model", "threads" } do assert.is_true(names[name], name) end
    assert.is_nil(names._)
  end)

  it("completes a tensor's methods, tables and what has neither", function()
    local list = table.concat(lucid.complete(lucid.zeros { 1 }), " ")
    for _, name in ipairs { "tolist", "matmul", "backward" } do assert.truthy((" " .. list .. " "):find(" " .. name .. " ", 1, true)) end
    assert.same({ "a", "b", "inherited" },
      lucid.complete(setmetatable({ b = 1, a = 2, _hidden = 3, [1] = 4 }, { __index = { inherited = 1, a = 5 } })))
    assert.same({}, lucid.complete(nil))
    assert.same({}, lucid.complete(3))
  end)
end)
