-- The adapters that make.py hands to PEFT: every layer has one, and B is not zero; in the second one the projector is
-- another one, too.
--   bin/lucid tests/golden/peft/make.lua        in the checkout's root, before make.py
local lucid = require "lucid"

local function save(name, projector)
  local m = lucid.model "tests/golden/llava_tiny/classic"
  m:lora { rank = 3, alpha = 12, seed = 1 }
  if projector then m:train_beside("_projector%.", true) end
  for i, p in ipairs(m:parameters()) do
    local random = lucid.randn(p.tensor:shape(), { seed = i }) * 0.3
    p.tensor:copy(p.part == "projector" and p.tensor + random or random)
  end
  m:save_adapter("tests/golden/peft/" .. name)
end

save("adapter", false)
save("projector", true)
