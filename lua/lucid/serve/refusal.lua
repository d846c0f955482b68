-- What is wrong with a request, as an error that becomes the answer: a status and OpenAI's error object.
local json = require "lucid.json"

local M = {}
local Refusal = {}
Refusal.__index = Refusal

local KINDS = { [500] = "server_error", [503] = "server_error" }      -- the gate has kinds of its own

local LONGEST = 1000            -- bytes of a message: a request's own words may stand in it

local function short(text) return text and #text > LONGEST and text:sub(1, LONGEST) .. "..." or text end

--- A refusal.
---@param status integer        HTTP's
---@param message string        what, where, and what would be right
---@param param string|nil      the field of the request
---@param code string|nil       a word that programs look at
---@param headers table|nil     of the answer: { name = value }
---@return table
function M.new(status, message, param, code, headers)
  return setmetatable({ status = status, message = short(message), param = short(param), code = code, headers = headers },
    Refusal)
end

--- Raises what M.new makes.
---@param ... any
function M.raise(...) error(M.new(...), 0) end

--- Whether a caught error is a refusal.
---@param value any
---@return boolean
function M.is(value) return getmetatable(value) == Refusal end

--- The text of the error object.
---@return string
function Refusal:text()
  return json.encode { error = { message = self.message, type = KINDS[self.status] or "invalid_request_error",
    param = self.param or json.null, code = self.code or json.null } }
end

--- A refusal of any caught error: what was not raised as one is the server's own fault.
---@param value any
---@return table
function M.of(value)
  if M.is(value) then return value end
  local text = tostring(value):gsub("^[^\n]-%.lua:%d+: ", ""):gsub("\n.*", "")
  return setmetatable({ status = 500, message = text }, Refusal)
end

return M
