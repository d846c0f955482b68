-- A recipe of one's own: which of two questions makes a model hallucinate less.
--   lucid examples/07_own_recipe.lua --model DIR --images VG --limit 50
local lucid = require "lucid"

local opt = lucid.args {
  about = "Compares SHR under two instructions.",
  common = "model images limit seed quiet",
  required = { "model", "images" },
  { "first", "Describe this image in detail.", "one instruction" },
  { "second", "List only what you are certain to see.", "the other" },
}

local nouns = lucid.nouns.read(opt.images .. "/categories.json")
local judge = lucid.judge.annotation.new { nouns = nouns }
local m = lucid.model(opt.model)
for _, question in ipairs { opt.first, opt.second } do
  local records = lucid.mine.records(opt.images, { limit = opt.limit, seed = opt.seed })
  for _, r in ipairs(records) do r.question = question end
  lucid.mine.describe(m, records, { generate = { max_new_tokens = 200 }, quiet = opt.quiet })
  local score = lucid.metric.shr.score(records, { judge = judge, nouns = nouns })
  print(question)
  print(("  SHR %.3f  sentences per picture %.2f"):format(score.shr.value, score.sentences_per_image.value))
end
