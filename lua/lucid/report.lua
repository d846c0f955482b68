-- One self-contained HTML page: tables, curves as SVG, pictures with marked sentences. No scripts, no
-- outside files; light and dark.
--
--   local page = lucid.report { title = "HA-DPO" }
--   page:table({ "set", "F1" }, { { "random", 0.91 } })
--   page:curves("loss", { { name = "dpo", x = {1, 2}, y = {0.69, 0.5} } })
--   page:picture("cat.jpg", { { label = "before", sentences = { { text = "A dog.", bad = true } } } })
--   page:write("report.html")
local bit = require "bit"
local file = require "lucid.file"

local M = {}
local Page = {}
Page.__index = Page

local STYLE = [[
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #667; --line: #d5d8dd; --bad: #c2261f; --paper: #fff; --tint: #f4f5f7 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --soft: #9aa; --line: #3a3f46; --bad: #ff7b72; --paper: #16181c; --tint: #1f2329 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .8rem 0 } th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left } th { font-weight: 600; color: var(--soft) }
tr.strong td { font-weight: 600 } p.note { color: var(--soft); max-width: 46rem }
.charts { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0 } figcaption { color: var(--soft); font-size: .85rem }
svg text { fill: var(--soft); font-size: 11px } svg .axis { stroke: var(--line); fill: none } svg .curve { fill: none; stroke-width: 1.6 }
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1rem }
.shot { background: var(--tint); padding: .8rem; border-radius: 6px } .shot img { width: 9rem; image-rendering: pixelated; border-radius: 4px }
.shot b { color: var(--soft); font-weight: 600 } .bad { color: var(--bad); text-decoration: underline wavy }
]]
local COLOURS = { "#2f6fde", "#d9822b", "#2e9b5b", "#a44cc4", "#c2261f" }

local ENTITIES = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }
local function escape(text) return (tostring(text):gsub('[&<>"]', ENTITIES)) end

local function shown(v)
  if type(v) ~= "number" then return escape(v == nil and "" or v) end
  if v ~= v then return "-" end
  if v == math.floor(v) and math.abs(v) < 1e6 then return ("%d"):format(v) end
  return ("%.4g"):format(v)
end

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

--- Base64 (RFC 4648) of a string of bytes.
function M.base64(bytes)
  local out = {}
  for i = 1, #bytes, 3 do
    local a, b, c = bytes:byte(i, i + 2)
    local word = bit.bor(bit.lshift(a, 16), bit.lshift(b or 0, 8), c or 0)
    for j = 3, 0, -1 do
      local at = bit.band(bit.rshift(word, 6 * j), 63) + 1
      out[#out + 1] = ALPHABET:sub(at, at)
    end
    if not c then out[#out] = "=" end
    if not b then out[#out - 1] = "=" end
  end
  return table.concat(out)
end

local MIME = { jpg = "jpeg", jpeg = "jpeg", png = "png", gif = "gif", bmp = "bmp", webp = "webp" }

local function data_url(path)
  local mime = MIME[(path:match("%.(%w+)$") or ""):lower()] or "png"
  return "data:image/" .. mime .. ";base64," .. M.base64(file.read(path))
end

-- ---- curves -----------------------------------------------------------------------------------

local WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 440, 220, 54, 26, 10, 8

local function range_of(series, axis)
  local low, high = math.huge, -math.huge
  for _, s in ipairs(series) do
    for _, v in ipairs(s[axis]) do
      if v == v and math.abs(v) < math.huge then low, high = math.min(low, v), math.max(high, v) end
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

--- An SVG line chart of series { name=, x=, y= }.
function M.chart(series)
  local x0, x1 = range_of(series, "x")
  local y0, y1 = range_of(series, "y")
  local function px(x) return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT) end
  local function py(y) return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP) end
  local out = { ('<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img">'):format(WIDTH, HEIGHT, WIDTH, HEIGHT) }
  local function put(format, ...) out[#out + 1] = format:format(...) end
  for _, t in ipairs(ticks(y0, y1)) do
    put('<path class="axis" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>', LEFT, py(t),
      WIDTH - RIGHT, LEFT - 5, py(t) + 4, ("%.4g"):format(t))
  end
  for _, t in ipairs(ticks(x0, x1)) do
    put('<text x="%.1f" y="%d" text-anchor="middle">%s</text>', px(t), HEIGHT - 8, ("%.4g"):format(t))
  end
  for i, s in ipairs(series) do
    local points, colour = {}, COLOURS[(i - 1) % #COLOURS + 1]
    for j = 1, #s.x do
      if s.y[j] == s.y[j] then points[#points + 1] = ("%.1f,%.1f"):format(px(s.x[j]), py(s.y[j])) end
    end
    put('<polyline class="curve" stroke="%s" points="%s"/>', colour, table.concat(points, " "))
    put('<text x="%d" y="%d" style="fill:%s">%s</text>', LEFT + 8, TOP + 4 + 14 * i, colour, escape(s.name))
  end
  out[#out + 1] = "</svg>"
  return table.concat(out)
end

-- ---- the page ------------------------------------------------------------------------------------

--- Starts a page { title= }.
function M.new(opt)
  return setmetatable({ title = opt.title or "lucid", body = {}, charts = {}, shots = {} }, Page)
end

function Page:put(html)
  self:flush()
  self.body[#self.body + 1] = html
end

-- Charts and pictures that follow one another share a row.
function Page:flush()
  if #self.charts > 0 then
    self.body[#self.body + 1] = '<div class="charts">' .. table.concat(self.charts) .. "</div>"
    self.charts = {}
  end
  if #self.shots > 0 then
    self.body[#self.body + 1] = '<div class="shots">' .. table.concat(self.shots) .. "</div>"
    self.shots = {}
  end
end

function Page:heading(text) self:put("<h2>" .. escape(text) .. "</h2>") return self end
function Page:note(text) self:put('<p class="note">' .. escape(text) .. "</p>") return self end

--- A table: heads, then rows of cells; a row with strong=true is set bold.
function Page:table(heads, rows)
  local out = { "<table><tr>" }
  for _, h in ipairs(heads) do out[#out + 1] = "<th>" .. escape(h) .. "</th>" end
  out[#out + 1] = "</tr>"
  for _, row in ipairs(rows) do
    out[#out + 1] = row.strong and '<tr class="strong">' or "<tr>"
    for i = 1, #heads do out[#out + 1] = "<td>" .. shown(row[i]) .. "</td>" end
    out[#out + 1] = "</tr>"
  end
  out[#out + 1] = "</table>"
  self:put(table.concat(out))
  return self
end

--- A chart with its title; series { name=, x=, y= }.
function Page:curves(title, series)
  self.charts[#self.charts + 1] = "<figure>" .. M.chart(series) .. "<figcaption>" .. escape(title) .. "</figcaption></figure>"
  return self
end

--- A picture file and texts { label=, sentences = { {text=, bad=} } } below it.
function Page:picture(path, texts)
  local out = { '<div class="shot"><img alt="" src="' .. data_url(path) .. '">' }
  for _, t in ipairs(texts) do
    out[#out + 1] = "<p><b>" .. escape(t.label) .. ":</b> "
    for _, s in ipairs(t.sentences) do
      out[#out + 1] = s.bad and '<span class="bad">' .. escape(s.text) .. "</span> " or escape(s.text) .. " "
    end
    out[#out + 1] = "</p>"
  end
  out[#out + 1] = "</div>"
  self.shots[#self.shots + 1] = table.concat(out)
  return self
end

--- The whole page as text.
function Page:html()
  self:flush()
  return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    .. "<title>%s</title><style>%s</style></head><body><h1>%s</h1>\n%s\n</body></html>\n"):format(
    escape(self.title), STYLE, escape(self.title), table.concat(self.body, "\n"))
end

--- Writes the page, atomically.
function Page:write(path) file.write(path, self:html()) end

return setmetatable(M, { __call = function(_, opt) return M.new(opt) end })
