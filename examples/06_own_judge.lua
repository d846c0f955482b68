-- A judge of one's own: a sentence is hallucinated when none of its words is in the regions' phrases.
--   lucid shr ... --judge examples/06_own_judge.lua
local Judge = {}
Judge.__index = Judge

local function label(sentence, seen)
  for word in sentence:lower():gmatch("%a%a%a+") do
    if seen[word] then return "correct" end
  end
  return "hallucination"
end

function Judge.ask(_, requests)
  local replies = {}
  for i, r in ipairs(requests) do
    local seen, lines = {}, { "Judgement:" }
    for _, region in ipairs(r.regions or {}) do
      for word in region.phrase:lower():gmatch("%a%a%a+") do seen[word] = true end
    end
    for k, sentence in ipairs(r.sentences) do
      lines[#lines + 1] = ("%d. %s: by words"):format(k, label(sentence, seen))
    end
    replies[i] = { text = table.concat(lines, "\n") }
  end
  return replies
end

return { new = function() return setmetatable({}, Judge) end }
