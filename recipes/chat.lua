-- A conversation in the terminal, about a picture or without one.
--   lucid chat --model llava-1.5-7b-hf --image cat.jpg [--temperature 0.7]
local lucid = require "lucid"

local opt = lucid.args {
  about = "A conversation: a line is a question, and the answer is shown as it grows. /image FILE begins anew with\n"
    .. "another picture, /reset forgets what was said, /quit or the end of the input ends.",
  common = "model vision bridge bert adapter device dtype quant template cache threads seed max-new-tokens min-new-tokens "
    .. "repetition-penalty temperature top-k top-p stop",
  required = { "model" },
  { "image", "", "picture file" },
  groups = { lucid.image.OPTIONS },
}

lucid.threads(opt.threads)
lucid.image.guard(opt)
local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
  adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
local chat = lucid.chat(m, lucid.generate.settings(opt))
if opt.image ~= "" then chat:show(opt.image) end
local terminal = lucid.is_terminal(0)
if terminal and not m.template.form.next then
  io.stderr:write("this model's template knows no further questions: each begins anew\n")
end

local function say(piece)
  io.write(piece)
  io.flush()
end

local function refuse(reason)
  io.stderr:write("lucid: ", (tostring(reason):gsub("^[^\n]-%.lua:%d+: ", ""):gsub("\n.*", "")), "\n")
end

local commands = {
  image = function(path)
    if path == "" then error("name a file: /image FILE", 0) end
    chat:show(path)
  end,
  reset = function() chat:reset() end,
}

local function obey(name, rest)
  local command = commands[name]
  if not command then error(("there is no command /%s; /image FILE, /reset and /quit are known"):format(name), 0) end
  command(rest)
end

while true do
  if terminal then say "> " end
  local line = io.read "*l"
  if not line then break end
  line = line:gsub("^%s+", ""):gsub("%s+$", "")
  local name, rest = line:match "^/(%S*)%s*(.*)$"
  if name == "quit" then break end
  local done, reason = true, nil
  if name then
    done, reason = pcall(obey, name, rest)
  elseif line ~= "" then
    done, reason = pcall(chat.ask, chat, line, say)
    io.write "\n"
  end
  if not done then
    if tostring(reason):find("interrupted", 1, true) then error(reason, 0) end
    refuse(reason)
  end
end
if terminal then io.write "\n" end
