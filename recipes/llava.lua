-- HA-DPO training of LLaVA-1.5: preference pairs in, a PEFT adapter out.
--   lucid llava --model llava-1.5-7b-hf --data hadpo/llava-v1.5 --images VG --out runs/llava
--   lucid llava --model llava-v1.5-7b --vision clip-vit-large-patch14-336 ...       LLaVA's own folder
local lucid = require "lucid"

local opt = lucid.args {
  about = "HA-DPO for LLaVA-1.5: DPO with LoRA; the defaults are the published hyper-parameters.",
  common = "model vision bridge adapter data images out device dtype quant template cache threads seed limit batch quiet dry-run",
  required = { "model", "data", "images", "out" },
  processes = true,
  { "data", "", "folder of desc_data.json and pope_data.json" },
  { "images", "", "Visual Genome root: image_data.json, VG_100K, VG_100K_2" },
  groups = { lucid.dpo.OPTIONS, lucid.dpo.WORK, lucid.overlong.OPTIONS, lucid.train.OPTIONS, lucid.resume.OPTIONS,
    lucid.dist.OPTIONS },
  { "rank", 128, "LoRA rank", { whole = true, min = 1 } },
  { "alpha", 256, "LoRA scale: alpha / rank" },
  { "targets", "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", "layers that get an adapter" },
  { "lr", 2e-6, "peak learning rate" },
  { "schedule", "cosine", "cosine, linear, wsd (falls in its last two fifths) or constant",
    { choices = "cosine linear wsd constant" } },
  { "warmup-ratio", 0.03, "share of the steps that warm up", { max = 1 } },
  { "clip", 0, "largest gradient norm; 0: none" },
  { "epochs", 1, "passes over the pairs when --steps is 0" },
  { "steps", 0, "optimizer steps; 0: from --epochs", { whole = true } },
  { "sampling", "offline", "which texts of a picture: offline (one of each, as published), all, zip", { choices = "offline all zip" } },
  { "repeat", "desc:2", "how often the pairs of a kind are seen in an epoch", { check = lucid.dpo.mix } },
  { "mix", "", "pairs of each kind a batch (desc:16,pope:64) instead of one shuffled list", { check = lucid.dpo.mix } },
  { "pope-weight", 1, "with --mix: weight of the yes/no pairs' mean loss beside the descriptions'" },
  { "eval-pairs", 0, "pairs that are not trained on but measured with every checkpoint; the best one is kept", { whole = true } },
  { "skip-missing", false, "leave pairs out whose picture is missing, and count them" },
}

local mix = opt.mix ~= "" and lucid.dpo.mix(opt.mix) or nil
local settings = lucid.dpo.settings(opt, mix and { pope = opt.pope_weight } or nil)
lucid.dist.join(opt)
local run = lucid.resume.open("llava", opt)
local files = { ["desc_data.json"] = opt.data .. "/desc_data.json", ["pope_data.json"] = opt.data .. "/pope_data.json" }
local list, skipped = lucid.data.hadpo.read {
  desc = files["desc_data.json"], pope = files["pope_data.json"], images = opt.images,
  sampling = opt.sampling, seed = opt.seed, skip_missing = opt.skip_missing, limit = opt.limit,
}
local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
  vision = opt.vision, bridge = opt.bridge, cache = opt.cache })
if opt.adapter ~= "" then m:load_adapter(opt.adapter) else
  m:lora { rank = opt.rank, alpha = opt.alpha, targets = opt.targets, seed = opt.seed }
end
local fitting, over_long = lucid.overlong.fit(m, lucid.dpo.encode(m, list), opt)
local encoded, held = lucid.heldout.split(fitting, opt.eval_pairs, opt.seed)
local drawing = { mix = mix, repeats = lucid.dpo.mix(opt["repeat"]), batch = opt.batch, seed = opt.seed,
  group = opt.group }
local draw, size = lucid.draw.pairs(encoded, drawing)
local steps = opt.steps > 0 and opt.steps or math.ceil(opt.epochs * size / opt.batch / opt.accumulate)
local reference, why = lucid.references.of(m, opt)
local plan = lucid.plan.make { model = m, pairs = encoded, draw = lucid.draw.pairs(encoded, drawing), steps = steps,
  accumulate = opt.accumulate, settings = settings, references = reference.path and reference, why_live = why,
  recompute = opt.recompute, beside = { { skipped, "without their picture left out" },
    { over_long, "too long left out" }, { #held, "held out" } } }
if not opt.quiet then io.stderr:write(lucid.plan.text(plan)) end
if opt.dry_run then return end

if reference.path then reference:check(encoded, opt.seed) end
m:recompute(plan.recompute)
run:begin { samples = encoded, data = files, state = settings.state }
lucid.start.watch(settings, opt, run)
local parts = lucid.dpo.steps(m, reference, settings)
lucid.train.run {
  model = m, run = run, steps = steps, accumulate = opt.accumulate, label = opt.loss, quiet = opt.quiet,
  lr = opt.lr, schedule = opt.schedule, warmup = math.ceil(steps * opt.warmup_ratio), clip = opt.clip,
  non_finite = opt.non_finite, draw = draw, epoch = size, split = parts.split, loss = parts.loss,
  evaluate = #held > 0 and function() return lucid.heldout.measure(m, reference, held, opt.batch, settings) end or nil,
}
m.seen:sync()
if reference.path then lucid.dist.in_turn(reference.save, reference) end
if not lucid.dist.first() then return end
m:save_adapter(run.out .. "/adapter")
run:report()
