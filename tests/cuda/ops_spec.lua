-- The table of ops on the device.
local native = require("lucid.native")
local check = require("tests.support.check")
local op_table = require("tests.support.op_table")

describe("op on the device", function()
  local host = check.device
  setup(function() check.device = native.device("cuda") end)
  teardown(function() check.device = host end)
  for _, row in ipairs(op_table.rows) do
    it(row.name, function() op_table.check(row) end)
  end
end)
