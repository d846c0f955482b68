-- What processes send each other in a step is the sum of the gradients, whatever the step's pairs; each has its part of
-- the work. Skipped where there is no mpirun, or none that counts bytes.
local folder = require "tests.support.folder"
local ranks = require "tests.bench.scale.ranks"
local step = require "tests.bench.scale.step"

local function sum(result, name)
  local total = 0
  for _, rank in ipairs(result.ranks) do total = total + rank[name] end
  return total
end

describe("processes of a step", function()
  local function case(name, f)
    it(name, function()
      if not ranks.HERE then return pending("no mpirun that counts bytes, or a build without MPI") end
      local dir = folder.folder()
      finally(function() folder.remove(dir) end)
      step.photos(dir, 6)
      f(dir)
    end)
  end

  case("send 4 bytes a trained number to where it is added up, and back, for few pairs and for many", function(dir)
    for n = 1, 3 do
      for _, pictures in ipairs { 3, 6 } do
        local r = ranks.measure(n, dir, "tiny", pictures, 2)
        local expected = ranks.expected(n, r.trained)
        -- Beside it: which gradients there are, a letter each, and numbers so that all parts are of one size.
        assert.is_true(r.sent >= expected and r.sent <= 1.005 * expected, ("%g, %g"):format(r.sent, expected))
        assert.equal(7 * pictures, sum(r, "pairs"))
      end
    end
  end)

  case("have even parts of the work", function(dir)
    local r = ranks.measure(2, dir, "tiny", 6, 1)
    for _, rank in ipairs(r.ranks) do
      local share = rank.flops / sum(r, "flops")
      assert.is_true(math.abs(share - 0.5) < 0.05, share)
    end
  end)
end)
