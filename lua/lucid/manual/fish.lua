-- Completion for fish: commands with what they do, options with their explanations.
local args = require "lucid.args"

local function quoted(text) return "'" .. text:gsub("\n", " "):gsub("[\\']", "\\%0") .. "'" end

-- The line of an option of a command.
local function line(command, o)
  local kind, value = type(o.default), ""
  if o.rule.choices then value = " -x -a " .. quoted(o.rule.choices)
  elseif kind == "number" then value = " -x"
  elseif kind == "string" then value = " -r" end
  return ("complete -c lucid -n '__fish_seen_subcommand_from %s' -l %s%s -d %s"):format(command, o.name, value, quoted(o.help))
end

--- What fish sources.
---@param commands lucid.Command[]
---@return string
return function(commands)
  local lines = { "# fish completion for lucid, made from its commands' options",
    "complete -c lucid -n __fish_use_subcommand -a help -d 'list the commands, or the options of one'" }
  for _, c in ipairs(commands) do
    lines[#lines + 1] = ("complete -c lucid -n __fish_use_subcommand -a %s -d %s"):format(c.name, quoted(c.about))
    for _, o in ipairs((args.options(c.spec))) do lines[#lines + 1] = line(c.name, o) end
  end
  return table.concat(lines, "\n") .. "\n"
end
