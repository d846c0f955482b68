-- An adapter under the names that the published ones have: LoRA's layers as LLaMA's own folder calls them, in
-- adapter_model.safetensors, and LLaVA's projector beside it, in non_lora_trainables.bin. A run's own folder is for PEFT
-- on Hugging Face's layout: the projector is one of its modules_to_save there.
local adapter = require "lucid.adapter"
local file = require "lucid.file"
local json = require "lucid.json"
local torchfile = require "lucid.torchfile"

local PROJECTOR = { linear_1 = 0, linear_2 = 2 }

--- Writes the adapter; returns how many tensors of LoRA and of the projector it has.
---@param dir string            a PEFT folder, a checkpoint or a run
---@param out string            a folder that is not there yet
---@return integer lora, integer projector
return function(dir, out)
  if file.exists(out) then error(out .. ": it is there already", 0) end
  if file.exists(dir .. "/adapter/adapter_config.json") then dir = dir .. "/adapter" end
  local loaded = adapter.load(dir)
  local layers, beside, counts = {}, {}, { 0, 0 }
  for key, name in pairs(loaded.tensors) do
    local linear, what = key:match "^multi_modal_projector%.(linear_[12])%.(%w+)$"
    local t = loaded.sources[key]:tensor(name)
    if linear then
      beside[("base_model.model.model.mm_projector.%d.%s"):format(PROJECTOR[linear], what)] = t
      counts[2] = counts[2] + 1
    elseif key:find "^layers%.%d+%..*%.lora_[AB]%.weight$" then
      layers["model." .. key] = t
      counts[1] = counts[1] + 1
    else
      error(("%s: '%s' has no place in a published adapter"):format(dir, name), 0)
    end
  end
  local base = loaded.config.base_model_name_or_path
  adapter.save(out, { base_model_name_or_path = base or json.null, r = loaded.rank, lora_alpha = loaded.scale * loaded.rank },
    layers)
  if next(beside) then torchfile.write(out .. "/non_lora_trainables.bin", beside) end
  return counts[1], counts[2]
end
