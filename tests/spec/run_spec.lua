-- How a run shows what came out.
local run = require "lucid.run"

describe("a run", function()
  it("shows counts as such, and measures with their spread", function()
    assert.equal(table.concat({
      "task",
      "  accuracy                               0.5000 +- 0.1000  [0.4000, 0.6000]",
      "  images                                     12",
      "  precision                              1.0000 +- 0.0000",
      "  ratio                                  0.0000  undefined: nothing to divide by",
      "  recall                                 0.2500",
    }, "\n"), run.text { task = { accuracy = { value = 0.5, stderr = 0.1, low = 0.4, high = 0.6 }, images = { value = 12 },
      precision = { value = 1, stderr = 0 }, ratio = { value = 0, undefined = true }, recall = { value = 0.25 } } })
  end)
end)
