-- Text in lines that fit, as --help has it: what does not go on beside its name goes on below its own beginning.
local NARROWEST = 24          -- columns for the text; with fewer it is left to the terminal

---@param text string
---@param indent integer            columns before the text, in every line but the first
---@param columns integer|nil       of the terminal; nil: there is none, and the text is one line
---@return string
return function(text, indent, columns)
  if not columns or columns - indent < NARROWEST then return text end
  local lines, line = {}, nil
  for word in text:gmatch("%S+") do
    if line and indent + #line + 1 + #word > columns then
      lines[#lines + 1], line = line, nil
    end
    line = line and line .. " " .. word or word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n" .. (" "):rep(indent))
end
