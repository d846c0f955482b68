-- Matrix products by cuBLASLt, of which a recording library takes the place (gpu/cublaslt.cc): what it is asked for, in
-- which algorithms, and what becomes of faults. gpu/gemm.cc compares random products with the CPU backend.
local lucid = require "lucid"
local native = require "lucid.native"
local folder = require "tests.support.folder"
local BIN = require "tests.support.program"

local BUILD = os.getenv("LUCID_BUILD") or "build"
local RECORDING = os.getenv("LUCID_CUBLASLT")
local PLUGIN = os.getenv("LUCID_CUDA") or ""
if PLUGIN == "" then PLUGIN = BUILD .. "/liblucid_cuda.so" end

-- What a command prints, with an environment, and whether it succeeds.
local function run(environment, command)
  local p = io.popen(("%s %s 2>&1; echo $?"):format(environment, command))
  local text = p:read("*a")
  p:close()
  local out, code = text:match("^(.-)(%d+)\n$")
  return out, tonumber(code)
end

local function products(environment, seed, cases)
  return run(environment, ("%s/test_gemm %s %d %d"):format(BUILD, PLUGIN, seed, cases))
end

-- A chunk in a process of its own, where tensors of that seed and shape are made by r(seed, ...).
local function script(environment, chunk)
  return run(environment, ("%s -e '%s'"):format(BIN, [[
    local native = require "lucid.native"
    local ffi = require "ffi"
    local cuda = native.device("cuda")
    local function r(seed, ...) return lucid.randn({ ... }, { seed = seed, device = "cuda" }) end
    ]] .. chunk))
end

local FAULTS = {
  "transpose a", "transpose b", "ld a", "ld b", "ld d", "short ld", "past the end", "stride a", "bias", "beta", "swap",
  "an algorithm by rows",
}

describe("product on the device", function()
  it("agrees with the CPU, whatever the strides, dtypes, transposes and batches are", function()
    local seed = tonumber(os.getenv("LUCID_SEED")) or 1
    local out, code = products("", seed, 1500)
    assert.equal(0, code, out)
    assert.equal("1500 products agree\n", out)
  end)

  it("agrees where there is no cuBLASLt, which is said in one line", function()
    local out, code = products("LUCID_CUBLASLT=/nowhere/libcublasLt.so", 2, 60)
    assert.equal(0, code, out)
    assert.truthy(out:find("lucid: no cuBLASLt (/nowhere/libcublasLt.so: ", 1, true), out)
    assert.equal(2, select(2, out:gsub("\n", "")), out)
  end)

  if not RECORDING or RECORDING == "" then return end

  for _, fault in ipairs(FAULTS) do
    it("is found wrong with the fault: " .. fault, function()
      local out, code = products(("LUCID_CUBLASLT_PLANT='%s'"):format(fault), 3, 300)
      assert.equal(1, code, out)
    end)
  end

  it("that the library refuses names the op, the shapes and the status", function()
    local out, code = script("LUCID_CUBLASLT_PLANT='short ld'", "print(r(1, 40, 24):matmul(r(2, 24, 8)))")
    assert.equal(1, code, out)
    assert.truthy(out:find("gemm: cuBLASLt refuses [40, 24] x [24, 8]: status 7", 1, true), out)
  end)

  it("has one algorithm for all numbers of rows, and none that splits a wide weight's K", function()
    local dir = folder.folder()
    local log = dir .. "/log"
    local out, code = script("LUCID_CUBLASLT_LOG=" .. log, [[
      local w, narrow = r(1, 1024, 16), r(2, 8, 16)
      for _, rows in ipairs { 1, 15, 64, 1200 } do
        local x = r(3, rows, 16)
        x:linear(w)
        x:linear(narrow)
      end]])
    assert.equal(0, code, out)
    local algorithm, count = {}, 0
    for line in io.lines(log) do
      local _, n, _, _, _, id, splits = line:match("^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$")
      local this = id .. "/" .. splits
      algorithm[n] = algorithm[n] or this
      assert.equal(algorithm[n], this)
      if n == "1024" then assert.equal("1", splits) end
      count = count + 1
    end
    assert.equal(8, count)
    assert.equal("5/4", algorithm["8"])
    folder.remove(dir)
  end)

  it("with a frozen head is made twice for token_logps and its gradient: none is computed again", function()
    local dir = folder.folder()
    local out, code = script("LUCID_CUBLASLT_LOG=" .. dir .. "/log", [[
      local hidden, head = r(1, 9, 16), r(2, 40, 16)
      hidden:requires_grad(true)
      local row, target = lucid.tensor({ 0, 3, 3, 8 }, { dtype = "i32" }), lucid.tensor({ 5, 0, 39, 7 }, { dtype = "i32" })
      lucid.token_logps(hidden, head, row, target):sum():backward()
      print(hidden.grad:abs():sum():item() > 0)]])
    assert.equal(0, code, out)
    assert.equal("true\n", out)
    local list = {}
    for line in io.lines(dir .. "/log") do list[#list + 1] = line:match("^%d+ %d+ %d+") end
    assert.same({ "4 40 16", "4 16 40" }, list)
    folder.remove(dir)
  end)

  it("of a LoRA linear by itself leaves its frozen base alone: eight products, none of them the gradient of the base", function()
    local dir = folder.folder()
    local out, code = script("LUCID_CUBLASLT_LOG=" .. dir .. "/log", [[
      local x, w, a, b = r(1, 10, 24), r(2, 40, 24), r(3, 4, 24), r(4, 40, 4)
      for _, t in ipairs { x, a, b } do t:requires_grad(true) end
      lucid.linear_lora(x, w, a, b, 2):sum():backward()]])
    assert.equal(0, code, out)
    local list = {}
    for line in io.lines(dir .. "/log") do list[#list + 1] = line:match("^%d+ %d+ %d+") end
    assert.same({ "10 40 24", "10 4 24", "10 40 4",                 -- y, h, and y again
      "10 24 40", "10 4 40", "10 24 4", "4 24 10", "40 4 10" }, list)  -- dx, dh, and dx again; da, db
    folder.remove(dir)
  end)

  it("keeps its algorithms as text for another process, and refuses broken text", function()
    local x = lucid.randn({ 5, 24 }, { seed = 1, device = "cuda" })
    x:matmul(lucid.randn({ 24, 600 }, { seed = 2, device = "cuda" }))
    local text = native.products()
    local lines = select(2, text:gsub("\n", "")) - 1
    assert.truthy(lines >= 1)
    assert.is_true(native.take_products(text))
    assert.equal(text, native.products())
    assert.is_false(native.take_products((text:gsub("^cuBLASLt %d+", "cuBLASLt 0"))))
    local ok, reason = pcall(native.take_products, text:sub(1, -10))
    assert.is_false(ok)
    assert.truthy(reason:find(("the algorithms of matrix products: line %d is broken"):format(lines + 1), 1, true), reason)
  end)

  it("is timed when asked for, and a slow first advice is not taken", function()
    local chunk = [[
      native.C.lc_device_tune(%d)
      local y = r(1, 8, 16):linear(r(2, 1024, 16))
      print(ffi.string(native.C.lc_device_choices()):match(": (%%x+)"))]]
    assert.equal("4\n", (script("LUCID_CUBLASLT_SLOW=1", chunk:format(0))))
    assert.not_equal("4\n", (script("LUCID_CUBLASLT_SLOW=1", chunk:format(1))))
  end)
end)
