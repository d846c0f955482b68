-- Sentences of a description, as SHR's scorer sees them: cut at full stops, trimmed, without the
-- empty ones and without those that an earlier one already holds.
local whitespace = require "lucid.whitespace"

local M = {}

--- The sentences of a text, without their full stops.
---@param text string
---@return string[]
function M.split(text)
  local kept = {}
  for piece in (text .. "."):gmatch("([^.]*)%.") do
    local sentence = whitespace.trim(piece)
    local known = sentence == ""
    for _, earlier in ipairs(kept) do
      known = known or earlier:find(sentence, 1, true) ~= nil
    end
    if not known then kept[#kept + 1] = sentence end
  end
  return kept
end

--- Sentences back to a text: each with its full stop, one space between.
---@param list string[]
---@return string
function M.join(list)
  if #list == 0 then return "" end
  return table.concat(list, ". ") .. "."
end

--- "1. First sentence\n2. Second\n", as a judge is shown them.
---@param list string[]
---@return string
function M.numbered(list)
  local lines = {}
  for i, sentence in ipairs(list) do lines[i] = ("%d. %s\n"):format(i, sentence) end
  return table.concat(lines)
end

return M
