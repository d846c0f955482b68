-- One self-contained HTML page: tables, curves and distributions as SVG, pictures with marked sentences. No scripts, no
-- outside files; light and dark; for a screen, a phone and paper. report/ has its parts.
--
--   local page = lucid.report { title = "HA-DPO" }
--   page:heading("Results"):table({ "set", "F1" }, { { "random", 0.91 } })
--   page:curves("loss", { { name = "dpo", x = {1, 2}, y = {0.69, 0.5} } })
--   page:runs({ "runs/dpo", "runs/eval" }, { pictures = 6 })
--   page:write("report.html")
local descriptions = require "lucid.report.descriptions"
local file = require "lucid.file"
local mined = require "lucid.report.mined"
local Page = require "lucid.report.page"
local results = require "lucid.report.results"
local settings = require "lucid.report.settings"
local source = require "lucid.report.source"
local training = require "lucid.report.training"

local M = { PICKS = descriptions.PICKS }

local SHOWN = { pictures = 12, pick = "first", side = 480, published = true }

local function with_defaults(opt)
  local all = {}
  for name, value in pairs(SHOWN) do all[name] = value end
  for name, value in pairs(opt or {}) do all[name] = value end
  return all
end

---@class lucid.ReportOptions
---@field pictures integer|nil     described pictures shown of each kind of evaluation, default 12
---@field pick string|nil          which: "first" (default), "worst", "changed" between the first run and the last
---@field side integer|nil         pixels of a picture's longer side at most, default 480
---@field published boolean|nil    the paper's figures beside runs of its models, default true

--- Adds all there is to say of runs: folders of runs, of several runs, of a demo.
---@param folders string[]
---@param opt lucid.ReportOptions|nil
---@return lucid.Page
function Page:runs(folders, opt)
  opt = with_defaults(opt)
  local runs = source.read(source.find(folders))
  settings.overview(self, runs)
  results.shr(self, runs, opt)
  results.pope(self, runs, opt)
  results.others(self, runs)
  descriptions.section(self, runs, opt)
  mined.section(self, runs)
  training.section(self, runs)
  settings.section(self, runs)
  return self
end

--- Adds the training curves of runs.
---@param folders string[]
---@return lucid.Page
function Page:training(folders)
  local runs, names = source.read(folders), {}
  for i, run in ipairs(runs) do names[i] = run.label end
  if #runs > 1 then self:legend(names) end
  training.curves(self, runs)
  return self
end

--- Writes the page, atomically.
---@param path string
---@return lucid.Page
function Page:write(path)
  file.write(path, self:html())
  return self
end

return setmetatable(M, { __call = function(_, opt) return Page.new(opt or {}) end })
