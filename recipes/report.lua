-- Runs to one HTML page: results beside the published ones, pictures with marked sentences, curves, settings.
--   lucid report runs/llava runs/eval --out report.html
local lucid = require "lucid"

local opt = lucid.args {
  about = "One self-contained page of any runs: training, pope, shr, chair, amber, mine. A folder of runs (a demo's)\n"
    .. "stands for all of them. Runs of one model without and with an adapter are shown beside each other.",
  positional = "run folders",
  common = "json quiet",
  { "out", "report.html", "the page" },
  { "title", "lucid report", "its heading" },
  { "pictures", 12, "described pictures shown of each kind of evaluation", { whole = true, max = 500 } },
  { "pick", "first", "which: the first ones, those with the most made up, those that changed most",
    { choices = lucid.report.PICKS } },
  { "side", 480, "pixels of a picture's longer side at most", { whole = true, min = 16, max = 4096 } },
  { "published", true, "the paper's figures beside runs of its models" },
  groups = { lucid.image.OPTIONS },
}
if #opt == 0 then lucid.args.usage("report: name at least one run folder") end

lucid.image.guard(opt)
local folders = {}
for i, dir in ipairs(opt) do folders[i] = dir end
lucid.report({ title = opt.title }):runs(folders, opt):write(opt.out)
lucid.run.show(opt, { out = opt.out }, opt.out)
