-- Charts as SVG: curves, and distributions as outlines. A series has its colour and its dashes, so that they are told
-- apart without colours, too.
local html = require "lucid.report.html"

local M = {}

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

local function finite(v) return v == v and math.abs(v) < math.huge end

local function range_of(series, axis)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(series) do
    for _, v in ipairs(s[axis]) do
      if finite(v) then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  if low > high then return 0, 1 end
  if low == high then return low - 0.5, high + 0.5 end
  return low, high
end

-- Round numbers between low and high: 1, 2 or 5 times a power of ten apart.
local function ticks(low, high)
  local step = 10 ^ math.floor(math.log10((high - low) / 3))
  for _, factor in ipairs { 5, 2 } do
    if (high - low) / (step * factor) >= 3 then step = step * factor break end
  end
  local list = {}
  -- + 0: ceil makes a minus zero of what is a little below 0
  for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do list[#list + 1] = i * step + 0 end
  return list
end

local MOST = 400     -- points of a curve: more than there are pixels for only make a page large

-- A long series by the least and the greatest of each stretch, in their order: peaks stay.
local function thinned(x, y)
  if #x <= MOST then return x, y end
  local keep, each = {}, #x / (MOST / 2)
  for k = 0, MOST / 2 - 1 do
    local least, most
    for i = math.floor(k * each) + 1, math.floor((k + 1) * each) do
      if finite(y[i]) then
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

-- The frame around series, and what puts a point on it.
local function frame(series, about, y_from)
  local x0, x1 = range_of(series, "x")
  local y0, y1 = range_of(series, "y")
  y0 = y_from or y0
  local out = { ('<svg viewBox="0 0 %d %d" role="img" aria-label="%s">'):format(WIDTH, HEIGHT, html.escape(about)) }
  local function px(x) return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT) end
  local function py(y) return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP) end
  for _, t in ipairs(ticks(y0, y1)) do
    out[#out + 1] = ('<path class="axis" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%.4g</text>'):format(
      LEFT, py(t), WIDTH - RIGHT, LEFT - 6, py(t) + 4, t)
  end
  for _, t in ipairs(ticks(x0, x1)) do
    out[#out + 1] = ('<text x="%.1f" y="%d" text-anchor="middle">%.4g</text>'):format(px(t), HEIGHT - 6, t)
  end
  return out, px, py
end

local function names_of(series)
  local names = {}
  for i, s in ipairs(series) do names[i] = s.name end
  return table.concat(names, ", ")
end

--- A line chart of series { name=, x=, y=, index = which colour, default its place }.
---@param series table[]
---@param title string|nil
---@return string
function M.lines(series, title)
  local drawn = {}
  for i, s in ipairs(series) do
    local x, y = thinned(s.x, s.y)
    drawn[i] = { name = s.name, x = x, y = y, index = s.index or i }
  end
  local out, px, py = frame(drawn, ("%s: %s"):format(title or "curves", names_of(drawn)))
  for _, s in ipairs(drawn) do
    local points = {}
    for j = 1, #s.x do
      if finite(s.y[j]) then points[#points + 1] = ("%.1f,%.1f"):format(px(s.x[j]), py(s.y[j])) end
    end
    out[#out + 1] = curve(s, table.concat(points, " "))
  end
  out[#out + 1] = "</svg>"
  return table.concat(out)
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
  local out, px, py = frame(drawn, ("%s: %s"):format(title or "distributions", names_of(drawn)), 0)
  for _, s in ipairs(drawn) do
    local points = {}
    for j = 1, #s.x do points[j] = ("%.1f,%.1f"):format(px(s.x[j]), py(s.y[j])) end
    local path = table.concat(points, " ")
    out[#out + 1] = ('<polygon class="area" style="fill:var(--c%d)" points="%s"/>'):format(colour(s.index), path)
    out[#out + 1] = curve(s, path)
  end
  out[#out + 1] = "</svg>"
  return table.concat(out)
end

--- What stands for the n-th series in a legend.
---@param n integer
---@return string
function M.sample(n)
  return ('<svg viewBox="0 0 30 8" aria-hidden="true"><path class="curve" %s d="M0 4H30"/></svg>'):format(stroke(n))
end

return M
