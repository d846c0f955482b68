-- POPE: yes/no questions about what is in pictures.
--   lucid pope --model llava-1.5-7b-hf --questions coco_pope_random.json --images val2014 --out runs/pope
--   lucid pope --questions FILE --answers FILE --json          scores answers made elsewhere
--   lucid pope --annotations instances_val2014.json --out new  samples questions
local lucid = require "lucid"
local pope = lucid.pope

local opt = lucid.args {
  about = "POPE (Li et al. 2023): accuracy, precision, recall, F1 and yes ratio, official and strict reading.\n"
    .. "Answers are generated as published for the kind of model, but for what is given here.",
  common = "model vision bridge bert adapter images out device dtype quant template cache threads seed limit batch quiet json "
    .. lucid.generate.OPTIONS,
  published = lucid.generate.OPTIONS,
  processes = true,
  { "batch", 128, "answers that grow together; those of one picture always do" },
  { "questions", "", "question files, separated by commas" },
  { "annotations", "", "COCO instances, or JSON lines { image, objects }: new questions are sampled and written to --out" },
  { "pictures", 500, "with --annotations: pictures that are asked about; 0: all", { whole = true } },
  { "per-picture", 3, "with --annotations: things there, and as many not there, that are asked for", { whole = true, min = 1 } },
  { "answers", "", "answer files (JSON lines: question_id, answer), one for each question file, instead of a model" },
  { "full-answers", false, "generate whole answers; else until both readings are decided (a search's are whole)" },
  { "as-published", false, "leave texts as the model's own program does: LLaVA's \"No</s>\" is then no official no, "
    .. "MiniGPT-4's \"Yes\" is \"Ye\"" },
  { "bootstrap", 1000, "draws of the intervals of 95 %; 0: none", { whole = true } },
  { "compare", "", "an earlier run's folder, or its samples or answers: McNemar's test and the paired difference" },
  { "metric", "pope", "a metric's name or a .lua file" },
  groups = { lucid.image.OPTIONS },
}

local usage = lucid.args.usage
local function tell(text) return opt.quiet or io.stderr:write(text, "\n") end

lucid.dist.join(opt)
lucid.image.guard(opt)
local metric = lucid.metric.of(opt.metric, "answers")
local questions, answers = pope.paths(opt.questions), pope.paths(opt.answers)
if (opt.annotations ~= "") == (opt.questions ~= "") then usage "give --questions, or --annotations to sample new ones" end
if #answers > 0 and opt.as_published then usage "--as-published is about texts that a model makes; --answers has them already" end
if opt.compare ~= "" and not metric.compare then usage(("--compare: metric %s cannot compare"):format(opt.metric)) end
if opt.annotations ~= "" then
  if opt.out == "" then usage "--annotations: --out is needed, the folder of the new questions" end
  if #answers > 0 then usage "--annotations: nobody has answered new questions yet; leave --answers out" end
  questions = pope.write(opt.annotations, opt.out, opt, tell)
  if opt.model == "" then return questions end
end
local fault = pope.fault(questions)
if fault then usage("--questions: " .. fault) end
if #answers > 0 and #answers ~= #questions then
  usage(("--answers: %d files for %d question files; give one each, in the same order"):format(#answers, #questions))
end

local first = lucid.dist.first()
local sets, model, settings, counts = pope.sets(questions, { limit = opt.limit, answered = #answers > 0 })
local hashes = { questions = pope.file_hashes(sets) }
if opt.compare ~= "" then pope.earlier(opt.compare, sets, tell) end
if #answers > 0 then
  pope.answers(sets, answers, tell)
  hashes.answers = pope.file_hashes(sets, answers)
else
  model = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
    adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
  settings = lucid.generate.settings(opt, lucid.published.settings(model.kind, "pope", opt.as_published))
  opt.dtype, opt.template, opt.prompt = model.dtype, model.template.name, model.template.form.text
  lucid.run.note(opt, settings)
  for name, hash in pairs(first and pope.hashes(model, settings, lucid.cache.folder(opt.cache)) or {}) do hashes[name] = hash end
end
local run = first and opt.out ~= "" and lucid.run.open(opt.out, "pope", opt, hashes)

if model then
  settings.enough = not opt.full_answers and pope.enough(metric, settings) or nil
  settings.batch = opt.batch
  counts = pope.ask(model, sets, { images = opt.images, generate = settings, progress = function(total)
    return lucid.progress { total = total, label = "pope", unit = "questions", quiet = opt.quiet }
  end })
end
if not first then return end
local results = pope.score(sets, metric, opt)
results.generation = counts
if run then
  run:results(results, pope.samples(sets))
  for _, set in ipairs(sets) do lucid.file.write(("%s/pope_%s.jsonl"):format(opt.out, set.name), pope.answer_lines(set)) end
end
lucid.run.show(opt, pope.shape(lucid.run.result(results, opt, hashes), sets, metric), lucid.run.text(results))
return results
