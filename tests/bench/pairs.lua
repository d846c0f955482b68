-- Pairs of which both sides of a comparison take the same: the first ones of a length list of data/mix.
local mix = require "tests.bench.mix"

local M = {}

-- Short ones, for an emulated device: what is left of a list of ids.
local function cut(ids, most)
  local out = {}
  for i = 1, math.min(#ids, most) do out[i] = ids[i] % 250 + 3 end
  return out
end

--- Pairs { id, kind, picture = its number, prompt, chosen, rejected }; by picture, `count` counts pictures with all
--- pairs of theirs.
---@param name string       "published" or "paper"
---@param group string      "pair" or "image"
---@param count integer
---@param small boolean|nil
function M.read(name, group, count, small)
  local list, numbers, pictures = {}, {}, 0
  for _, p in ipairs(mix.read(name)) do
    if not numbers[p.image] then
      pictures = pictures + 1
      numbers[p.image] = pictures
    end
    if (group == "image" and pictures or #list + 1) > count then break end
    p.picture, p.image = numbers[p.image], nil
    if small then
      local prompt = cut(p.prompt, 3)
      prompt[2] = -200
      p.prompt, p.chosen, p.rejected = prompt, cut(p.chosen, 4), cut(p.rejected, 3)
    end
    list[#list + 1] = p
  end
  return list
end

return M
