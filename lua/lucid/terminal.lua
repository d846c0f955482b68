-- The terminal that output goes to: its size, whether it shows colours, whether it draws pixels.
local ffi = require "ffi"
local native = require "lucid.native"

local C = native.C
local M = {}

local OUT = 1
local columns, rows = ffi.new "int[1]", ffi.new "int[1]"

--- Columns and rows; 80 and 24 where nobody knows.
---@return integer columns, integer rows
function M.size()
  if C.lc_terminal_size(OUT, columns, rows) < 0 then return 80, 24 end
  return columns[0], rows[0]
end

--- Columns of the terminal that output goes to; nil: it goes to a file or another program.
---@return integer|nil
function M.width() return C.lc_terminal_size(OUT, columns, rows) == 0 and columns[0] or nil end

--- Whether output may hold colours: it goes to a terminal that knows them, and NO_COLOR does not forbid it.
---@return boolean
function M.colours()
  return C.lc_is_terminal(OUT) ~= 0 and os.getenv("TERM") ~= "dumb" and (os.getenv("NO_COLOR") or "") == ""
end

local PATIENCE = 0.5             -- seconds that a terminal has to say what it is
local answer = ffi.new "char[256]"
local sixel                      -- what it has said

--- Whether the terminal draws pixels in sixel's form: it is asked once what it can do.
---@return boolean
function M.sixel()
  if sixel == nil then
    local question = "\27[c"
    local n = M.colours() and tonumber(C.lc_terminal_ask(question, #question, ("c"):byte(), PATIENCE, answer, 256)) or 0
    local abilities = ffi.string(answer, n):match("\27%[%?([%d;]*)c$") or ""
    sixel = (";" .. abilities .. ";"):find(";4;", 1, true) ~= nil
  end
  return sixel
end

return M
