-- CHAIR: which of the things that captions name are not in the pictures.
--   lucid chair --model llava-1.5-7b-hf --annotations instances_val2014.json --images val2014 --sample 500 --out runs/chair
--   lucid chair --responses captions.jsonl --annotations instances_val2014.json --captions captions_val2014.json
local lucid = require "lucid"

local opt = lucid.args {
  about = "CHAIR (Rohrbach et al. 2018): chair_i, chair_s and recall of captions of COCO pictures, by words: a noun table\n"
    .. "(lua/lucid/metric/coco.json) and plural rules, no tagger and no word vectors.",
  common = "model vision bridge bert adapter images out device dtype quant template threads seed limit batch cache quiet json "
    .. lucid.generate.OPTIONS,
  processes = true,
  required = { "annotations" },
  { "batch", 64, "captions that grow together" },
  { "annotations", "", "COCO's instances_*.json" },
  { "captions", "", "COCO's captions_*.json: what reference captions name is there, too" },
  { "images", "", "folder of the pictures" },
  { "responses", "", "captions made elsewhere: a JSON object, image id -> text, or records with ids" },
  { "sample", 0, "pictures that are described, drawn by the seed; 0: all, from the first", { whole = true } },
  { "question", "Please describe this image in detail.", "what the model is asked" },
  { "nouns", "", "noun table; empty: COCO's" },
  { "metric", "chair", "a metric's name or a .lua file" },
  { "bootstrap", 1000, "draws of the intervals; 0: none", { whole = true } },
  groups = { lucid.image.OPTIONS },
}

lucid.dist.join(opt)
lucid.image.guard(opt)
local first = lucid.dist.first()
local metric = lucid.metric.of(opt.metric, "descriptions")
local nouns = opt.nouns ~= "" and lucid.nouns.read(opt.nouns) or lucid.nouns.coco()
local pictures = lucid.data.chair.read(opt.annotations, nouns, opt.captions ~= "" and opt.captions or nil)
local records
if opt.responses ~= "" then
  records = lucid.data.chair.answered(opt.responses, pictures, opt.limit)
else
  if opt.images == "" then lucid.args.usage "--images is required; --help lists all options" end
  if opt.sample > 0 then lucid.rng(opt.seed, "chair:sample"):shuffle(pictures) end
  records = {}
  local most = math.min(#pictures, opt.sample > 0 and opt.sample or #pictures, opt.limit > 0 and opt.limit or #pictures)
  for i = 1, most do records[i] = pictures[i] end
  lucid.data.chair.locate(opt.images, records)
end
local run = first and opt.out ~= "" and lucid.run.open(opt.out, "chair", opt,
  lucid.run.hashes(opt, { "annotations", "captions", "responses", "nouns" }))
if opt.responses == "" then
  local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
    adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
  for _, r in ipairs(records) do r.question = opt.question end
  lucid.mine.describe(m, records, { generate = lucid.generate.settings(opt), batch = opt.batch, quiet = opt.quiet,
    seed = opt.seed })
  if run then lucid.data.responses.write(run.out .. "/responses.json", records) end
end
if not first then return end

local results = { chair = metric.score(records, { nouns = nouns, bootstrap = opt.bootstrap, seed = opt.seed }) }
if run then
  local samples = {}
  for i, r in ipairs(records) do
    local made_up = lucid.json.array {}
    for _, m in ipairs(r.mentions or {}) do
      if not m.there then made_up[#made_up + 1] = m.word end
    end
    samples[i] = { image_id = r.image_id, image = r.image, response = r.response, hallucinated = made_up,
      mentions = lucid.json.array(r.mentions), truth = lucid.json.array(r.truth) }
  end
  run:results(results, samples)
end
lucid.run.show(opt, results)
return results, records
