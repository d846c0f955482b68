-- The library of other CPUs keeps what is promised of products: the specs of products and of packed weights pass on kernels
-- in plain C, and on those of a CPU without AVX or with AVX2 alone.
local support = require "tests.support.folder"
local file = require "lucid.file"

local BIN = require "tests.support.program"
local CASES = { "GEMM=loop", "ARCH=x86-64-v2", "ARCH=x86-64-v3" }
local SPECS = "tests/spec/matmul_spec.lua tests/spec/quant_spec.lua"

describe("kernels", function()
  if require("ffi").arch ~= "x64" then
    pending("of other CPUs are looked at on x86-64")
    return
  end

  local dir
  setup(function() dir = support.folder() end)
  teardown(function() support.remove(dir) end)

  for i, case in ipairs(CASES) do
    it("give a row the same bits alone and among others: make " .. case, function()
      local build = ("%s/%d"):format(dir, i)
      local make = ("make -s -j2 %s BUILD=%s BIN=%s CFLAGS=-O1"):format(case, build, build)
      local specs = ("LUCID_LIB=%s/liblucid.so %s tests/run.lua %s"):format(build, BIN, SPECS)
      local status = os.execute(("{ %s && %s; } >%s.log 2>&1"):format(make, specs, build))
      assert.equal(0, status, file.read(build .. ".log"))
    end)
  end
end)
