-- Mining preference pairs: describe, find what is made up, correct, rewrite, ask.
--   lucid mine --model llava-1.5-7b-hf --images VG --out data/mined --judge openai
--   lucid mine ... --resume              goes on where it was cut off; what was edited in OUT/stages is taken as it is
--   lucid mine ... --from gate           makes that stage and what follows anew
local lucid = require "lucid"

local opt = lucid.args {
  about = "HA-DPO's data pipeline: writes desc_data.json and pope_data.json for the model that is mined. Its stages,\n"
    .. table.concat(lucid.mine.STAGES, ", ") .. ", are files in OUT/stages that can be read and edited.",
  common = "model vision bridge bert adapter images out device dtype quant template threads seed limit batch cache quiet json "
    .. lucid.generate.OPTIONS,
  required = { "model", "images", "out" },
  processes = true,
  { "images", "", "Visual Genome root, or the folder of the pictures that --annotations names" },
  { "annotations", "", "COCO's instances_*.json, or JSON lines { image, objects, sentences }; empty: Visual Genome's own" },
  { "captions", "", "COCO's captions_*.json: sentences that are true" },
  { "batch", 64, "pictures that are worked on together" },
  { "nouns", "", "noun table; empty: IMAGES/categories.json, else the things that --annotations names" },
  { "from", "", "make this stage and what follows anew" },
  { "until", "", "stop behind this stage" },
  { "resume", false, "go on with what --out holds" },
  { "overwrite", false, "replace the run that --out holds" },
  groups = {
    { title = "which pictures",
      { "min-objects", 1, "pictures with fewer annotated things are left out", { whole = true } },
      { "max-objects", 100, "and those with more", { whole = true } },
      { "min-texts", 0, "and those with fewer annotated regions or sentences", { whole = true } },
      { "skip-bad", false, "and those whose file is missing or cannot be read; else these stop the run" },
    },
    { title = "pairs",
      { "variants", 3, "texts of each side of a pair", { whole = true, min = 1 } },
      { "complete", false, "corrections also add the things that were left out" },
      { "omission", 0, "pairs a picture whose rejected text leaves something out; 0.5: of every second one" },
      { "omit", 1, "sentences that such a text leaves out", { whole = true, min = 1 } },
      { "prompt-correct", "", "a .lua file that words the request; empty: recipes/prompts/correct.lua" },
      { "prompt-rewrite", "", "the same for rewriting" },
      { "form", "", "form of the files: llava, minigpt4, instructblip or list; empty: the mined model's",
        { choices = "llava minigpt4 instructblip list" } },
    },
    { title = "questions",
      { "questions", "annotations", "made from the annotations, or by the judge from what it found", { choices = "annotations judge" } },
      { "present", 2, "questions a picture about what is there", { whole = true } },
      { "absent", 2, "and about what is not", { whole = true } },
      { "statistics", "", "Visual Genome root in which co-occurrence is counted; empty: the mined pictures" },
      { "check", true, "ask the model the questions and mark those it already answers right" },
      { "prompt-questions", "", "a .lua file that words the request for questions" },
    },
    { title = "the gate",
      { "verify", "corrected", "what the judge judges again: the corrected texts, all right texts or none",
        { choices = "corrected all none" } },
      { "min-ratio", 0.5, "words of a right text to those of the wrong one: at least" },
      { "max-ratio", 2, "and at most" },
      { "balance", 0.6, "largest share of either answer among the questions; 1: any", { min = 0.5, max = 1 } },
      { "duplicates", false, "keep pairs of texts and questions that a picture has twice" },
      { "prompt-judge", "", "a .lua file that words the request for a judgement" },
    },
    lucid.judge.options,
    lucid.image.OPTIONS,
  },
}

lucid.dist.join(opt)
lucid.image.guard(opt)
local numbers = lucid.mine.run(opt)
local fault = numbers and lucid.mine.fault(numbers, opt.out)
if fault then error(fault, 0) end
if numbers and lucid.dist.first() then lucid.run.show(opt, numbers, lucid.mine.text(numbers)) end
return numbers
