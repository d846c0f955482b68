-- Pairs in, log-probabilities and rewards out.
--   lucid score --model base --adapter runs/llava --data hadpo/llava-v1.5 --images VG --out runs/score
local lucid = require "lucid"

local opt = lucid.args {
  about = "Scores preference pairs under the policy (adapter on) and the reference (adapter off).",
  common = "model vision bridge bert adapter data images out device dtype quant template cache threads seed limit batch quiet json",
  required = { "model", "data", "images" },
  { "beta", 0.1, "reward = beta * (policy - reference)" },
  { "sampling", "offline", "which texts of a picture: offline (one of each), all, zip", { choices = "offline all zip" } },
  { "explain", 0, "print the tokens of pair N, which are scored, and their log-probabilities", { whole = true } },
  { "skip-missing", false, "leave pairs out whose picture is missing" },
  groups = { lucid.image.OPTIONS },
}

lucid.threads(opt.threads)
lucid.image.guard(opt)
local list = lucid.data.hadpo.read {
  desc = opt.data .. "/desc_data.json", pope = opt.data .. "/pope_data.json", images = opt.images,
  sampling = opt.sampling, seed = opt.seed, skip_missing = opt.skip_missing, limit = opt.limit,
}
local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
  adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
local encoded = lucid.dpo.encode(m, list)
if opt.explain > 0 then
  local pair = encoded[opt.explain] or error(("--explain %d: there are %d pairs"):format(opt.explain, #encoded), 0)
  local explained = lucid.dpo.explain(m, pair)
  lucid.run.show(opt, explained, lucid.dpo.explain_text(explained))
  return explained
end

local run = opt.out ~= "" and lucid.run.open(opt.out, "score", opt)
local samples, right, margin = {}, 0, 0
local bar = lucid.progress { total = #encoded, label = "score", unit = "pairs", quiet = opt.quiet }
for first = 1, #encoded, opt.batch do
  lucid.scope(lucid.no_grad, function()
    local batch = {}
    for i = first, math.min(first + opt.batch - 1, #encoded) do batch[#batch + 1] = encoded[i] end
    for i, row in ipairs(lucid.dpo.score(m, m:base(), batch, opt.beta)) do
      row.id, row.kind = batch[i].id, batch[i].kind
      samples[#samples + 1] = row
      right, margin = right + (row.margin > 0 and 1 or 0), margin + row.margin
    end
  end)
  bar:step(#samples, { count = math.min(opt.batch, #encoded - first + 1) })
end
bar:done()
local n = #samples
local results = { score = {
  ["rewards/accuracies"] = { value = right / n, n = n }, ["rewards/margins"] = { value = margin / n, n = n },
} }
if run then run:results(results, samples) end
lucid.run.show(opt, { score = results.score, pairs = lucid.json.array(samples) }, lucid.run.text(results))
return results
