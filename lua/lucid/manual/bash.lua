-- Completion for bash: commands, then a command's options, then what an option can be; files elsewhere.
local args = require "lucid.args"

-- The words that complete an option's name.
local function option_words(list)
  local words = {}
  for _, o in ipairs(list) do
    words[#words + 1] = "--" .. o.name
    if type(o.default) == "boolean" then words[#words + 1] = "--no-" .. o.name end
  end
  words[#words + 1] = "--help"
  return table.concat(words, " ")
end

-- What may follow options: their choices, or nothing where a number is expected.
local function values(lines, list)
  for _, o in ipairs(list) do
    local kind = type(o.default)
    if o.rule.choices then
      lines[#lines + 1] = ("        --%s) _lucid_words %q; return ;;"):format(o.name, o.rule.choices)
    elseif kind ~= "boolean" then
      lines[#lines + 1] = ("        --%s) %sreturn ;;"):format(o.name, kind == "string" and "compopt -o default; " or "")
    end
  end
end

--- What bash sources.
---@param commands lucid.Command[]
---@return string
return function(commands)
  local names, cases = {}, {}
  for i, c in ipairs(commands) do
    local list = args.options(c.spec)
    names[i] = c.name
    cases[#cases + 1] = ("    %s)\n      case $before in"):format(c.name)
    values(cases, list)
    cases[#cases + 1] = "      esac"
    cases[#cases + 1] = ("      options=%q\n      ;;"):format(option_words(list))
  end
  local all = table.concat(names, " ")
  return ([[
# bash completion for lucid, made from its commands' options

_lucid_words() { COMPREPLY=($(compgen -W "$1" -- "$word")); }

_lucid() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options=
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ]; then
    compopt -o default
    _lucid_words "%s help --help --version -e"
    return
  fi
  case ${COMP_WORDS[1]} in
    help) _lucid_words "%s"; return ;;
%s
  esac
  case $word in
    -*) _lucid_words "$options" ;;
    *) compopt -o default ;;
  esac
}

complete -F _lucid lucid
]]):format(all, all, table.concat(cases, "\n"))
end
