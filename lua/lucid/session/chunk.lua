-- The text of a chunk, looked at as far as the session has to: which words stand outside all blocks. A line that is
-- typed is a chunk of its own, and its locals would end with it.
local M = {}

local OPENS = { ["function"] = true, ["do"] = true, ["if"] = true, ["repeat"] = true }
local CLOSES = { ["end"] = true, ["until"] = true }

-- Where what begins at a place ends: a comment or a string; nil: neither begins there.
local function opaque(text, at)
  local level = text:match("^%[(=*)%[", at) or text:match("^%-%-%[(=*)%[", at)
  if level then
    local _, to = text:find("]" .. level .. "]", at, true)
    return to or #text
  end
  if text:find("^%-%-", at) then return (text:find("\n", at, true) or #text + 1) - 1 end
  local quote = text:match("^[\"']", at)
  if not quote then return nil end
  local to = at + 1
  while to <= #text and text:sub(to, to) ~= quote do to = to + (text:sub(to, to) == "\\" and 2 or 1) end
  return to
end

-- The words and signs outside all blocks, with their places: { text =, from =, to = }.
local function outer(text)
  local list, depth, at = {}, 0, 1
  while at <= #text do
    local to = opaque(text, at)
    if not to then
      local word = text:match("^[%a_][%w_]*", at) or text:match("^%.?%d[%w_.]*", at) or text:sub(at, at)
      to = at + #word - 1
      if CLOSES[word] then depth = depth - 1 end
      if depth == 0 and word:find("%S") then list[#list + 1] = { text = word, from = at, to = to } end
      if OPENS[word] then depth = depth + 1 end
    end
    at = to + 1
  end
  return list
end

-- Where the names of a `local a, b` end, and whether values follow.
local function names(list, i)
  while list[i + 1] and list[i + 1].text == "," do i = i + 2 end
  return list[i], list[i + 1] and list[i + 1].text == "="
end

--- The same chunk with its outermost locals as globals, which are the session's.
---@param text string     a chunk that compiles
---@return string
function M.lasting(text)
  local out, from, list = {}, 1, outer(text)
  local function keep(to)
    out[#out + 1] = text:sub(from, to)
    from = to + 1
  end
  for i, word in ipairs(list) do
    if word.text == "local" then
      keep(word.from - 1)
      from = word.to + 1
      if list[i + 1].text ~= "function" then
        local last, assigned = names(list, i + 1)
        if not assigned then
          keep(last.to)
          out[#out + 1] = " = nil"
        end
      end
    end
  end
  keep(#text)
  return table.concat(out)
end

--- Whether a chunk returns outside all blocks, so that nothing can stand behind it.
---@param text string
---@return boolean
function M.returns(text)
  for _, word in ipairs(outer(text)) do
    if word.text == "return" then return true end
  end
  return false
end

return M
