-- AMBER: descriptions and yes/no questions about existence, attributes and relations.
--   lucid amber --model llava-1.5-7b-hf --data AMBER/data --images AMBER/image --out runs/amber
--   lucid amber --data AMBER/data --responses responses.json         scores what was made elsewhere
local lucid = require "lucid"

local opt = lucid.args {
  about = "AMBER (Wang et al. 2023): chair, cover, hal and cog of descriptions, by words alone (no tagger, no word vectors),\n"
    .. "and accuracy, precision, recall and F1 of questions, where no is the positive answer.",
  common = "model vision bridge bert adapter data images out device dtype quant template threads seed limit batch cache quiet json "
    .. lucid.generate.OPTIONS,
  processes = true,
  required = { "data" },
  { "batch", 64, "answers that grow together" },
  { "data", "", "folder of annotations.json, relation.json, safe_words.txt and query/" },
  { "annotations", "", "annotations; empty: DATA/annotations.json" },
  { "queries", "", "query files, separated by commas; empty: DATA/query/query_generative.json and query_discriminative.json" },
  { "images", "", "folder of the pictures" },
  { "responses", "", "responses made elsewhere: [{\"id\": 1, \"response\": \"...\"}, ...], JSON lines, or an object, id -> text" },
  { "as-published", false, "also the numbers of questions as the benchmark's program prints them" },
  { "metric", "amber", "a metric's name or a .lua file" },
  { "bootstrap", 1000, "draws of the intervals; 0: none", { whole = true } },
  groups = { lucid.image.OPTIONS },
}

lucid.dist.join(opt)
lucid.image.guard(opt)
local first = lucid.dist.first()
local amber = lucid.data.amber
local metric = lucid.metric.of(opt.metric, "descriptions")
opt.annotations = opt.annotations ~= "" and opt.annotations or opt.data .. "/annotations.json"
local annotations = amber.annotations(opt.annotations)
local words = amber.words(opt.data .. "/relation.json", opt.data .. "/safe_words.txt")
local queries = opt.queries
if queries == "" then
  queries = ("%s/query/query_generative.json,%s/query/query_discriminative.json"):format(opt.data, opt.data)
end

-- Every query of the files, with its picture's name.
local function read_queries()
  local list, seen = {}, {}
  for path in queries:gmatch("[^,]+") do
    for _, q in ipairs(amber.queries(path, annotations)) do
      if not seen[q.id] then list[#list + 1] = q end
      seen[q.id] = true
    end
  end
  return list
end

local records
if opt.responses ~= "" then
  records = amber.answered(opt.responses, annotations, opt.limit)
  -- Queries tell the pictures, over which errors are; without them every response is its own.
  if opt.queries ~= "" or lucid.file.exists(queries:match("[^,]+")) then amber.name(records, read_queries()) end
else
  if opt.images == "" then lucid.args.usage "--images is required; --help lists all options" end
  records = read_queries()
  while opt.limit > 0 and #records > opt.limit do records[#records] = nil end
end
local hashes = lucid.run.hashes(opt, { "annotations", "responses" })
for path in queries:gmatch("[^,]+") do
  if lucid.file.exists(path) then hashes[path:match("[^/]*$")] = lucid.file.hash(path) end
end
local run = first and opt.out ~= "" and lucid.run.open(opt.out, "amber", opt, hashes)
if opt.responses == "" then
  local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
    adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
  amber.locate(opt.images, records)
  local descriptions, questions = {}, {}
  for _, r in ipairs(records) do
    local list = r.kind == "description" and descriptions or questions
    list[#list + 1] = r
  end
  local settings = lucid.generate.settings(opt)
  for _, list in ipairs { descriptions, questions } do
    if #list > 0 then lucid.mine.describe(m, list, { generate = settings, batch = opt.batch, quiet = opt.quiet, seed = opt.seed }) end
  end
end
if not first then return end

local results = { amber = metric.score(records, { words = words, bootstrap = opt.bootstrap, seed = opt.seed }) }
if opt.as_published then results.amber_published = lucid.metric.of("amber_published", "descriptions").score(records) end
if run then
  local samples, answers = {}, lucid.json.array {}
  for i, r in ipairs(records) do
    samples[i] = { id = r.id, image = r.image, question = r.question, kind = r.kind, truth = r.truth,
      response = r.response, mentions = r.mentions and lucid.json.array(r.mentions) or nil }
    answers[i] = { id = r.id, response = r.response }
  end
  run:results(results, samples)
  lucid.json.write(run.out .. "/responses.json", answers)
end
lucid.run.show(opt, results)
return results, records
