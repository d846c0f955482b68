-- SHR: the share of sentences in descriptions that a judge finds hallucinated.
--   lucid shr --model llava-1.5-7b-hf --data shr --images VG --out runs/shr --judge openai
--   lucid shr --responses texts.json --data shr --images VG --judge openai       text made elsewhere
--   lucid shr --judgements judgement.json                                        judged elsewhere
local lucid = require "lucid"

local opt = lucid.args {
  about = "SHR (Zhao et al. 2023): sentence-level hallucination of descriptions of Visual Genome pictures.\n"
    .. "Descriptions are generated as published for the kind of model (5 beams), but for what is given here.",
  common = "model vision bridge bert adapter data images out device dtype quant template threads seed limit batch cache quiet json "
    .. lucid.generate.OPTIONS,
  published = lucid.generate.OPTIONS,
  processes = true,
  { "batch", 64, "descriptions that grow together" },
  { "data", "", "folder of val_images_final.json and shr_factual_part*.jsonl" },
  { "images", "", "Visual Genome root" },
  { "responses", "", "descriptions made elsewhere: a JSON object, image id -> text; records with ids; or a judgement.json" },
  { "judgements", "", "judged elsewhere: the published programs' judgement.json, which is scored as it is" },
  { "nouns", "", "noun table of the annotation judge; empty: IMAGES/categories.json" },
  { "prompt", "", "a .lua file that words the judge's request; empty: recipes/prompts/judge.lua" },
  { "max-prompt", 0, "longest prompt in characters; longer ones are counted, not sent; 0: any", { whole = true } },
  { "metric", "shr", "a metric's name or a .lua file; repetition needs no judge: --judge none" },
  { "bootstrap", 1000, "draws of the intervals; 0: none", { whole = true } },
  { "as-published", false, "also the published programs' numbers and files; LLaVA's prompts over 15000 characters are left out, "
    .. "and any reply that says Judgement is taken" },
  groups = { lucid.judge.options, lucid.image.OPTIONS },
}

-- ---- texts and labels -----------------------------------------------------------------------------------

lucid.dist.join(opt)
lucid.image.guard(opt)
local first = lucid.dist.first()
local metric = lucid.metric.of(opt.metric, "descriptions")
local published_metric = lucid.metric.of("shr_published", "descriptions")
local run = nil
local function open_run()
  run = first and opt.out ~= "" and lucid.run.open(opt.out, "shr", opt,
    lucid.run.hashes(opt, { "responses", "judgements", "nouns", "prompt" })) or nil
end

-- The descriptions, made here or elsewhere, and what judges them; the kind of model where there is one.
local function describe()
  for _, name in ipairs { "data", "images" } do
    if opt[name] == "" then lucid.args.usage(("--%s is required; --help lists all options"):format(name)) end
  end
  local nouns_path = opt.nouns ~= "" and opt.nouns or opt.images .. "/categories.json"
  local nouns = (opt.nouns ~= "" or lucid.file.exists(nouns_path)) and lucid.nouns.read(nouns_path) or nil
  local judge = first and opt.judge ~= "none" and lucid.judge.open(opt, { nouns = nouns }) or nil
  local prompt = lucid.recipe.load(opt.prompt ~= "" and opt.prompt or "prompts/judge")
  if type(prompt) ~= "function" then
    error(("prompt %s: the file returns a %s, not a function"):format(opt.prompt, type(prompt)), 0)
  end
  local records = lucid.data.shr.read(opt.data, opt.images, { limit = opt.limit, cache = lucid.cache.folder(opt.cache) })
  open_run()
  local how = { judge = judge, nouns = nouns, prompt = prompt, max_prompt = opt.max_prompt, as_published = opt.as_published,
    bootstrap = opt.bootstrap, seed = opt.seed }
  if opt.responses ~= "" then
    local _, unused = lucid.data.shr.answers(opt.responses, records)
    if unused > 0 and not opt.quiet then
      io.stderr:write(("%s: %d descriptions are of pictures that are not asked for\n"):format(opt.responses, unused))
    end
    return records, how
  end
  local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
    adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
  local settings = lucid.generate.settings(opt, lucid.published.settings(m.kind, "shr"))
  lucid.run.note(opt, settings)
  lucid.mine.describe(m, records, { generate = settings, batch = opt.batch, quiet = opt.quiet })
  if run then lucid.data.responses.write(run.out .. "/responses.json", records) end       -- before a judge costs anything
  if opt.as_published and m.kind == "llava" and not opt.given["max-prompt"] then
    how.max_prompt = lucid.metric.shr.LONGEST_PROMPT
  end
  return records, how, m.kind
end

local runs, records, how, kind
if opt.judgements ~= "" then
  if opt.responses ~= "" then lucid.args.usage "--judgements hold their responses; leave --responses out" end
  runs, records, how = lucid.data.shr.judgements(opt.judgements), {}, { bootstrap = opt.bootstrap, seed = opt.seed }
  open_run()
  for _, r in ipairs(runs) do
    for _, record in ipairs(r.records) do records[#records + 1] = record end
  end
else
  records, how, kind = describe()
  runs = { { name = "run1", records = records } }
end

if not first then return end                  -- one process judges and writes

-- ---- numbers --------------------------------------------------------------------------------------------

local results = { shr = metric.score(records, how) }
if how.judge and how.judge.identity then
  lucid.run.note(opt, { judge_identity = lucid.json.encode(how.judge.identity) })
end
if opt.as_published or opt.judgements ~= "" then
  for _, r in ipairs(runs) do
    r.metrics = published_metric.score(r.records)
    results["shr_published" .. (#runs > 1 and "_" .. r.name or "")] = r.metrics
  end
end

if run then
  run:results(results, lucid.data.shr.samples(records))
  if runs[1].metrics then
    local is_adapted = opt.adapter ~= ""
    lucid.data.shr.write(run.out, runs, { key = opt.responses ~= "" and "mode_response" or "model_response",
      more = kind == "llava" and { model_path = is_adapted and opt.adapter or opt.model,
        model_base = is_adapted and opt.model or lucid.json.null } or nil })
  end
end
lucid.run.show(opt, results)
return results, records
