-- Learning rates against the formulas of transformers' schedulers, step by step.
local schedule = require "lucid.schedule"

local PEAK = 2e-4

-- get_cosine_schedule_with_warmup and its like: the factor after s steps.
local FACTORS = {
  cosine = function(x) return 0.5 * (1 + math.cos(math.pi * x)) end,
  linear = function(x) return 1 - x end,
  constant = function() return 1 end,
  wsd = function(x) return x <= 0.6 and 1 or (1 - x) / 0.4 end,
}

local function close(expected, got)
  assert.is_true(math.abs(expected - got) <= 1e-12 * PEAK, ("%.17g is not %.17g"):format(got, expected))
end

describe("a schedule", function()
  for name, factor in pairs(FACTORS) do
    it("follows its formula: " .. name, function()
      for _, case in ipairs { { 100, 10 }, { 100, 0 }, { 7, 3 }, { 1, 0 }, { 60, 59 } } do
        local steps, warmup = case[1], case[2]
        local rate = schedule[name] { peak = PEAK, steps = steps, warmup = warmup }
        for step = 1, steps do
          local done = step - 1
          local expected = done < warmup and PEAK * done / warmup
            or PEAK * factor((done - warmup) / math.max(1, steps - warmup))
          close(expected, rate(step))
        end
      end
    end)

    it("never leaves 0 to its peak, also after the end: " .. name, function()
      local rate = schedule[name] { peak = PEAK, steps = 20, warmup = 4 }
      for step = 1, 60 do
        local lr = rate(step)
        assert.is_true(lr >= 0 and lr <= PEAK * (1 + 1e-12), name .. " " .. step)
      end
      close(name == "constant" and PEAK or 0, rate(60))
    end)
  end

  it("starts a warm-up at 0 and without one at the peak", function()
    for name in pairs(FACTORS) do
      assert.equal(0, schedule[name] { peak = PEAK, steps = 10, warmup = 2 } (1))
      close(PEAK, schedule[name] { peak = PEAK, steps = 10, warmup = 2 } (3))
      close(PEAK, schedule[name] { peak = PEAK, steps = 10 } (1))
    end
  end)

  it("copes with a warm-up that is longer than the run", function()
    for name in pairs(FACTORS) do
      local rate = schedule[name] { peak = PEAK, steps = 5, warmup = 10 }
      for step = 1, 5 do close(PEAK * (step - 1) / 10, rate(step)) end
    end
  end)

  it("has the half-way values that everybody knows", function()
    close(PEAK / 2, schedule.cosine { peak = PEAK, steps = 100 } (51))
    close(PEAK / 2, schedule.linear { peak = PEAK, steps = 100 } (51))
    close(PEAK / 2, schedule.wsd { peak = PEAK, steps = 100 } (81))
  end)
end)
