-- What is saved of HA-DPO's training work, in operations, is what was promised: the arithmetic of tests/bench/mix.lua.
local flops = require "lucid.flops"
local mix = require "tests.bench.mix"

describe("the work of an epoch", function()
  for _, r in ipairs(mix.measure()) do
    it(("of %s is a part of the usual loop's"):format(r.mix.about), function()
      assert.is_true(r.pair >= r.mix.pair, ("by pair: 1/%.3f"):format(r.pair))
      assert.is_true(r.image >= r.mix.image, ("by picture: 1/%.3f"):format(r.image))
      assert.equal(r.mix.name == "paper" and 14000 or 5016, r.pairs)
      assert.is_true(r.padded > r.apart and r.apart > r.pair_tokens and r.pair_tokens > r.image_tokens)
    end)
  end

  it("is counted for a LLaVA-1.5-7B", function()
    local s = mix.SHAPE
    local token = { tokens = 1, seen = 0, scored = 0 }
    -- 6.476 billion weights in the blocks, 0.131 in the head, 0.320 in adapters of rank 128; 0.405 TFLOP a picture
    assert.is_near(2 * 6.476e9, flops.forward(s, token, false), 2e6)
    assert.is_near(2 * 0.131072e9, flops.forward(s, { tokens = 0, seen = 0, scored = 1 }, false), 1)
    assert.is_near(0.320e9, s.adapter, 1e6)
    assert.is_near(0.405e12 * 23 / 24, s.tower + s.bridge, 0.005e12)
  end)
end)
