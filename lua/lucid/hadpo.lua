-- HA-DPO training from the published files: what the recipes llava, minigpt4 and instructblip share. A recipe is the
-- options' defaults; here they become a run.
--
--   local opt = lucid.args { common = hadpo.COMMON, required = hadpo.REQUIRED, groups = hadpo.options "llava",
--     defaults = { lr = 2e-6, ... } }
--   hadpo.train("llava", opt)
local access = require "lucid.access"
local args = require "lucid.args"
local captions = require "lucid.captions"
local data = require "lucid.data"
local dist = require "lucid.dist"
local dpo = require "lucid.dpo"
local draw = require "lucid.draw"
local heldout = require "lucid.heldout"
local image = require "lucid.image"
local model = require "lucid.model"
local native = require "lucid.native"
local overlong = require "lucid.overlong"
local plan = require "lucid.plan"
local quirks = require "lucid.quirks"
local references = require "lucid.references"
local resume = require "lucid.resume"
local run_folder = require "lucid.run"
local start = require "lucid.start"
local train = require "lucid.train"

local M = {}

M.COMMON = "model vision bridge adapter data images out device tune dtype quant template cache threads seed limit batch quiet json dry-run"
M.REQUIRED = { "model", "data", "images", "out" }

local ADAPTER = { title = "the adapter",
  { "rank", 0, "LoRA rank", { whole = true, min = 1, max = 4096 } },
  { "alpha", 0, "LoRA scale: alpha / rank" },
  { "targets", "", "layers that get an adapter, separated by commas", { choices = model.TARGETS, list = true } },
}

local LENGTH = { title = "length and rate",
  { "lr", 0, "peak learning rate" },
  { "schedule", "cosine", "cosine, linear, wsd (falls in its last two fifths) or constant",
    { choices = "cosine linear wsd constant" } },
  { "warmup", 0, "steps that warm up; 0: by --warmup-ratio", { whole = true } },
  { "warmup-ratio", 0, "share of the steps that warm up", { max = 1 } },
  { "clip", 0, "largest gradient norm; 0: none" },
  { "epochs", 1, "passes over the pairs when --steps is 0" },
  { "steps", 0, "optimizer steps; 0: from --epochs", { whole = true } },
}

local PAIRS = { title = "pairs",
  { "data", "", "folder of desc_data.json and pope_data.json" },
  { "images", "", "Visual Genome root: image_data.json, VG_100K, VG_100K_2" },
  { "sampling", "offline", "which texts of a picture: offline (one of each, as published), all, zip",
    { choices = "offline all zip" } },
  { "repeat", "desc:1", "how often the pairs of a kind are seen in an epoch", { check = dpo.mix } },
  { "mix", "", "pairs of each kind a batch (desc:16,pope:64) instead of one shuffled list", { check = dpo.mix } },
  { "pope-weight", 1, "with --mix: weight of the yes/no pairs' mean loss beside the descriptions'" },
  { "eval-pairs", 0, "pairs that are not trained on but measured with every checkpoint; the best one is kept",
    { whole = true } },
  { "captions", "", "folder of captioned pictures for --gamma-on captions: CC-SBU's filter_cap.json and image/" },
  { "skip-missing", false, "leave pairs and captions out whose picture is missing, and count them" },
}

--- The groups of options that a model's recipe has.
---@param name string            "llava", "minigpt4", "instructblip"
---@return table[]
function M.options(name)
  return { PAIRS, ADAPTER, LENGTH, dpo.OPTIONS, dpo.WORK, quirks.options(name), overlong.OPTIONS, train.OPTIONS,
    resume.OPTIONS, image.OPTIONS, dist.OPTIONS }
end

-- The paper's number of processes, each with a batch of its own.
local PROCESSES = 8

local function check(opt)
  if opt.epochs == 0 and (opt.steps == 0 or not opt.given.steps) then
    args.usage "--epochs: 0 passes over the pairs train nothing"
  end
  if opt.gamma_on == "captions" and opt.gamma > 0 and opt.captions == "" then
    args.usage(("--gamma %g weighs captions: give --captions, the folder of CC-SBU align, or --gamma 0"):format(opt.gamma))
  end
  if opt.given["pope-weight"] and opt.mix == "" then args.usage "--pope-weight is used with --mix" end
  if opt.captions ~= "" and opt.gamma_on ~= "captions" then
    args.usage "--captions are used with --gamma-on captions"
  end
  if opt.captions ~= "" and opt.gamma == 0 then
    args.usage "--captions: --gamma 0 leaves them out; give --gamma a weight, or no --captions"
  end
end

-- ---- the parts of a run -----------------------------------------------------------------------

-- The data files by name, the pairs in them, and the numbers of what is left out.
local function read_pairs(name, opt)
  local files = { ["desc_data.json"] = opt.data .. "/desc_data.json", ["pope_data.json"] = opt.data .. "/pope_data.json",
    ["filter_cap.json"] = opt.captions ~= "" and opt.captions .. "/filter_cap.json" or nil }
  local list, missing, counts = data.hadpo.read {
    model = name, desc = files["desc_data.json"], pope = files["pope_data.json"], images = opt.images,
    sampling = opt.sampling, seed = opt.seed, pairing = opt.instruction_pairing, skip_missing = opt.skip_missing,
    limit = opt.limit,
  }
  counts.missing = missing
  return files, list, counts
end

local function open_model(name, opt)
  local m = model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
    vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
  if opt.tune then native.C.lc_device_tune(1) end                -- what was chosen is kept with the checkpoints
  if m.kind ~= name then error(("%s is a %s; lucid %s trains it"):format(opt.model, m.kind, m.kind), 0) end
  if opt.adapter ~= "" then
    m:load_adapter(opt.adapter)
    for option, own in pairs { rank = m.lora_config.r, alpha = m.lora_config.lora_alpha } do
      if opt.given[option] and math.abs(opt[option] - own) > 1e-6 * own then
        args.usage(("--%s %g: %s has %g, with which it goes on"):format(option, opt[option], opt.adapter, own))
      end
    end
  else
    m:lora { rank = opt.rank, alpha = opt.alpha, targets = opt.targets, seed = opt.seed }
  end
  if opt.train_projector then m:train_beside("_projector%.", true) end
  if opt.train_ln_vision then m:train_beside(m.config.qformer_config and "%.post_layernorm%." or "ln_vision%.") end
  return m
end

-- What happens to a batch when it is drawn; and how many captions there are, and how many without their picture.
local function presenter(name, m, opt)
  local list, missing = {}, 0
  if opt.gamma_on == "captions" and opt.gamma > 0 then
    list, missing = data.ccsbu.read(opt.captions, { skip_missing = opt.skip_missing })
  end
  local present = access(m, {
    seed = opt.seed, redraw = data.hadpo.model(name).redraw, pairing = opt.instruction_pairing,
    crops = opt.random_crops and access.CROPS[name] or nil,
    captions = list[1] and captions.draw(m, list, { seed = opt.seed, crop = opt.random_crops }) or nil,
  })
  return present, #list, missing
end

-- The optimizer steps of a run and of its warm-up. Of two ways to say it, the one that the user took goes before the
-- recipe's default.
local function length(opt, size)
  local given, steps, warmup = opt.given, opt.steps, opt.warmup
  if given.epochs and not given.steps then steps = 0 end
  if steps == 0 and not size then args.usage "--mix has no epochs: give --steps" end
  if steps == 0 then steps = math.ceil(opt.epochs * math.ceil(size / opt.batch / opt.accumulate)) end
  if given["warmup-ratio"] and not given.warmup then warmup = 0 end
  return steps, warmup > 0 and warmup or math.ceil(steps * opt.warmup_ratio)
end

local function place(label, path) return (path or "") ~= "" and (", %s %s"):format(label, path) or "" end

-- The pairs of a step.
local function pairs_of_step(opt, mix)
  local n = mix and 0 or opt.batch
  for _, kind in ipairs(mix or {}) do n = n + mix[kind] end
  return n * opt.accumulate
end

-- What a run begins with, in lines; lucid.plan and lucid.train say the rest.
local function report(name, opt, m, mix, counts)
  local lines = { ("model: %s, %s%s%s, %s; template %s in its training form%s\n"):format(m.kind, opt.model,
    place("tower", opt.vision), place("bridge", opt.bridge), m.dtype, m.template.name,
    m.reader and "; the Q-Former reads the question, too" or "") }
  local function add(form, ...) lines[#lines + 1] = form:format(...) end
  if opt.gamma > 0 then
    add("beside the loss: %g x the cross-entropy of %s\n", opt.gamma, counts.captions > 0
      and ("%d captions%s"):format(counts.captions, counts.without > 0
        and (" (%d without their picture left out)"):format(counts.without) or "") or "the chosen answers")
  end
  if counts.captions > 0 or opt.random_crops then
    add("not counted below: %s%s%s\n", counts.captions > 0 and "the captions' passes" or "",
      counts.captions > 0 and opt.random_crops and ", " or "", opt.random_crops and "the tower's over each new crop" or "")
  end
  local step = pairs_of_step(opt, mix)
  add("step: %d pairs (%d x %d); the paper's programs: that many on each of %d processes\n", step, step / opt.accumulate,
    opt.accumulate, PROCESSES)
  add("%s", quirks.report(name, opt))
  io.stderr:write(table.concat(lines))
end

-- ---- the run -------------------------------------------------------------------------------------

--- Trains a model as a recipe's options say.
---@param name string            "llava", "minigpt4", "instructblip": the recipe and the kind of model
---@param opt table              parsed options
function M.train(name, opt)
  quirks.apply(name, opt)
  check(opt)
  local mix = opt.mix ~= "" and dpo.mix(opt.mix) or nil
  local settings = dpo.settings(opt, mix and { pope = opt.pope_weight } or nil)
  dist.join(opt)
  image.guard(opt)
  local run = resume.open(name, opt)
  local files, list, counts = read_pairs(name, opt)
  local m = open_model(name, opt)
  local fitting, over_long = overlong.fit(m, dpo.encode(m, list), opt)
  local encoded, held = heldout.split(fitting, opt.eval_pairs, opt.seed)
  local drawing = { mix = mix, repeats = dpo.mix(opt["repeat"]), batch = opt.batch, accumulate = opt.accumulate,
    seed = opt.seed, group = opt.group }
  local next_batch, size = draw.pairs(encoded, drawing)
  local steps, warmup = length(opt, size)
  local present
  present, counts.captions, counts.without = presenter(name, m, opt)
  local reference, why = references.of(m, opt)
  local cost = plan.make { model = m, pairs = encoded, draw = draw.pairs(encoded, drawing), steps = steps,
    accumulate = opt.accumulate, settings = settings, references = reference.path and reference, why_live = why,
    recompute = opt.recompute, beside = { { counts.missing, "without their picture left out" },
      { counts.correct, "already answered right left out" }, { counts.unpaired, "texts without a partner left out" },
      { over_long, "too long left out" }, { #held, "held out" } } }
  if not opt.quiet then
    report(name, opt, m, mix, counts)
    io.stderr:write(plan.text(cost))
  end
  if opt.dry_run then
    if opt.json and dist.first() then run_folder.show(opt, plan.plain(cost)) end
    return
  end

  if reference.path then reference:check(encoded, opt.seed) end
  m:recompute(cost.recompute)
  run:begin { samples = encoded, model = m, data = files, state = settings.state }
  start.watch(settings, opt, run)
  local parts = dpo.steps(m, reference, settings)
  train.run {
    model = m, run = run, steps = steps, accumulate = opt.accumulate, label = opt.loss, quiet = opt.quiet,
    lr = opt.lr, schedule = opt.schedule, clip = opt.clip, warmup = warmup, non_finite = opt.non_finite, epoch = size,
    draw = function()
      local batch = next_batch()
      return batch and present(batch)
    end, split = parts.split, loss = parts.loss,
    evaluate = #held > 0 and function() return heldout.measure(m, reference, held, opt.batch, settings) end or nil,
  }
  m.seen:sync()
  if reference.path then dist.in_turn(reference.save, reference) end
  if not dist.first() then return end
  m:save_adapter(run.out .. "/adapter")
  run:finish()
end

return M
