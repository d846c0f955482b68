-- The tiny golden LLaVA with a sharper head, of whose answers many end: what searches are tested with.
local lucid = require "lucid"
local native = require "lucid.native"

local M = {}

M.picture = native.root .. "tests/golden/llava_tiny/picture.png"

--- Opens it with its head multiplied by head and then the row of the end id by last.
---@param head number
---@param last number
function M.model(head, last)
  local m = lucid.model(native.root .. "tests/golden/llava_tiny/classic")
  for _, p in ipairs(m:all_parameters()) do
    if p.name:find("lm_head.weight", 1, true) then
      p.tensor:copy(p.tensor * head)
      local row = p.tensor:slice(1, m.tokenizer.eos + 1, m.tokenizer.eos + 1)
      row:copy(row * last)
    end
  end
  return m
end

--- n requests of random ids, every second one with the picture.
---@param n integer
---@param seed integer
function M.requests(n, seed)
  local rng, list = require "lucid.rng"(seed, "ending"), {}
  for i = 1, n do
    local ids = { 1 }
    for k = 2, 4 + rng:integer(8) do ids[k] = 2 + rng:integer(69) end
    if i % 2 == 0 then table.insert(ids, 3, lucid.IMAGE) end
    list[i] = { ids = ids, image = i % 2 == 0 and M.picture or nil }
  end
  return list
end

return M
