-- The interactive session (native/host/repl.c reads its lines): what a chunk sees, what of it stays, what is shown, and
-- how the whole is saved as a script.
--
-- Chunks have variables of their own, behind which stand Lua's globals: a name that is taken here is not taken from the
-- library. A `local` outside all blocks is such a variable, too, so that it lasts beyond its line.
local chunk = require "lucid.session.chunk"
local complete = require("lucid").complete
local file = require "lucid.file"
local native = require "lucid.native"
local value = require "lucid.session.value"
require "lucid.reload" -- from here on it knows what changes

local M = {}

local variables = setmetatable({}, { __index = _G })
local done = {}          -- chunks that succeeded: { text =, shows = }
local pending            -- the chunk that runs
local aside              -- it asked the session for something: it is no step of the work

-- ---- chunks ----------------------------------------------------------------------------------------------

--- Compiles what was typed, as an expression if it is one: the function; or nil, why not, and whether more text may
--- complete it.
---@param text string
---@return function|nil, string|nil, boolean|nil
function M.compile(text)
  local bare = text:match("^=(.*)$")
  pending, aside = { text = bare or text, shows = true }, false
  local f, reason = loadstring("return " .. pending.text, "=stdin")
  local open = not f and reason:find("'<eof>'$") ~= nil             -- as `1 +`, which begins no statement
  if not f and not bare then
    pending.shows = false
    f, reason = loadstring(text, "=stdin")
    open = open or not f and reason:find("'<eof>'$") ~= nil
    f = f and assert(loadstring(chunk.lasting(text), "=stdin"))
  end
  if not f then return nil, reason, open end
  return setfenv(f, variables)
end

--- Takes what the chunk returned: shows it, and remembers the chunk.
---@param ... any
function M.finish(...)
  local count = select("#", ...)
  if count > 0 then
    local texts = {}
    for i = 1, count do texts[i] = value.text((select(i, ...))) end
    print(table.concat(texts, "\t"))
  end
  pending.shows = pending.shows and count > 0
  if not aside then done[#done + 1] = pending end
end

--- What may stand for a word that was begun: "lucid.zer" -> { "lucid.zeros" }.
---@param word string
---@return string[]
function M.completions(word)
  local path, rest = word:match("^(.*[.:])([^.:]*)$")
  local owner, list = variables, {}
  path, rest = path or "", rest or word
  local ok = pcall(function()
    for name in path:gmatch("[^.:]+") do owner = owner[name] end
  end)
  local names = ok and complete(owner) or {}
  for _, name in ipairs(names) do
    if name:sub(1, #rest) == rest then list[#list + 1] = path .. name end
  end
  return list
end

-- ---- what the session answers ------------------------------------------------------------------------------

local FIRST = "-- Saved from a session of lucid"

-- A chunk as a part of a script.
local function step(c)
  if c.shows then return ("print(%s%s)"):format(c.text, c.text:find("--", 1, true) and "\n" or "") end
  if chunk.returns(c.text) then return ("print((function()\n%s\nend)())"):format(c.text) end
  return c.text
end

--- Saves the chunks that succeeded as a script, which `lucid FILE.lua` runs. Only a file that is such a script is
--- written over.
---@param path string
function M.save(path)
  aside = true
  if type(path) ~= "string" or not path:find("%.lua$") then
    error("save: a file name that ends in .lua is expected: save(\"work.lua\")", 2)
  end
  if file.exists(path) and file.read(path):sub(1, #FIRST) ~= FIRST then
    error(("save: %s is there, and no session saved it; choose another name"):format(path), 2)
  end
  local lines = { ("%s %s"):format(FIRST, native.version), 'local lucid = require "lucid"', "" }
  for _, c in ipairs(done) do lines[#lines + 1] = step(c) end
  local text = table.concat(lines, "\n") .. "\n"
  local fits, reason = loadstring(text, "=" .. path)
  file.write(path, text)
  if not fits then error(("save: %s is written, but as one script it does not compile: %s"):format(path, reason), 2) end
  print(("%s: %d chunk%s"):format(path, #done, #done == 1 and "" or "s"))
end

--- Shows where the last error came from.
function M.traceback()
  aside = true
  print(debug.getregistry()["lucid.traceback"] or "there was no error yet")
end

--- Shows what is written about a value or a name (lucid.help).
---@param ... any
function M.help(...)
  aside = true
  require("lucid.help")(...)
end

-- What is typed to leave, with or without its brackets.
local leave = setmetatable({}, { __tostring = function() return "exit() or Ctrl-D ends the session" end,
  __call = function(_, status) os.exit(status or 0, true) end })

variables.help, variables.save, variables.traceback = M.help, M.save, M.traceback
variables.exit, variables.quit = leave, leave

return M
