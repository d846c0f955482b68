-- Supervised fine-tuning on LLaVA-style conversations.
--   lucid sft --model base --data captions.json,questions.json --images VG --out runs/sft --train language
local lucid = require "lucid"

local opt = lucid.args {
  about = "Supervised fine-tuning: the answers' cross-entropy, one mean a data file, summed over files.",
  common = "model vision bridge bert data images out device dtype template cache threads seed limit batch quiet json",
  required = { "model", "data", "out" },
  processes = true,
  groups = { lucid.overlong.OPTIONS, lucid.train.OPTIONS, lucid.resume.OPTIONS, lucid.image.OPTIONS, lucid.dist.OPTIONS },
  { "data", "", "conversation files, separated by commas" },
  { "init", false, "begin with new weights: the model folder's config.json alone is read" },
  { "train", "language", "parts to train, separated by commas: vision, projector, language", { check = lucid.sft.parts } },
  { "lora-rank", 0, "train an adapter of this rank instead of the parts; 0: none", { whole = true } },
  { "lora-alpha", 16, "adapter scale: alpha / rank" },
  { "pictures", 0, "pictures a step, each with all its records; 0: --batch records a step", { whole = true } },
  { "weights", "", "what each data file's mean loss counts: NAME:WEIGHT,NAME:WEIGHT (1 where not named)", { check = lucid.sft.weights } },
  { "steps", 0, "optimizer steps; 0: --epochs over the data", { whole = true } },
  { "epochs", 1, "passes over the data when --steps is 0" },
  { "lr", 2e-5, "peak learning rate" },
  { "schedule", "cosine", "cosine, linear, wsd (falls in its last two fifths) or constant",
    { choices = "cosine linear wsd constant" } },
  { "warmup", 0, "steps of linear warm-up", { whole = true } },
  { "beta1", 0.9, "AdamW", { max = 1 } },
  { "beta2", 0.999, "AdamW", { max = 1 } },
  { "weight-decay", 0, "AdamW, decoupled" },
  { "clip", 1, "largest gradient norm; 0: none" },
  { "skip-missing", false, "leave records out whose picture is missing, and count them" },
}

lucid.dist.join(opt)
lucid.image.guard(opt)
local run = lucid.resume.open("sft", opt)
local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, init = opt.init,
  seed = opt.seed, template = opt.template, vision = opt.vision, bridge = opt.bridge, bert = opt.bert,
  cache = opt.cache })
local sequences, kinds, skipped, over_long, files = {}, {}, 0, 0, {}
for path in opt.data:gmatch("[^,]+") do
  local records, missing = lucid.data.jsonl.conversations(path, { images = opt.images, limit = opt.limit,
    skip_missing = opt.skip_missing })
  skipped, files[path] = skipped + missing, path
  local kind = path:match("([^/]+)%.%w+$") or path
  kinds[kind] = true
  local fitting, longer = lucid.overlong.fit(m, lucid.sft.encode(m, records, kind), opt, path)
  over_long = over_long + longer
  for _, s in ipairs(fitting) do sequences[#sequences + 1] = s end
end
if #sequences == 0 then lucid.args.usage("--data: it names no file") end
local weights = lucid.sft.weights(opt.weights)
for name in pairs(weights) do
  if not kinds[name] then lucid.args.usage(("--weights: no data file is named %s"):format(name)) end
end
if skipped > 0 and not opt.quiet then
  io.stderr:write(("sft: %d records are left out: their pictures are missing\n"):format(skipped))
end
if over_long > 0 and not opt.quiet then io.stderr:write(("sft: %d answers are left out: too long\n"):format(over_long)) end
if opt.lora_rank > 0 then
  m:lora { rank = opt.lora_rank, alpha = opt.lora_alpha, seed = opt.seed }
else
  local parts = lucid.sft.parts(opt.train)
  for _, part in ipairs { "vision", "projector", "language" } do m:train(part, parts[part]) end
end

local draw, size = lucid.sft.sampler(sequences, { seed = opt.seed, batch = opt.batch, pictures = opt.pictures })
local parts = lucid.sft.steps(m, weights)
local steps = opt.steps > 0 and opt.steps or math.ceil(opt.epochs * size)
if steps == 0 then lucid.args.usage("--epochs: 0 passes over the data train nothing") end
run:begin { samples = sequences, model = m, data = files }
lucid.train.run {
  model = m, run = run, steps = steps, label = "sft", quiet = opt.quiet, unit = "answers",
  lr = opt.lr, schedule = opt.schedule, warmup = opt.warmup, betas = { opt.beta1, opt.beta2 },
  weight_decay = opt.weight_decay, clip = opt.clip, non_finite = opt.non_finite,
  draw = draw, epoch = #sequences,
  split = parts.split, loss = parts.loss,
}
m.seen:sync()
if not lucid.dist.first() then return end
if opt.lora_rank > 0 then m:save_adapter(run.out .. "/adapter") else m:save(run.out) end
run:finish()
