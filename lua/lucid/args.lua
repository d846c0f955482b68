-- A recipe's options: declared once, read from the command line, shown by --help.
--
--   local opt = lucid.args {
--     about = "HA-DPO training of LLaVA-1.5.",
--     common = "model data images out device dtype seed limit",
--     { "beta", 0.1, "strength of the preference loss" },
--     { "clip", 0, "largest gradient norm; 0: none" },
--     { "quantise", false, "a flag: --quantise or --no-quantise" },
--     groups = { lucid.dpo.OPTIONS },      -- lists that recipes share: { title = "...", { name, ... }, ... }
--     defaults = { beta = 0.5 },           -- in place of those of shared options
--   }
--
-- The type of an option is that of its default; "" stands for nothing given. A number is 0 or more
-- unless a fourth field says otherwise: { min = 1, whole = true }, { min = -1 }; { choices = "a b" } names
-- the only texts that are possible, with list = true one or more of them, separated by commas; { check = f }: f(text)
-- raises what is wrong with a text. An option that has a common one's name has its rule. opt.given[name] says whether
-- the user gave it. The options that spec.published names have no default of their own: without the
-- user they are nil, and --help says that they are as published. A recipe that works in several processes (lucid.dist)
-- says spec.processes = true. A wrong option or value is one line on stderr and exit status 2.
local dist = require "lucid.dist"
local file = require "lucid.file"
local native = require "lucid.native"
local options = require "lucid.options"
local plug = require "lucid.plug"
local prompt = require "lucid.prompt"
local recipe = require "lucid.recipe"

local M = {}

-- Who gives the key itself is told so, without its being written anywhere.
local function key_file(path)
  if path ~= "" and file.kind(path) ~= "file" then error("there is no such file; a key itself has no place on a command line", 0) end
end

-- What many recipes take, each worded once.
M.COMMON = {
  model = { "", "model folder (Hugging Face layout)" },
  vision = { "", "vision tower's weights, where they are separate" },
  bridge = { "", "bridge's weights, where they are separate" },
  bert = { "", "folder of BERT's vocab.txt" },
  adapter = { "", "adapter folder, checkpoint or run" },
  data = { "", "folder of the data files" },
  images = { "", "root folder of the pictures" },
  out = { "", "folder that the run writes" },
  device = { "auto", "auto, cpu, cuda or cuda:N", { check = function(text)
    if not (text == "auto" or text == "cpu" or text:find("^cuda$") or text:find("^cuda:%d+$")) then
      error(("'%s' is none of auto, cpu, cuda and cuda:N"):format(text), 0)
    end
  end } },
  tune = { false, "time the device's matrix products and keep the fastest; two fresh runs may then differ in last bits" },
  dtype = { "auto", "f32, bf16 or f16; auto: bf16 for 16-bit files where the device multiplies it fast, else f32",
    { choices = "auto f32 bf16 f16" } },
  quant = { "none", "quantise the decoder blocks' linear layers: none, q8_0, nf4 or fp4 (as MiniGPT-4 was published)",
    { choices = "none q8_0 nf4 fp4" } },
  template = { "", "prompt template: a name or a .lua file; empty: the model's own", { check = prompt.check } },
  judge = { "annotation", "a judge's name or a .lua file", { check = plug.check("judge", "none") } },
  metric = { "", "a metric's name or a .lua file", { check = plug.check "metric" } },
  ["api-key-file"] = { "", "file of a key, its owner's alone", { check = key_file } },
  threads = { 0, "threads; 0: all cores", { whole = true, max = 1024 } },
  seed = { 42, "random seed", { whole = true } },
  limit = { 0, "use the first N records; 0: all", { whole = true } },
  batch = { 16, "records worked on together", { whole = true, min = 1 } },
  cache = { "", "folder of what runs share: pictures' features, references; empty: $XDG_CACHE_HOME/lucid; none: no cache" },
  json = { false, "print results as JSON" },
  quiet = { false, "no progress" },
  ["dry-run"] = { false, "show the plan and stop" },
  -- generation: lucid.generate.OPTIONS
  ["max-new-tokens"] = { 512, "most tokens of an answer", { whole = true, min = 1 } },
  ["max-length"] = { 0, "most tokens of an answer and what the model's programs count of the prompt; 0: any", { whole = true } },
  ["min-new-tokens"] = { 0, "no end before so many tokens", { whole = true } },
  ["min-length"] = { 0, "the same with what is counted of the prompt", { whole = true } },
  beams = { 1, "beams of the search; 1: greedy or sampled", { whole = true, min = 1, max = 1024 } },
  ["length-norm"] = { "new", "a search measures answers alone (new) or with the prompt, as transformers before 4.36 (full)",
    { choices = "full new" } },
  ["length-penalty"] = { 1, "power of that length; more favours longer answers", { min = -100, max = 100 } },
  ["repetition-penalty"] = { 1, "above 1: what was said becomes less likely", { min = 0.01 } },
  temperature = { 0, "0: the likeliest token every time" },
  ["top-k"] = { 0, "sample from so many of the likeliest tokens; 0: all", { whole = true } },
  ["top-p"] = { 1, "sample from the likeliest tokens that hold this much probability", { max = 1 } },
  stop = { "", "end before this text" },
}

--- Ends the program as a wrong option does: one line, exit status 2. A recipe that was called from Lua raises it.
---@param message string
function M.usage(message)
  if recipe.nested() then error(message, 0) end
  native.C.lc_comm_turn()
  io.stderr:write("lucid: ", (message:gsub("%c", "?")), "\n")     -- a value may hold line ends
  os.exit(2, true)
end

local usage = M.usage

local function words_of(text)
  local set = {}
  for word in (text or ""):gmatch("%S+") do set[word] = true end
  return set
end

---@class lucid.Option
---@field name string
---@field default string|number|boolean
---@field help string
---@field rule table           min, max, whole, choices, list, check
---@field title string|nil     of its group
---@field published boolean|nil

--- The options in order: common ones first, then the recipe's own, which may replace a common default, then groups.
--- The second value is their places by name.
---@param spec table
---@return lucid.Option[], table<string, integer>
function M.options(spec)
  local list, place = {}, {}
  local function add(name, default, help, rule, title)
    local known = place[name] and list[place[name]]
    if known then
      list[place[name]] = { name = name, default = default, help = help or known.help,
        rule = rule or known.rule, title = known.title }
      return
    end
    rule = rule or M.COMMON[name] and M.COMMON[name][3]
    list[#list + 1] = { name = name, default = default, help = help, rule = rule or {}, title = title }
    place[name] = #list
  end
  for name in (spec.common or ""):gmatch("%S+") do
    local c = M.COMMON[name] or error("args: there is no common option " .. name, 3)
    add(name, c[1], c[2], c[3])
  end
  for _, o in ipairs(spec) do add(o[1], o[2], o[3], o[4]) end
  for _, group in ipairs(spec.groups or {}) do
    for _, o in ipairs(group) do add(o[1], o[2], o[3], o[4], group.title) end
  end
  for name, default in pairs(spec.defaults or {}) do
    local o = list[place[name] or error("args: there is no option " .. name, 3)]
    o.default = default
  end
  local published = words_of(spec.published)
  for _, o in ipairs(list) do o.published = published[o.name] end
  return list, place
end

--- What --help says of an option's default, behind its explanation.
---@param o lucid.Option
---@return string
function M.shown(o)
  local default = o.default
  if o.published then return " [as published]" end
  if default == "" then return "" end
  if type(default) == "boolean" then return default and " [on]" or "" end
  return (" [%s]"):format(tostring(default))
end

--- What may stand behind a command's name.
---@param spec table
---@return string
function M.form(spec) return "[options]" .. (spec.positional and (" [%s ...]"):format(spec.positional) or "") end

--- The text of --help.
---@param spec table[]
---@param name string
---@param columns integer|nil     of a terminal, which lines have to fit
---@return string
function M.help(spec, name, columns)
  local wrap, lines = require "lucid.wrap", {}          -- no start of a recipe pays for it
  if spec.about then lines[#lines + 1] = spec.about .. "\n" end
  lines[#lines + 1] = ("usage: lucid %s %s\n"):format(name, M.form(spec))
  local list, words, width, title = M.options(spec), {}, 22, nil
  for i, o in ipairs(list) do
    words[i] = o.name .. (type(o.default) == "boolean" and "" or type(o.default) == "number" and " N" or " TEXT")
    width = math.max(width, #words[i])
  end
  for i, o in ipairs(list) do
    if o.title ~= title then
      title = o.title
      lines[#lines + 1] = ("\n%s:"):format(title)
    end
    lines[#lines + 1] = ("  --%s%s %s"):format(words[i], (" "):rep(width - #words[i]),
      wrap((o.help or "") .. M.shown(o), width + 5, columns))
  end
  return table.concat(lines, "\n") .. "\n"
end

-- A number in the range that its option allows; whole ones stay exact as integers of the core.
local function number(o, text)
  local value, rule = tonumber(text), o.rule
  if not value then usage(("--%s: '%s' is not a number"):format(o.name, text)) end
  local least, most = rule.min or 0, rule.max or rule.whole and 2 ^ 31 - 1 or math.huge
  if value ~= value or math.abs(value) == math.huge or value < least or value > most then
    usage(("--%s: %s is out of range; %g or more%s"):format(o.name, text, least,
      most < math.huge and (", at most %.0f"):format(most) or ""))
  end
  if rule.whole and value % 1 ~= 0 then usage(("--%s: %s is not a whole number"):format(o.name, text)) end
  return value
end

local function convert(o, text)
  if type(o.default) == "number" then return number(o, text) end
  local choices = o.rule.choices
  local function choose(item)
    if choices and not words_of(choices)[item] then
      usage(("--%s: '%s' is none of %s"):format(o.name, item, (choices:gsub(" ", ", "))))
    end
  end
  if o.rule.list then (text .. ","):gsub("([^,]*),", choose) else choose(text) end
  if o.rule.check then
    local ok, reason = pcall(o.rule.check, text)
    if not ok then usage(("--%s: %s"):format(o.name, tostring(reason))) end
  end
  return text
end

--- What a recipe gives to lucid.args, without running what follows. A file that never asks for its options is an error.
---@param path string
---@return table
function M.spec_of(path)
  local chunk, parse, spec = assert(loadfile(path)), M.parse, nil
  M.parse = function(given)
    spec = given
    error(spec, 0)
  end
  local ok, reason = pcall(chunk)
  M.parse = parse
  if ok then error(path .. ": it takes no options through lucid.args", 0) end
  if reason ~= spec then error(reason, 0) end
  return spec
end

--- Parses a list of words. Positional words are collected under [1], [2] ... when spec.positional
--- names them, and refused else.
---@param spec table
---@param words string[]|nil     default: the script's arguments
---@return string[]
function M.parse(spec, words)
  words = words or rawget(_G, "arg") or {}
  local started = dist.started() or 1
  if started > 1 and not spec.processes then
    usage(("%s works in one process, and %d were started; start it without mpirun or srun"):format(
      rawget(_G, "LUCID_RECIPE") or "this script", started))
  end
  local list, place = M.options(spec)
  local opt, names = { given = {} }, {}
  for i, o in ipairs(list) do
    names[i] = o.name
    if not o.published then opt[o.name] = o.default end
  end
  local i = 1
  while i <= #words do
    local word = words[i]
    local name, inline = word:match("^%-%-([%w_%-]+)=?(.*)$")
    if word == "--help" or word == "-h" then
      io.stdout:write(M.help(spec, rawget(_G, "LUCID_RECIPE") or "RECIPE", require("lucid.terminal").width()))
      os.exit(0, true)
    elseif name then
      local off = not place[name] and name:match("^no%-(.+)$")
      local o = list[place[off or name]]
      if not o or (off and type(o.default) ~= "boolean") then
        local near = options.nearest(name, names)
        usage(("unknown option --%s%s"):format(name, near and "; did you mean --" .. near .. "?"
          or "; --help lists them"))
      end
      if type(o.default) == "boolean" then
        if word:find("=", 1, true) then usage(("--%s takes no value"):format(name)) end
        opt[o.name] = not off
      else
        local text = inline
        if not word:find("=", 1, true) then
          i = i + 1
          text = words[i] or usage(("--%s: a value is missing"):format(name))
        end
        opt[o.name] = convert(o, text)
      end
      opt.given[o.name] = true
    elseif word:find("^%-.") then
      usage(("'%s' is not an option; --help lists them"):format(word))
    elseif spec.positional then
      opt[#opt + 1] = word
    else
      usage(("'%s' is not an option; --help lists them"):format(word))
    end
    i = i + 1
  end
  for _, o in ipairs(list) do                 -- --dry-run is opt.dry_run in Lua
    local field = o.name:gsub("%-", "_")
    opt[field] = opt[o.name]
  end
  for _, required in ipairs(spec.required or {}) do
    if opt[required] == "" then usage(("--%s is required; --help lists all options"):format(required)) end
  end
  return opt
end

return setmetatable(M, { __call = function(_, spec, words) return M.parse(spec, words) end })
