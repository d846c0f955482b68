-- Manual pages, as man(7) has them: lucid(1), and lucid-NAME(1) of every command.
local args = require "lucid.args"
local command = require "lucid.command"
local native = require "lucid.native"

local M = {}

local ENVIRONMENT = {
  { "LUCID_PATH", "Folders of further commands, separated by colons; they are looked for behind ./recipes." },
  { "LUCID_LIB", "The library to load in place of the installed liblucid.so." },
  { "LUCID_CACHE", "What --cache is where it is not given: a folder, or none." },
  { "LUCID_DEBUG", "1: an error is shown with its place and a traceback." },
  { "OPENAI_API_KEY, OPENAI_BASE_URL", "The key and the address of the judge openai." },
  { "NO_COLOR", "Nothing is coloured, on a terminal neither." },
}

-- Text as roff takes it: no escapes, no dashes that become hyphens, no line that is a request.
local function plain(text)
  return (text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("^([.'])", "\\&%1"):gsub("\n([.'])", "\n\\&%1"))
end

local function head(name)
  return ('.TH %s 1 "" "lucid %s" "lucid"'):format(name:upper(), native.version)
end

-- Paragraphs with a tag each.
local function tagged(lines, rows)
  for _, row in ipairs(rows) do
    lines[#lines + 1] = (".TP\n.B %s\n%s"):format(plain(row[1]), plain(row[2]))
  end
end

local function exit_status(lines)
  lines[#lines + 1] = ".SH EXIT STATUS"
  tagged(lines, command.STATUS)
end

local function overview(commands)
  local lines = { head "lucid", ".SH NAME", "lucid \\- HA\\-DPO: preference training of vision\\-language models",
    ".SH SYNOPSIS" }
  for i, form in ipairs(command.USAGE) do
    if i > 1 then lines[#lines + 1] = ".br" end
    lines[#lines + 1] = ".B " .. plain(form[1])
  end
  lines[#lines + 1] = ".SH DESCRIPTION\n" .. plain([[
Lucid makes large vision-language models stop describing what is not in the picture: it mines preference pairs, trains on
them with DPO and LoRA, and measures the result with POPE and SHR. A command is a Lua file, a recipe; one that is in
./recipes or in a folder of LUCID_PATH is a command, too. Results go to standard output, as one JSON document with
--json; progress and warnings go to standard error, with --quiet warnings alone.]])
  lines[#lines + 1] = ".SH COMMANDS"
  for _, c in ipairs(commands) do
    lines[#lines + 1] = (".TP\n.BR lucid\\-%s (1)\n%s"):format(plain(c.name), plain(c.about))
  end
  exit_status(lines)
  lines[#lines + 1] = ".SH ENVIRONMENT"
  tagged(lines, ENVIRONMENT)
  return table.concat(lines, "\n") .. "\n"
end

-- An option's word, what kind of value it takes, and its explanation.
local function option(o)
  local kind = type(o.default)
  local value = kind == "number" and " N" or kind == "string" and " TEXT" or ""
  return { ("--%s%s"):format(o.name, value), o.help .. args.shown(o) }
end

local function page(c)
  local lines = { head("lucid-" .. c.name), ".SH NAME", ("lucid\\-%s \\- %s"):format(plain(c.name), plain(c.about)),
    ".SH SYNOPSIS", (".B lucid %s\n%s"):format(plain(c.name), plain(args.form(c.spec))) }
  if c.spec.about then lines[#lines + 1] = ".SH DESCRIPTION\n" .. plain(c.spec.about) end
  lines[#lines + 1] = ".SH OPTIONS"
  local title
  for _, o in ipairs((args.options(c.spec))) do
    if o.title ~= title then
      title = o.title
      lines[#lines + 1] = ".SS " .. plain(title)
    end
    tagged(lines, { option(o) })
  end
  if c.examples[1] then
    lines[#lines + 1] = (".SH EXAMPLES\n.nf\n%s\n.fi"):format(plain(table.concat(c.examples, "\n")))
  end
  exit_status(lines)
  lines[#lines + 1] = ".SH SEE ALSO\n.BR lucid (1)"
  return table.concat(lines, "\n") .. "\n"
end

--- All pages by their names, without the section.
---@param commands lucid.Command[]
---@return table<string, string>
function M.pages(commands)
  local pages = { lucid = overview(commands) }
  for _, c in ipairs(commands) do pages["lucid-" .. c.name] = page(c) end
  return pages
end

return M
