-- A judge that finds every kind of sentence in turn, whatever is said.
--   lucid serve --judge tests/support/verdicts.lua
local LABELS = { "hallucination", "correct", "cannot judge" }

local Judge = {}

function Judge.ask(_, requests)
  local replies = {}
  for i, request in ipairs(requests) do
    local lines = { "Judgement:" }
    for k in ipairs(request.sentences) do lines[k + 1] = ("%d. %s: reason %d"):format(k, LABELS[(k - 1) % 3 + 1], k) end
    replies[i] = { text = table.concat(lines, "\n") }
  end
  return replies
end

return { new = function() return Judge end }
