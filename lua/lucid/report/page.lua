-- One self-contained HTML page in the making: headings, notes, tables, charts, and parts that others write. No
-- scripts, nothing from outside: its own policy forbids both.
local chart = require "lucid.report.chart"
local html = require "lucid.report.html"
local style = require "lucid.report.style"

local escape = html.escape

---@class lucid.Page
local Page = {}
Page.__index = Page

local POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

--- Starts a page.
---@param opt table     title
---@return lucid.Page
function Page.new(opt)
  return setmetatable({ title = opt.title or "lucid", body = {}, sections = {}, charts = {} }, Page)
end

-- Charts that follow one another share rows.
local function flush(page)
  if #page.charts > 0 then
    page.body[#page.body + 1] = '<div class="charts">' .. table.concat(page.charts) .. "</div>"
    page.charts = {}
  end
end

--- Adds HTML as it is; what comes from elsewhere has been escaped.
---@param text string
---@return lucid.Page
function Page:put(text)
  flush(self)
  self.body[#self.body + 1] = text
  return self
end

--- A section's heading; it is also listed on top of the page.
---@param text string
---@return lucid.Page
function Page:heading(text)
  self.sections[#self.sections + 1] = text
  return self:put(('<h2 id="s%d">%s</h2>'):format(#self.sections, escape(text)))
end

--- A heading within a section.
---@param text string
---@return lucid.Page
function Page:subheading(text) return self:put("<h3>" .. escape(text) .. "</h3>") end

--- Adds a paragraph in small print.
---@param text string
---@return lucid.Page
function Page:note(text) return self:put('<p class="note">' .. escape(text) .. "</p>") end

-- ---- tables -----------------------------------------------------------------------------------------

-- A cell is a value, or { value, err = "±0.4" or "" to keep the place, best = true, note = "small, behind it" }.
local function value_of(cell)
  if type(cell) == "table" then return cell[1] end
  return cell
end

local function is_numeric(v)
  return type(v) == "number" or type(v) == "string" and v:find("^[+-]?%d[%d.,]*$") ~= nil
end

-- The columns that hold anything, the first one always: { at = its place, numeric = every value is a number }.
local function columns_of(heads, rows)
  local columns = {}
  for i = 1, #heads do
    local seen, numbers, words = i == 1, false, i == 1
    for _, row in ipairs(rows) do
      local v = value_of(row[i])
      if v ~= nil and v ~= "" then
        seen = true
        if is_numeric(v) then numbers = true elseif v ~= "–" then words = true end
      end
    end
    if seen then columns[#columns + 1] = { at = i, numeric = numbers and not words } end
  end
  return columns
end

local function cell_html(cell, tag, classes)
  local more = ""
  if type(cell) == "table" then
    if cell.best then classes[#classes + 1] = "best" end
    if cell.err then more = ('<i class="err">%s</i>'):format(escape(cell.err)) end
    if cell.note then more = more .. (" <small>%s</small>"):format(escape(cell.note)) end
  end
  local class = #classes > 0 and (' class="%s"'):format(table.concat(classes, " ")) or ""
  local scope = tag == "th" and ' scope="row"' or ""
  return ("<%s%s%s>%s%s</%s>"):format(tag, scope, class, escape(html.shown(value_of(cell))), more, tag)
end

--- A table as HTML: heads, then rows of cells, the first cell being the row's head. Numbers stand to the right; a
--- column without a value is left out. A row may be strong = true (bold), published = true (somebody else's figures),
--- or { group = "text" }, a heading across.
---@param heads string[]
---@param rows table[]
---@param opt table|nil     caption, code: the columns of code
---@return string
function Page.table_html(heads, rows, opt)
  opt = opt or {}
  local columns, out = columns_of(heads, rows), { "<table>" }
  if opt.caption then out[#out + 1] = "<caption>" .. escape(opt.caption) .. "</caption>" end
  out[#out + 1] = "<thead><tr>"
  for _, c in ipairs(columns) do
    out[#out + 1] = ('<th scope="col"%s>%s</th>'):format(c.numeric and ' class="n"' or "", escape(heads[c.at]))
  end
  out[#out + 1] = "</tr></thead><tbody>"
  for _, row in ipairs(rows) do
    if row.group then
      out[#out + 1] = ('<tr class="group"><th scope="colgroup" colspan="%d">%s</th></tr>'):format(#columns,
        escape(row.group))
    else
      out[#out + 1] = row.strong and '<tr class="strong">' or row.published and '<tr class="published">' or "<tr>"
      for _, c in ipairs(columns) do
        local class = c.numeric and "n" or opt.code and opt.code[c.at] and "code" or nil
        out[#out + 1] = cell_html(row[c.at], c.at == 1 and "th" or "td", { class })
      end
      out[#out + 1] = "</tr>"
    end
  end
  out[#out + 1] = "</tbody></table>"
  return table.concat(out)
end

--- Adds a table; one that is too wide for the page is moved within its own frame.
---@param heads string[]
---@param rows table[]
---@param opt table|nil
---@return lucid.Page
function Page:table(heads, rows, opt)
  return self:put('<div class="wide">' .. Page.table_html(heads, rows, opt) .. "</div>")
end

-- ---- charts -----------------------------------------------------------------------------------------

local function figure(page, title, drawing)
  page.charts[#page.charts + 1] = ("<figure><figcaption>%s</figcaption>%s</figure>"):format(escape(title), drawing)
  return page
end

--- A chart with its title; series { name=, x=, y=, index= }.
---@param title string
---@param series table[]
---@return lucid.Page
function Page:curves(title, series) return figure(self, title, chart.lines(series, title)) end

--- Distributions with their title; series { name=, values=, index= }.
---@param title string
---@param series table[]
---@param range number[]|nil
---@return lucid.Page
function Page:distributions(title, series, range)
  return figure(self, title, chart.distributions(series, title, range))
end

--- Which line is whose, for the charts that follow.
---@param names string[]
---@return lucid.Page
function Page:legend(names)
  local out = { '<ul class="legend">' }
  for i, name in ipairs(names) do out[#out + 1] = ("<li>%s%s</li>"):format(chart.sample(i), escape(name)) end
  out[#out + 1] = "</ul>"
  return self:put(table.concat(out))
end

-- ---- the whole ----------------------------------------------------------------------------------------

local HEAD = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
  .. '<meta http-equiv="Content-Security-Policy" content="%s">\n'
  .. '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
  .. "<title>%s</title>\n<style>%s</style></head>\n"

--- The whole page as text.
---@return string
function Page:html()
  flush(self)
  local links = {}
  for i, name in ipairs(self.sections) do links[i] = ('<a href="#s%d">%s</a>'):format(i, escape(name)) end
  local contents = #links > 2 and '<nav aria-label="Contents">' .. table.concat(links, "\n") .. "</nav>\n" or ""
  return HEAD:format(POLICY, escape(self.title), style) .. ("<body><h1>%s</h1>\n%s%s\n</body></html>\n"):format(
    escape(self.title), contents, table.concat(self.body, "\n"))
end

return Page
