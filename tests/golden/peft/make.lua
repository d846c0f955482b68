-- The adapter that make.py hands to PEFT: every layer has one, and B is not zero.
--   bin/lucid tests/golden/peft/make.lua        in the checkout's root, before make.py
local lucid = require "lucid"

local m = lucid.model "tests/golden/llava_tiny/classic"
m:lora { rank = 3, alpha = 12, seed = 1 }
for i, p in ipairs(m:parameters()) do
  p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = i }) * 0.3)
end
m:save_adapter "tests/golden/peft/adapter"
