-- SHR: the share of sentences in descriptions that a judge finds hallucinated.
--   lucid shr --model llava-1.5-7b-hf --data shr --images VG --out runs/shr --judge annotation --nouns categories.json
local lucid = require "lucid"

local opt = lucid.args {
  about = "SHR (Zhao et al. 2023): sentence-level hallucination of descriptions of Visual Genome pictures.\n"
    .. "Descriptions are generated as published for the kind of model (5 beams), but for what is given here.",
  common = "model vision bridge bert adapter data images out device dtype quant template threads seed limit batch cache quiet json "
    .. lucid.generate.OPTIONS,
  published = lucid.generate.OPTIONS,
  required = { "data", "images" },
  { "batch", 64, "descriptions that grow together" },
  { "data", "", "folder of val_images_final.json and shr_factual_part*.jsonl" },
  { "images", "", "Visual Genome root" },
  { "responses", "", "descriptions made elsewhere: a JSON object, image id -> text" },
  { "judge", "annotation", "a judge's name or a .lua file" },
  { "nouns", "", "noun table of the annotation judge; empty: IMAGES/categories.json" },
  { "prompt", "", "a .lua file that words the judge's request; empty: recipes/prompts/judge.lua" },
  { "metric", "shr", "a metric's name or a .lua file" },
}

lucid.threads(opt.threads)
local nouns_path = opt.nouns ~= "" and opt.nouns or opt.images .. "/categories.json"
local nouns = (opt.nouns ~= "" or lucid.file.exists(nouns_path)) and lucid.nouns.read(nouns_path) or nil
local judge = lucid.judge[opt.judge].new { nouns = nouns }
local metric = lucid.metric.of(opt.metric, "descriptions")
local prompt = lucid.recipe.load(opt.prompt ~= "" and opt.prompt or "prompts/judge")
if type(prompt) ~= "function" then error(("prompt %s: the file returns a %s, not a function"):format(opt.prompt, type(prompt)), 0) end
local records = lucid.data.shr.read(opt.data, opt.images, { limit = opt.limit, cache = lucid.cache.folder(opt.cache) })
local run = opt.out ~= "" and lucid.run.open(opt.out, "shr", opt, lucid.run.hashes(opt, { "responses", "nouns" }))
if opt.responses ~= "" then
  local _, unused = lucid.data.shr.answers(opt.responses, records)
  if unused > 0 and not opt.quiet then
    io.stderr:write(("%s: %d descriptions are of pictures that are not asked for\n"):format(opt.responses, unused))
  end
else
  local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
    adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
  local settings = lucid.generate.settings(opt, lucid.published.settings(m.kind, "shr"))
  lucid.run.note(opt, settings)
  lucid.mine.describe(m, records, { generate = settings, batch = opt.batch, quiet = opt.quiet })
end

local metrics = metric.score(records, { judge = judge, nouns = nouns, prompt = prompt })
local results = { shr = metrics }
if run then
  local samples = {}
  for i, r in ipairs(records) do
    samples[i] = { image_id = r.image_id, image = r.image, response = r.response,
      sentences = lucid.json.array(r.sentences), judgement = r.judgement }
  end
  run:results(results, samples)
end
if opt.json then print(lucid.json.encode(results)) else lucid.run.print(results) end
return results, records
