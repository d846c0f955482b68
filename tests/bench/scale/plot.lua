-- Charts of measured points and their lines as one SVG file, which needs nothing beside it: rows of panels
-- { title, x, y, line = { a, b } or a list of values }.
local chart = require "lucid.report.chart"
local html = require "lucid.report.html"

local M = {}

local WIDTH, HEIGHT, TITLE, GAP = 440, 210, 26, 24      -- a chart's own size, and what is around it

local STYLE = [[
:root { --c1: #1f5fc4; --c2: #b45309 }
text { font: 11px system-ui, sans-serif; fill: #5a616c } .title { font-size: 13px; fill: #1d2025 }
.axis { stroke: #e1e4e8; fill: none } .curve { fill: none; stroke-width: 1.7 } ]]

local function panel(p, left, top)
  local line = p.line
  if line.b then
    line = {}
    for i, x in ipairs(p.x) do line[i] = p.line.a + p.line.b * x end
  end
  local drawn = chart.lines({ { name = "measured", x = p.x, y = p.y }, { name = "line", x = p.x, y = line } }, p.title)
  return ('<text class="title" x="%d" y="%d">%s</text>%s'):format(left, top + 14, html.escape(p.title),
    (drawn:gsub("^<svg", ('<svg x="%d" y="%d" width="%d" height="%d"'):format(left, top + TITLE, WIDTH, HEIGHT))))
end

--- The text of the file.
---@param rows table[][]
---@return string
function M.svg(rows)
  local columns = 0
  for _, row in ipairs(rows) do columns = math.max(columns, #row) end
  local width, height = GAP + columns * (WIDTH + GAP), GAP + #rows * (TITLE + HEIGHT + GAP)
  local out = { ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">'):format(width,
    height, width, height), ("<style>%s</style>"):format(STYLE), '<rect width="100%" height="100%" fill="#fff"/>' }
  for r, row in ipairs(rows) do
    for c, p in ipairs(row) do
      out[#out + 1] = panel(p, GAP + (c - 1) * (WIDTH + GAP), GAP + (r - 1) * (TITLE + HEIGHT + GAP))
    end
  end
  out[#out + 1] = "</svg>\n"
  return table.concat(out, "\n")
end

return M
