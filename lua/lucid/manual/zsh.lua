-- Completion for zsh: commands with what they do, options with their explanations.
local args = require "lucid.args"

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

-- Text inside [...] of _arguments, or behind the name of _describe.
local function explained(text) return (text:gsub("\n", " "):gsub("[%[%]:\\]", "\\%0")) end

-- The words of _arguments for an option.
local function specs(lines, o)
  local kind, what = type(o.default), ""
  if kind == "number" then what = ":number: "
  elseif o.rule.choices then what = (":%s:(%s)"):format(o.name, o.rule.choices)
  elseif kind == "string" then what = (":%s:_files"):format(o.name) end
  lines[#lines + 1] = "        " .. quoted(("--%s[%s]%s"):format(o.name, explained(o.help), what)) .. " \\"
  if kind == "boolean" then lines[#lines + 1] = "        " .. quoted(("--no-%s[not: %s]"):format(o.name, explained(o.help))) .. " \\" end
end

--- What zsh loads as the function _lucid.
---@param commands lucid.Command[]
---@return string
return function(commands)
  local names, cases = {}, {}
  for i, c in ipairs(commands) do
    names[i] = "    " .. quoted(("%s:%s"):format(c.name, explained(c.about)))
    cases[#cases + 1] = ("    %s)\n      _arguments \\"):format(c.name)
    for _, o in ipairs((args.options(c.spec))) do specs(cases, o) end
    cases[#cases + 1] = "        '--help[list the options]' '*: :_files' ;;"
  end
  return ([[
#compdef lucid
# zsh completion for lucid, made from its commands' options

_lucid_commands() {
  local -a commands
  commands=(
%s
    'help:list the commands, or the options of one'
  )
  _describe command commands
}

_lucid() {
  local line state
  _arguments -C '--help[list the commands]' '--version[versions, and what this build has]' '-e[run a chunk]:chunk: ' \
    '1: :{ _lucid_commands; _files -g "*.lua" }' '*:: :->words'
  [ "$state" = words ] || return
  case $line[1] in
    help) _lucid_commands ;;
%s
    *) _files ;;
  esac
}

_lucid "$@"
]]):format(table.concat(names, "\n"), table.concat(cases, "\n"))
end
