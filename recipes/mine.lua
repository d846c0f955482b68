-- Mining preference pairs: describe, find what is made up, correct, rewrite, ask.
--   lucid mine --model llava-1.5-7b-hf --images VG --out data/mined --judge annotation
local lucid = require "lucid"

local opt = lucid.args {
  about = "HA-DPO's data pipeline: writes desc_data.json and pope_data.json for the model that is mined.",
  common = "model vision bridge bert adapter images out device dtype quant template threads seed limit batch cache quiet max-new-tokens",
  required = { "model", "images", "out" },
  { "images", "", "Visual Genome root" },
  { "batch", 64, "descriptions that grow together" },
  { "judge", "annotation", "a judge's name or a .lua file" },
  { "nouns", "", "noun table of the annotation judge; empty: IMAGES/categories.json" },
  { "statistics", "", "Visual Genome root in which co-occurrence is counted; empty: the mined pictures" },
  { "min-objects", 1, "pictures with fewer annotated things are left out", { whole = true } },
  { "max-objects", 100, "and those with more", { whole = true } },
  { "variants", 3, "texts of each side of a pair", { whole = true, min = 1 } },
  { "complete", false, "corrections also add the things that were left out" },
  { "omission", 0, "pairs a picture whose rejected text leaves something out; 0.5: of every second one" },
  { "omit", 1, "sentences that such a text leaves out", { whole = true, min = 1 } },
  { "present", 2, "questions a picture about what is there", { whole = true } },
  { "absent", 2, "and about what is not", { whole = true } },
  { "check", true, "ask the model the questions and mark those it already answers right" },
}

lucid.threads(opt.threads)
local nouns = lucid.nouns.read(opt.nouns ~= "" and opt.nouns or opt.images .. "/categories.json")
local judge = lucid.judge[opt.judge].new { nouns = nouns }
local prompts = {}
for _, kind in ipairs { "judge", "correct", "rewrite" } do prompts[kind] = lucid.recipe.load("prompts/" .. kind) end
local cache = lucid.cache.folder(opt.cache)
local statistics = opt.statistics ~= "" and lucid.mine.contents(opt.statistics, nouns, cache) or nil
local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
  adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
local records, passed = lucid.mine.records(opt.images, { min_objects = opt.min_objects,
  max_objects = opt.max_objects, limit = opt.limit, seed = opt.seed, cache = cache })
if #records == 0 then
  error(("%s: no picture there has %d to %d annotated things (--min-objects, --max-objects)"):format(opt.images,
    opt.min_objects, opt.max_objects), 0)
end
local run = lucid.run.open(opt.out, "mine", opt)
lucid.mine.describe(m, records, { generate = { max_new_tokens = opt.max_new_tokens }, batch = opt.batch,
  seed = opt.seed, quiet = opt.quiet, instructions = true })

local descriptions, report = lucid.mine.descriptions(records, judge, { nouns = nouns, prompts = prompts,
  variants = opt.variants, complete = opt.complete, omission = opt.omission, omit = opt.omit, seed = opt.seed })
local questions = lucid.mine.questions(records, { nouns = nouns, present = opt.present, absent = opt.absent,
  seed = opt.seed, statistics = statistics })
if opt.check then
  local requests, path = {}, {}
  for _, r in ipairs(records) do path[r.image_id] = r.image end
  for i, q in ipairs(questions) do requests[i] = { image = path[q.image_id], prompt = q.question } end
  local answers = m:generate_all(requests, { max_new_tokens = 64, batch = 128,
    enough = function(text) return text:find(".", 1, true) ~= nil end })
  for i, a in ipairs(answers) do answers[i] = a.text end
  lucid.mine.check(questions, answers)
end

lucid.data.pairfile.write(run.out, "list", descriptions, questions)
local wrong = 0
for _, q in ipairs(questions) do wrong = wrong + (q.correct and 0 or 1) end
report.questions, report.questions_wrong, report.passed_over = #questions, wrong, passed
lucid.json.write(run.out .. "/report.json", report, { indent = 2 })
if not opt.quiet then
  io.stderr:write(("mined %d pictures: %d corrected and %d omission pairs, %d questions (%d answered wrong)\n"):format(
    report.pictures, report.corrected, report.omission, #questions, wrong))
end
return report
