-- A tiny model with an adapter of random numbers, and pictures to ask both about.
local folder = require "tests.support.folder"
local lucid = require "lucid"
local tiny = require "tests.support.tiny"

--- Writes the model's folder, with the adapter's in it.
---@param count integer      pictures
---@return string dir, lucid.Model m, string[] pictures
return function(count)
  local dir = folder.folder()
  tiny.model(dir, 3)
  local m = lucid.model(dir)
  m:lora { rank = 4, alpha = 16, seed = 5 }
  for i, p in ipairs(m:parameters()) do
    if p.name:find "lora_B" then p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = i }) * 0.2) end
  end
  m:save_adapter(dir .. "/adapter")
  return dir, lucid.model(dir, { adapter = dir .. "/adapter" }), tiny.pictures(dir, count)
end
