-- An adapter with random numbers for a tiny model.
local lucid = require "lucid"

--- Writes the adapter folder.
---@param model_dir string
---@param dir string
return function(model_dir, dir)
  local m = lucid.model(model_dir)
  m:lora { rank = 4, alpha = 16, seed = 5 }
  for i, p in ipairs(m:parameters()) do
    if p.name:find "lora_B" then p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = i }) * 0.2) end
  end
  m:save_adapter(dir)
end
