-- The table of ops on the device, values and gradients, against its formulas in doubles: fresh inputs of a seed. Where
-- inputs cancel so far that the CPU is off, too, they say nothing, and others are drawn.
--   lucid tests/gpu/ops.lua SEED [NAME...]
local check = require "tests.support.check"
local native = require "lucid.native"
local op_table = require "tests.support.op_table"

local C = native.C
local device, first, DRAWS = native.device "cuda", tonumber(arg[1]), 5
local wanted = {}
for i = 2, #arg do wanted[arg[i]] = true end

-- Whether a row agrees, and else what is wrong.
local function agrees(row)
  local ok, reason
  for seed = first, first + DRAWS - 1 do
    check.device, check.seed = device, seed
    ok, reason = pcall(op_table.check, row)
    if ok then return true end
    check.device = C.LC_HOST
    if pcall(op_table.check, row) then break end
  end
  return false, reason
end

local passed, failed = 0, {}
for _, row in ipairs(op_table.rows) do
  if #arg < 2 or wanted[row.name] then
    local ok, reason = agrees(row)
    if ok then passed = passed + 1
    else
      failed[#failed + 1] = row.name
      print(row.name .. ": " .. tostring(reason))
    end
  end
end
print(("%d ops agree%s"):format(passed, #failed > 0 and "; wrong: " .. table.concat(failed, ", ") or ""))
os.exit(#failed == 0 and passed > 0 and 0 or 1)
