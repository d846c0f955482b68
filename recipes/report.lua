-- Runs to one HTML page: tables, curves, pictures with marked sentences.
--   lucid report runs/a runs/b --out report.html
local lucid = require "lucid"

local opt = lucid.args {
  about = "One self-contained page of training curves and evaluation tables.",
  positional = "run folders",
  { "out", "report.html", "the page" },
  { "title", "lucid", "its heading" },
  { "pictures", 6, "described pictures shown of each run that has judged descriptions", { whole = true } },
}
if #opt == 0 then lucid.args.usage("report: name at least one run folder") end
for _, dir in ipairs(opt) do
  if lucid.file.kind(dir) ~= "folder" then error(("report: %s: there is no such folder"):format(dir), 0) end
  if not lucid.run.is_run(dir) then
    error(("report: %s: there is no results.json, log.jsonl or samples.jsonl, so this is no run's folder"):format(dir), 0)
  end
end

local page = lucid.report { title = opt.title }
lucid.run.tables(page, opt)
lucid.run.curves(page, opt)
lucid.run.pictures(page, opt, opt.pictures)
page:write(opt.out)
print(opt.out)
