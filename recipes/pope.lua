-- POPE: yes/no questions about what is in pictures.
--   lucid pope --model llava-1.5-7b-hf --questions coco_pope_random.json --images val2014 --out runs/pope
--   lucid pope --questions FILE --answers FILE --json          scores answers made elsewhere
local lucid = require "lucid"

local opt = lucid.args {
  about = "POPE (Li et al. 2023): accuracy, precision, recall, F1 and yes ratio, official and strict reading.\n"
    .. "Answers are generated as published for the kind of model, but for what is given here.",
  common = "model vision bridge bert adapter images out device dtype quant template cache threads seed limit batch quiet json "
    .. lucid.generate.OPTIONS,
  published = lucid.generate.OPTIONS,
  required = { "questions" },
  { "batch", 128, "answers that grow together" },
  { "questions", "", "question files, separated by commas" },
  { "answers", "", "answer file (JSON lines: question_id, answer) instead of a model" },
  { "full-answers", false, "generate whole answers; else until the official reading is decided (a search's are whole)" },
  { "metric", "pope", "a metric's name or a .lua file" },
}

lucid.threads(opt.threads)
local metric = lucid.metric.of(opt.metric, "answers")
local files, named = {}, {}
for path in opt.questions:gmatch("[^,]+") do
  local name = path:match("[^/]*$"):gsub("%.%w+$", ""):gsub("^coco_pope_", "")
  if named[name] then lucid.args.usage(("--questions: %s and %s are both named %s"):format(named[name], path, name)) end
  named[name] = path
  files[#files + 1] = { path = path, name = name }
end
if #files == 0 then lucid.args.usage("--questions: it names no file") end
local m = opt.answers == "" and lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant,
  template = opt.template, adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
local settings = m and lucid.generate.settings(opt, lucid.published.settings(m.kind, "pope"))
if m then lucid.run.note(opt, settings) end

-- Distinct (picture, question) pairs are asked once, those of one picture side by side.
local function ask(questions)
  local requests, place = {}, {}
  for _, q in ipairs(questions) do
    local key = q.image .. "\n" .. q.text
    if not place[key] then
      requests[#requests + 1] = { image = lucid.data.pope.picture(opt.images, q.image), prompt = q.text }
      place[key] = requests[#requests]
    end
  end
  table.sort(requests, function(a, b)
    if a.image ~= b.image then return a.image < b.image end
    return a.prompt < b.prompt
  end)
  local bar = lucid.progress { total = #requests, label = "pope", unit = "questions", quiet = opt.quiet }
  local before = 0
  settings.batch = opt.batch
  settings.enough = not opt.full_answers and function(text) return text:find(".", 1, true) ~= nil end or nil
  settings.progress = function(done) bar:step(done, { count = done - before }) before = done end
  local answers = m:generate_all(requests, settings)
  bar:done()
  for i, r in ipairs(requests) do r.answer = answers[i].text end
  for _, q in ipairs(questions) do q.answer = place[q.image .. "\n" .. q.text].answer end
end

local run = opt.out ~= "" and lucid.run.open(opt.out, "pope", opt, lucid.run.hashes(opt, { "questions", "answers" }))
local results, samples = {}, {}
for _, f in ipairs(files) do
  local questions = lucid.data.pope.read(f.path, { limit = opt.limit })
  local unused = 0
  if m then ask(questions) else unused = lucid.data.pope.answers(opt.answers, questions) end
  if unused > 0 and not opt.quiet then
    io.stderr:write(("%s: %d answers are to questions that are not in %s\n"):format(opt.answers, unused, f.path))
  end
  results[f.name] = metric.score(questions, opt)
  for _, q in ipairs(questions) do
    q.set = f.name
    samples[#samples + 1] = q
  end
end

local all = results
if run then
  all = run:results(results, samples)
  for name in pairs(results) do
    local lines = {}
    for _, q in ipairs(samples) do
      if q.set == name then
        lines[#lines + 1] = lucid.json.encode { question = q.text, answer = q.answer, question_id = q.question_id } .. "\n"
      end
    end
    lucid.file.write(("%s/pope_%s.jsonl"):format(opt.out, name), table.concat(lines))
  end
end
if opt.json then print(lucid.json.encode(all)) else lucid.run.print(results) end
return results
