-- The compiled attention kernels have as many tensor-core, matrix-load and asynchronous-copy instructions as their
-- tiles need, and nothing is spilled. tests/registers.lua looks at their registers.
local cubin = require "tests.support.cubin"

-- Instructions of a walk's step: chunks of 8 columns, m times 16 rows, scores of 8 n columns.
local function scores(chunks, m, n) return { HMMA = m * n * chunks / 2, LDSM = (m + n / 2) * chunks / 2 } end
local function product(chunks, m, n) return { HMMA = m * n / 2 * chunks, LDSM = n / 2 * chunks / 2 } end
local function both(a, b, times)
  return { HMMA = (a.HMMA + b.HMMA) * (times or 1), LDSM = (a.LDSM + b.LDSM) * (times or 1) }
end
local NONE = { HMMA = 0, LDSM = 0 }

local function expected(name, d, m)
  local chunks = d and math.ceil(d / 16) * 2
  if name == "attention_kernel" then return both(scores(chunks, m, 8), product(chunks, m, 8)) end
  if name == "attention_dq_kernel" then
    local one = scores(chunks, m, 8 / m)
    return both(both(one, one), product(chunks, m, 8 / m))
  end
  if name == "attention_dkv_kernel" then return both(scores(chunks, 1, 8), product(chunks, 1, 8), 2) end
  if name == "attention_chunk_kernel" then return both(scores(chunks, 1, 4), product(chunks, 1, 4)) end
  return NONE
end

describe("compiled attention kernels", function()
  if not cubin.nvcc() then
    pending("are looked at where nvcc is")
    return
  end

  local kernels = { forward = 16, backward = 24, decode = 8, plain = 9 }
  for _, arch in ipairs { "80", "86", "89", "90" } do
    for source, count in pairs(kernels) do
      it(("for sm_%s: %s"):format(arch, source), function()
        local found = 0
        for kernel, code in pairs(cubin.compile("attention_" .. source .. ".cu", arch)) do
          local name, d, m = kernel:match("^([%l_]+)<%w+,? ?(%d*),? ?(%d*)>$")
          local want = expected(name, tonumber(d), tonumber(m))
          assert.equal(0, code.LDL + code.STL, kernel .. " spills registers")
          assert.equal(want.HMMA, code.HMMA, kernel .. ": tensor-core instructions")
          assert.equal(want.LDSM, code.LDSM, kernel .. ": matrix loads")
          assert.equal(want ~= NONE, code.LDGSTS > 0, kernel .. ": asynchronous copies")
          found = found + 1
        end
        assert.equal(count, found, "kernels of " .. source)
      end)
    end
  end
end)
