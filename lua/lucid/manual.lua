-- What is installed beside the program: manual pages and the completion of shells, made from the commands' own options,
-- so that they say what the commands do. lucid/manual/ has a file for each form.
--
--   lucid.manual.write("/usr/share")        man/man1, bash-completion, zsh, fish
local command = require "lucid.command"
local file = require "lucid.file"
local native = require "lucid.native"

local M = {}

-- Where each shell looks below PREFIX/share.
local SHELLS = {
  bash = "bash-completion/completions/lucid",
  zsh = "zsh/site-functions/_lucid",
  fish = "fish/vendor_completions.d/lucid.fish",
}

local function write(path, text)
  file.mkdir(path:match("^(.*)/"))
  file.write(path, text)
end

--- Every file by its place below PREFIX/share.
---@param commands lucid.Command[]|nil     default: those that come with lucid
---@return table<string, string>
function M.files(commands)
  commands = commands or command.of(native.root .. "recipes")
  local files = {}
  for name, text in pairs(require("lucid.manual.page").pages(commands)) do files["man/man1/" .. name .. ".1"] = text end
  for shell, place in pairs(SHELLS) do files[place] = require("lucid.manual." .. shell)(commands) end
  return files
end

--- Writes them.
---@param share string
function M.write(share)
  for place, text in pairs(M.files()) do write(share .. "/" .. place, text) end
end

return M
