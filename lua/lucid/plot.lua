-- Curves in the terminal, or as an SVG file.
--
--   lucid.plot(losses)                                      -- a list of numbers, or a tensor of one dim
--   lucid.plot({ train = a, ["held out"] = b }, { title = "loss", log = "y" })
--   lucid.plot({ { name = "lr", x = steps, y = rates } }, "rates.svg")
--   lucid.plot("runs/llava", { what = "loss rewards/margins" })          -- of a run's log
local axis = require "lucid.axis"
local canvas = require "lucid.plot.canvas"
local chart = require "lucid.report.chart"
local file = require "lucid.file"
local json = require "lucid.json"
local keys = require "lucid.keys"
local native = require "lucid.native"
local options = require "lucid.options"
local terminal = require "lucid.terminal"

local M = {}

-- ---- what is drawn ---------------------------------------------------------------------------------------

local function wrong(what)
  native.raise(("plot: %s; a list of numbers, a tensor of one dim, { NAME = values } or { { name =, x =, y = }, ... } is expected")
    :format(what))
end

local function numbers(values, whose)
  if native.is_tensor(values) then
    if values:dim() ~= 1 then wrong(("%s has %d dims"):format(whose, values:dim())) end
    return values:tolist()
  end
  if type(values) ~= "table" then wrong(("%s is a %s"):format(whose, type(values))) end
  for i = 1, #values do
    if type(values[i]) ~= "number" then wrong(("%s has a %s at %d"):format(whose, type(values[i]), i)) end
  end
  return values
end

-- A series of values, or of { x =, y = }.
local function series_of(name, values)
  if type(values) == "table" and values.y ~= nil then
    local y = numbers(values.y, name .. ".y")
    local x = values.x and numbers(values.x, name .. ".x")
    if x and #x ~= #y then wrong(("%s has %d x and %d y"):format(name, #x, #y)) end
    values = y
    if x then return { name = name, x = x, y = y } end
  end
  local y, x = numbers(values, name), {}
  for i = 1, #y do x[i] = i end
  return { name = name, x = x, y = y }
end

-- The series of a run's log: its lines' numbers by step.
local function logged(run, what)
  local path = file.kind(run) == "folder" and run .. "/log.jsonl" or run
  local list, found = {}, {}
  for name in what:gmatch("%S+") do
    list[#list + 1] = { name = name, x = {}, y = {} }
    found[name] = list[#list]
  end
  local n = 0
  for record in json.each(path) do
    n = n + 1
    for name, s in pairs(found) do
      if type(record[name]) == "number" then
        s.x[#s.x + 1], s.y[#s.y + 1] = type(record.step) == "number" and record.step or n, record[name]
      end
    end
  end
  for _, s in ipairs(list) do
    if #s.y == 0 then native.raise(("plot: no line of %s has a number '%s'"):format(path, s.name)) end
  end
  return list
end

local function all_series(data, opt)
  if type(data) == "string" then return logged(data, opt.what or "loss") end
  if native.is_tensor(data) or (type(data) == "table" and (type(data[1]) == "number" or data.y ~= nil)) then
    return { series_of("values", data) }
  end
  if type(data) ~= "table" then wrong("a " .. type(data)) end
  local list = {}
  for i, s in ipairs(data) do
    local name = type(s) == "table" and s.name or ("series %d"):format(i)
    list[i] = series_of(name, s)
  end
  local named = {}
  for name, s in pairs(data) do
    if type(name) == "string" then named[name] = s end
  end
  for _, name in ipairs(keys(named)) do list[#list + 1] = series_of(name, named[name]) end
  if #list == 0 then wrong "there is no series" end
  return list
end

-- ---- in the terminal ---------------------------------------------------------------------------------------

local HIGH, WIDEST = 16, 100          -- rows of a drawing unless asked otherwise; columns at most

-- Whether signs beyond ASCII arrive.
local function unicode()
  local locale = os.getenv "LC_ALL" or ""
  if locale == "" then locale = os.getenv "LC_CTYPE" or "" end
  if locale == "" then locale = os.getenv "LANG" or "" end
  return locale:lower():find("utf%-?8") ~= nil and os.getenv "TERM" ~= "dumb"
end

local PLAIN = { side = "|", tick = "+", corner = "+", floor = "-", mark = "+" }
local FINE = { side = "│", tick = "┤", corner = "└", floor = "─", mark = "┬" }

local function draw(on, series, across, up)
  for n, s in ipairs(series) do
    local last_x, last_y
    for i = 1, #s.x do
      local x, y = across:part(s.x[i]), up:part(s.y[i])
      if x and y then
        x, y = math.floor(x * (on.width - 1) + 0.5), math.floor((1 - y) * (on.height - 1) + 0.5)
        if last_x then on:line(last_x, last_y, x, y, n) else on:dot(x, y, n) end
      end
      last_x, last_y = y and x, y
    end
  end
end

-- The row's, or column's, label for each place that has one.
local function labels(scale, places, turned)
  local list = {}
  for _, t in ipairs(scale:labels()) do
    local part = scale:part(t.value)
    list[math.floor((turned and 1 - part or part) * (places - 1) + 0.5)] = t.text
  end
  return list
end

-- The floor with its ticks, and the numbers below them as far as they do not touch.
local function floor_lines(across, columns, signs)
  local named, line, below = labels(across, columns), {}, ""
  for column = 0, columns - 1 do
    line[#line + 1] = named[column] and signs.mark or signs.floor
    local from = named[column] and math.max(0, column - math.floor(#named[column] / 2))
    if from and (from > #below or below == "") then below = below .. (" "):rep(from - #below) .. named[column] end
  end
  return table.concat(line), below
end

local function text(series, opt)
  local wide = terminal.size()
  local across = axis.new(series, "x", { log = opt.log and opt.log:find("x") ~= nil })
  local up = axis.new(series, "y", { log = opt.log and opt.log:find("y") ~= nil })
  local rows = opt.height or HIGH
  local named, margin = labels(up, rows, true), 0
  for _, label in pairs(named) do margin = math.max(margin, #label) end
  local columns = math.max(10, (opt.width or math.min(wide, WIDEST)) - margin - 3)
  local fine, colours = unicode(), terminal.colours()
  -- Several curves of one colour are told apart by their marks.
  local on = canvas.new(columns, rows, { braille = fine and (colours or #series == 1), colours = colours })
  draw(on, series, across, up)
  local signs, out = fine and FINE or PLAIN, {}
  if opt.title then out[1] = (" "):rep(margin + 2) .. opt.title end
  for row = 0, rows - 1 do
    local label = named[row] or ""
    out[#out + 1] = (" "):rep(margin - #label) .. label .. " " .. (named[row] and signs.tick or signs.side) .. on:row(row)
  end
  local line, below = floor_lines(across, columns, signs)
  out[#out + 1] = (" "):rep(margin + 1) .. signs.corner .. line
  out[#out + 1] = (" "):rep(margin + 2) .. below
  local legend = {}
  for n, s in ipairs(series) do legend[n] = on:sample(n) .. " " .. s.name end
  if #series > 1 then out[#out + 1] = (" "):rep(margin + 2) .. table.concat(legend, "   ") end
  return table.concat(out, "\n") .. "\n"
end

-- ---- the call ---------------------------------------------------------------------------------------------------

local OPTIONS = options "title log width height path what"

---@class lucid.PlotOptions
---@field title string|nil
---@field log string|nil         "x", "y" or "xy": logarithmic axes; what is not above 0 has no place there
---@field width integer|nil      columns with the labels; default: the terminal's, 100 at most
---@field height integer|nil     rows; default 16
---@field path string|nil        write this SVG file in place of drawing
---@field what string|nil        of a run: names of its log; default "loss"

--- Draws curves: of a list or tensor of numbers, of several { NAME = values } or { { name =, x =, y = }, ... }, or of a
--- run's folder or log. What is no finite number has no place.
---@param data any
---@param opt lucid.PlotOptions|string|nil     a string: the SVG file to write
function M.draw(data, opt)
  if type(opt) == "string" then opt = { path = opt } end
  OPTIONS:check("plot", opt)
  opt = opt or {}
  if opt.log and not (opt.log == "x" or opt.log == "y" or opt.log == "xy") then
    native.raise(("plot: log = '%s'; x, y and xy are known"):format(tostring(opt.log)))
  end
  for _, name in ipairs { "width", "height" } do
    local n = opt[name]
    if n ~= nil and not (type(n) == "number" and n >= 1 and n % 1 == 0) then
      native.raise(("plot: %s is %s; a whole number from 1 is expected"):format(name, tostring(n)))
    end
  end
  local series = all_series(data, opt)
  if not opt.path then
    io.write(text(series, opt))
  elseif opt.path:find("%.svg$") then
    file.write(opt.path, chart.file(series, opt))
  else
    native.raise(("plot: %s; curves are written as .svg"):format(opt.path))
  end
end

return setmetatable(M, { __call = function(_, ...) return M.draw(...) end })
