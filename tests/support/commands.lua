-- Commands in pages of Markdown: what stands between fences, and whether a command line of lucid is one that its
-- recipe takes.
local args = require "lucid.args"
local file = require "lucid.file"

local M = {}

--- The texts between fences of a language, in order.
---@param text string
---@param language string
---@return string[]
function M.fenced(text, language)
  local list, block = {}, nil
  for line in (text .. "\n"):gmatch "([^\n]*)\n" do
    if block and line:find "^```" then
      list[#list + 1] = table.concat(block, "\n")
      block = nil
    elseif block then block[#block + 1] = line
    elseif line == "```" .. language then block = {} end
  end
  return list
end

--- The command lines of some blocks: a line each, without what stands behind a #.
---@param blocks string[]
---@return string[]
function M.lines(blocks)
  local list = {}
  for _, block in ipairs(blocks) do
    for line in (block:gsub("\\\n%s*", "") .. "\n"):gmatch "([^\n]*)\n" do
      line = line:gsub("%s+#.*$", ""):gsub("(%S)%s%s+.*$", "%1")        -- remarks in recipes stand behind spaces
      if line:find "%S" then list[#list + 1] = line end
    end
  end
  return list
end

-- The words of a line as a shell would have them, as far as these pages go: quotes, no more.
local function words_of(line)
  local words, at = {}, 1
  while at <= #line do
    local from, to, word = line:find("^%s*'([^']*)'", at)
    if not from then from, to, word = line:find('^%s*"([^"]*)"', at) end
    if not from then from, to, word = line:find("^%s*(%S+)", at) end
    if not from then break end
    words[#words + 1], at = word, to + 1
  end
  return words
end

--- What is wrong with a command line of lucid; nil: nothing. Of one that is not lucid's nothing is known.
---@param line string
---@return string|nil
function M.fault(line)
  local words = words_of(line)
  while words[1] and words[1]:find "^[%u_]+=" do table.remove(words, 1) end
  if not words[1] or not words[1]:find "^[%w%./]*lucid$" then return nil end
  local name = words[2]
  if not name or name == "help" or name:find "%.lua$" or name:find "^%-" then return nil end
  local path = "recipes/" .. name .. ".lua"
  if not file.exists(path) then return ("there is no recipe %s: %s"):format(name, line) end
  local spec = args.spec_of(path)
  local known, place = args.options(spec)
  local i = 3
  while words[i] do
    local option = words[i]:match "^%-%-([%w%-]+)$"
    local off = option and option:match "^no%-(.+)$"
    local o = option and known[place[option] or place[off]]
    if words[i] == "..." then o = { default = true }
    elseif words[i] == "--help" then return nil end
    if option and not o then return ("there is no --%s: %s"):format(option, line) end
    if not o and not spec.positional then return ("'%s' is no option: %s"):format(words[i], line) end
    if o and type(o.default) ~= "boolean" then
      i = i + 1
      local value, choices = words[i], o.rule.choices
      if not value then return ("--%s has no value: %s"):format(option, line) end
      if type(o.default) == "number" and not tonumber(value) and not value:find "^%u$" then
        return ("--%s %s is no number: %s"):format(option, value, line)
      end
      for item in value:gmatch(o.rule.list and "[^,]+" or ".+") do
        if choices and not (" " .. choices .. " "):find(" " .. item .. " ", 1, true) then
          return ("--%s %s is no choice: %s"):format(option, item, line)
        end
      end
    end
    i = i + 1
  end
end

return M
