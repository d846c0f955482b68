-- Pairs that are measured and never trained on. The same texts about the same picture may stand in the data more than
-- once: those go together.
local dpo = require "lucid.dpo"
local json = require "lucid.json"
local native = require "lucid.native"
local rng = require "lucid.rng"

local M = {}

local function content(p)
  local image = type(p.image) == "table" and p.image.picture or p.image
  return table.concat({ tostring(image), table.concat(p.prompt, " "), table.concat(p.chosen, " "),
    table.concat(p.rejected, " ") }, "\n")
end

--- Sets `count` different pairs aside, drawn by the seed.
---@param encoded lucid.EncodedPair[]
---@param count integer
---@param seed integer
---@return lucid.EncodedPair[] trained, lucid.EncodedPair[] held
function M.split(encoded, count, seed)
  if count == 0 then return encoded, {} end
  local order, first = {}, {}
  for _, p in ipairs(encoded) do
    local key = content(p)
    if not first[key] then
      first[key] = p
      order[#order + 1] = key
    end
  end
  if count >= #order then
    error(("--eval-pairs %d: there are %d different pairs, and one at least is to be trained on"):format(count, #order), 0)
  end
  rng(seed, "held out"):shuffle(order)
  local trained, held, aside = {}, {}, {}
  for i = 1, count do
    held[i], aside[order[i]] = first[order[i]], true
  end
  for _, p in ipairs(encoded) do
    if not aside[content(p)] then trained[#trained + 1] = p end
  end
  return trained, held
end

--- What a step would log of pairs, the mean over all of them: nothing is trained, and the loss remembers nothing of it.
--- Kinds do not weigh.
---@param policy table
---@param reference table
---@param held lucid.EncodedPair[]
---@param size integer             pairs worked on together
---@param settings lucid.DpoOptions
---@return table<string, number>
function M.measure(policy, reference, held, size, settings)
  local total, own = {}, {}
  for name, value in pairs(settings) do own[name] = value end
  own.kind_weights, own.compare = nil, nil
  for first = 1, #held, size do
    local batch = { unpack(held, first, math.min(first + size - 1, #held)) }
    native.scope(native.no_grad, function()
      own.state = json.decode(json.encode(settings.state or {}))
      local _, stats = dpo.step(policy, reference, batch, own)
      stats.count, stats.tokens = nil, nil
      for name, value in pairs(stats) do
        if type(value) ~= "number" then value = value:item() end
        total[name] = (total[name] or 0) + value * #batch / #held
      end
    end)
  end
  return total
end

return M
