-- What a bench says, in results/: its lines as DATE-NAME.txt, its numbers as .json, charts as .svg.
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"

local M = {}

--- Two functions: say prints a line and remembers it, finish writes the files.
---@param name string
---@return fun(form: string, ...), fun(result: table, svg: string|nil)
function M.open(name)
  local lines, path = {}, ("%stests/bench/results/%s-%s"):format(native.root, os.date "!%F", name)
  local function say(form, ...)
    lines[#lines + 1] = form:format(...)
    print(lines[#lines])
    io.stdout:flush()
  end
  local function finish(result, svg)
    file.write(path .. ".txt", table.concat(lines, "\n") .. "\n")
    json.write(path .. ".json", result, { indent = 1 })
    if svg then file.write(path .. ".svg", svg) end
  end
  return say, finish
end

return M
