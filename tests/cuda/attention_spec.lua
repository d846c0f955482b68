-- The device's attention kernels without a device: emulated, against the CPU backend. tests/slow plants faults.
local emulated = require "tests.support.emulated"

describe("attention on an emulated device", function()
  if not emulated.built() then
    pending("is tested where the emulation runs (make emulation)")
    return
  end

  it("walks lists that hold every row and key once, in 10,000 random forests", function()
    local ok, output = emulated.run("build/emulation/spans 1 10000")
    assert.is_true(ok, output)
    assert.truthy(output:match("^10000 forests"))
  end)

  for _, seed in ipairs { 1, os.time() % 1000000 + 1000 } do
    it(("is the CPU's, from seed %d: forests, pictures, caches, decoding"):format(seed), function()
      local ok, output = emulated.run(("build/emulation/attention %d 40"):format(seed))
      assert.is_true(ok, output)
      assert.truthy(output:match("^40 cases"))
    end)
  end
end)
