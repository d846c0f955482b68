-- The page at /: one file with its own script and style, which asks this server alone.
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"

local M = {}

-- The names of models go into the page's script as JSON; "</" would end it.
local PLACE = "/*MODELS*/[]"

M.HEADERS = {
  ["Content-Security-Policy"] = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    .. "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ["Referrer-Policy"] = "no-referrer",
}

local html

--- The page of a server with these models.
---@param models string[]
---@return string
function M.text(models)
  html = html or file.read(native.root .. "lua/lucid/serve/page.html")
  local first, last = html:find(PLACE, 1, true)
  return html:sub(1, first - 1) .. json.encode(json.array(models)):gsub("</", "<\\/") .. html:sub(last + 1)
end

return M
