-- Charts as SVG: curves, and distributions as outlines. A series has its colour and its dashes, so that they are told
-- apart without colours, too.
local axis = require "lucid.axis"
local html = require "lucid.report.html"
local palette = require "lucid.report.palette"

local M = {}

--- The look of what is drawn here, for the page around it.
M.STYLE = [[
svg { display: block; width: 100%; height: auto; overflow: visible }
svg text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums }
svg .axis { stroke: var(--line); fill: none }
svg .curve { fill: none; stroke-width: 1.7; stroke-linejoin: round }
svg .area { stroke: none; opacity: .1 }
]]

local WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 440, 210, 50, 24, 8, 8
local COLOURS, DASHES = 6, { "", "7 3", "2 3", "9 3 2 3", "14 4", "4 2" }

local function colour(n) return (n - 1) % COLOURS + 1 end

-- How the n-th series is drawn. Behind the sixth colour they begin again, with other dashes.
local function stroke(n)
  local dash = DASHES[(n - 1 + math.floor((n - 1) / COLOURS)) % #DASHES + 1]
  return ('style="stroke:var(--c%d)"%s'):format(colour(n),
    dash ~= "" and (' stroke-dasharray="%s"'):format(dash) or "")
end

local function curve(series, points)
  return ('<polyline class="curve" %s points="%s"><title>%s</title></polyline>'):format(stroke(series.index), points,
    html.escape(series.name))
end

local MOST = 400     -- points of a curve: more than there are pixels for only make a page large

-- A long series by the least and the greatest of each stretch, in their order: peaks stay.
local function thinned(x, y)
  if #x <= MOST then return x, y end
  local keep, each = {}, #x / (MOST / 2)
  for k = 0, MOST / 2 - 1 do
    local least, most
    for i = math.floor(k * each) + 1, math.floor((k + 1) * each) do
      if axis.finite(y[i]) then
        if not least or y[i] < y[least] then least = i end
        if not most or y[i] > y[most] then most = i end
      end
    end
    if least then
      keep[#keep + 1] = math.min(least, most)
      if least ~= most then keep[#keep + 1] = math.max(least, most) end
    end
  end
  local tx, ty = {}, {}
  for i, k in ipairs(keep) do tx[i], ty[i] = x[k], y[k] end
  return tx, ty
end

-- The axes around series, and what puts a point on them: nil where it has no place. opt: { log = "x", "y" or "xy", from = }
local function frame(series, opt)
  local across = axis.new(series, "x", { log = opt.log and opt.log:find("x") ~= nil })
  local up = axis.new(series, "y", { log = opt.log and opt.log:find("y") ~= nil, from = opt.from })
  local out = {}
  local function px(x)
    local part = across:part(x)
    return part and LEFT + part * (WIDTH - LEFT - RIGHT)
  end
  local function py(y)
    local part = up:part(y)
    return part and HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)
  end
  for _, t in ipairs(up:labels()) do
    local y = py(t.value)
    out[#out + 1] = ('<path class="axis" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>'):format(
      LEFT, y, WIDTH - RIGHT, LEFT - 6, y + 4, t.text)
  end
  for _, t in ipairs(across:labels()) do
    out[#out + 1] = ('<text x="%.1f" y="%d" text-anchor="middle">%s</text>'):format(px(t.value), HEIGHT - 6, t.text)
  end
  return out, px, py
end

-- A drawing as an element of a page; about says what it is to whoever does not see it.
local function element(about, out)
  return ('<svg viewBox="0 0 %d %d" role="img" aria-label="%s">%s</svg>'):format(WIDTH, HEIGHT, html.escape(about),
    table.concat(out))
end

local function names_of(series)
  local names = {}
  for i, s in ipairs(series) do names[i] = s.name end
  return table.concat(names, ", ")
end

-- Curves with their axes, and the series as they are drawn.
local function curves(series, log)
  local drawn = {}
  for i, s in ipairs(series) do
    local x, y = thinned(s.x, s.y)
    drawn[i] = { name = s.name, x = x, y = y, index = s.index or i }
  end
  local out, px, py = frame(drawn, { log = log })
  for _, s in ipairs(drawn) do
    local points = {}
    for j = 1, #s.x do
      local x, y = px(s.x[j]), py(s.y[j])
      if x and y then points[#points + 1] = ("%.1f,%.1f"):format(x, y) end
    end
    out[#out + 1] = curve(s, table.concat(points, " "))
  end
  return out, drawn
end

--- A line chart of series { name=, x=, y=, index = which colour, default its place }.
---@param series table[]
---@param title string|nil
---@return string
function M.lines(series, title)
  local out, drawn = curves(series)
  return element(("%s: %s"):format(title or "curves", names_of(drawn)), out)
end

local LINE, BESIDE = 18, 12     -- height of a title and of each name; room for the last number of the axis

--- The same as a file of its own, with its title and what each line is.
---@param series table[]
---@param opt table         { title =, log = "x", "y" or "xy": logarithmic axes }
---@return string
function M.file(series, opt)
  local drawing, drawn = curves(series, opt.log)
  local title, top = opt.title or names_of(drawn), LINE
  local out = { ('<text x="%d" y="13" style="fill:var(--ink);font-size:13px">%s</text>'):format(LEFT, html.escape(title)) }
  for _, s in ipairs(#drawn > 1 and drawn or {}) do
    out[#out + 1] = ('<path class="curve" %s d="M%d %dh30"/><text x="%d" y="%d">%s</text>'):format(stroke(s.index), LEFT,
      top + 9, LEFT + 38, top + 13, html.escape(s.name))
    top = top + LINE
  end
  return ([[<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">
<style>
%s%ssvg { background: var(--paper); font-family: system-ui, sans-serif }
</style>
%s<g transform="translate(0 %d)">%s</g></svg>
]]):format(WIDTH + BESIDE, HEIGHT + top, html.escape(title), palette, M.STYLE, table.concat(out), top, table.concat(drawing))
end

-- The shares (in percent) of values in bins of one width, as the corners of an outline.
local function outline(values, low, width, bins)
  local counts = {}
  for i = 1, bins do counts[i] = 0 end
  for _, v in ipairs(values) do
    local bin = math.min(bins, math.max(1, math.floor((v - low) / width + 1e-9) + 1))
    counts[bin] = counts[bin] + 1
  end
  local x, y = { low }, { 0 }
  for i = 1, bins do
    local share = #values > 0 and 100 * counts[i] / #values or 0
    x[#x + 1], y[#y + 1] = low + (i - 1) * width, share
    x[#x + 1], y[#y + 1] = low + i * width, share
  end
  x[#x + 1], y[#y + 1] = low + bins * width, 0
  return x, y
end

--- Distributions of series { name=, values=, index= }: the share of values in each of at most 20 equal bins.
---@param series table[]
---@param title string|nil
---@param range number[]|nil     { low, high }; default: that of the values
---@return string
function M.distributions(series, title, range)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(series) do
    for _, v in ipairs(s.values) do low, high = math.min(low, v), math.max(high, v) end
  end
  if low > high then low, high = 0, 1 end
  if range then low, high = range[1], range[2] end
  low = math.floor(low)
  local width = range and (high - low) / 10 or math.max(1, math.ceil((high - low + 1) / 20))
  local bins = range and 10 or math.floor((high - low) / width) + 1
  if bins < 3 then low, bins = low - width, bins + 2 end     -- a bar has air on both sides
  local drawn = {}
  for i, s in ipairs(series) do
    local x, y = outline(s.values, low, width, bins)
    drawn[i] = { name = s.name, x = x, y = y, index = s.index or i }
  end
  local out, px, py = frame(drawn, { from = 0 })
  for _, s in ipairs(drawn) do
    local points = {}
    for j = 1, #s.x do points[j] = ("%.1f,%.1f"):format(px(s.x[j]), py(s.y[j])) end
    local path = table.concat(points, " ")
    out[#out + 1] = ('<polygon class="area" style="fill:var(--c%d)" points="%s"/>'):format(colour(s.index), path)
    out[#out + 1] = curve(s, path)
  end
  return element(("%s: %s"):format(title or "distributions", names_of(drawn)), out)
end

--- What stands for the n-th series in a legend.
---@param n integer
---@return string
function M.sample(n)
  return ('<svg viewBox="0 0 30 8" aria-hidden="true"><path class="curve" %s d="M0 4H30"/></svg>'):format(stroke(n))
end

return M
