-- The page at /: one file with its own script and style, which asks this server alone.
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"

local M = {}

-- The names of models go into the page's script as JSON, in which "</" would end it, and whether there is a judge.
local MODELS, JUDGED = "/*MODELS*/[]", "/*JUDGED*/false"

M.HEADERS = {
  ["Content-Security-Policy"] = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    .. "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  ["Referrer-Policy"] = "no-referrer",
}

local html

local function put(text, place, value)
  local first, last = text:find(place, 1, true)
  return text:sub(1, first - 1) .. value .. text:sub(last + 1)
end

--- The page of a server with these models.
---@param models string[]
---@param judged boolean     whether it judges answers
---@return string
function M.text(models, judged)
  html = html or file.read(native.root .. "lua/lucid/serve/page.html")
  local names = json.encode(json.array(models)):gsub("</", "<\\/")
  return put(put(html, MODELS, names), JUDGED, tostring(judged))
end

return M
