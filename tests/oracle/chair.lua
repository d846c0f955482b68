-- CHAIR a second time, from the paper's definitions and by another way than lua/lucid/nouns.lua: the text becomes
-- " word word ", and each phrase of the table, the longest first, is cut out of it wherever it stands.
local M = {}

-- phrases: surface form -> name, or false for a phrase that means nothing. Returns names in the text's order.
local function named(text, phrases)
  local forms = {}
  for form in pairs(phrases) do forms[#forms + 1] = form end
  table.sort(forms, function(a, b)
    local _, na = a:gsub(" ", "")
    local _, nb = b:gsub(" ", "")
    if na ~= nb then return na > nb end
    return a < b
  end)
  local line = " " .. text:lower():gsub("[^%a ]", " "):gsub("%s+", "  ") .. " "
  local found = {}
  for _, form in ipairs(forms) do
    local needle = " " .. form:gsub(" ", "  ") .. " "
    local from = 1
    while true do
      local first, last = line:find(needle, from, true)
      if not first then break end
      found[#found + 1] = { at = first, name = phrases[form] }
      line = line:sub(1, first) .. ("\0"):rep(#needle - 2) .. line:sub(last)
      from = last
    end
  end
  table.sort(found, function(a, b) return a.at < b.at end)
  local names = {}
  for _, f in ipairs(found) do
    if f.name then names[#names + 1] = f.name end
  end
  return names
end

--- captions: { text, truth = { [name] = true } }. Returns chair_i, chair_s, recall.
function M.score(captions, phrases)
  local mentions, made_up, bad, hit, things = 0, 0, 0, 0, 0
  for _, c in ipairs(captions) do
    local wrong, said = 0, {}
    for _, name in ipairs(named(c.text, phrases)) do
      mentions = mentions + 1
      said[name] = true
      if not c.truth[name] then wrong = wrong + 1 end
    end
    made_up = made_up + wrong
    bad = bad + math.min(wrong, 1)
    for name in pairs(c.truth) do
      things = things + 1
      hit = hit + (said[name] and 1 or 0)
    end
  end
  return made_up / mentions, bad / #captions, hit / things
end

return M
