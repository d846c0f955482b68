-- SHR as its published programs print it: their names, rounded to three places, over the descriptions
-- that were sent to the judge. The ratios' denominators are the sentences with one of the three
-- labels, the averages' are the judged pictures, with or without labels; repetition is averaged over
-- all pictures. What these programs divide by nothing is 0 and marked undefined.
local decimal = require "lucid.decimal"
local repetition = require "lucid.metric.repetition"
local shr = require "lucid.metric.shr"

local M = { needs = "descriptions" }

local function rounded(v) return decimal.round(v, 3) end

local function ratio(a, b, n)
  return { value = b > 0 and rounded(a / b) or 0, n = n, undefined = b == 0 or nil }
end

--- Scores judged records; with opt.judge they are judged first.
---@param records table[]
---@param opt table|nil      as lucid.metric.shr.score
---@return table<string, table>
function M.score(records, opt)
  if opt and opt.judge then shr.judge(records, opt.judge, opt) end
  shr.need_judged(records, "shr_published")
  local sum = { texts = 0, sentences = 0, words = 0, judged = 0, judged_words = 0, bad = 0, bad_words = 0 }
  for _, record in ipairs(records) do
    if not record.too_long then
      for name, n in pairs(shr.count(record)) do sum[name] = sum[name] + n end
    end
  end
  local images = sum.texts
  local metrics = {
    num_images = { value = images, n = images },
    sents_per_image = ratio(sum.sentences, images, images),
    words_per_image = ratio(sum.words, images, images),
    hal_sents_per_image = ratio(sum.bad, images, images),
    hal_words_per_image = ratio(sum.bad_words, images, images),
    hal_sents_ratio = ratio(sum.bad, sum.judged, images),
    hal_words_ratio = ratio(sum.bad_words, sum.judged_words, images),
  }
  -- A mean over runs of the judge, of which there is one here.
  metrics.mean_hal_ratio = { value = metrics.hal_sents_ratio.value, n = images,
    undefined = metrics.hal_sents_ratio.undefined }
  for name, m in pairs(repetition.score(records)) do
    metrics[("gram-%s-repetition"):format(name:match("%d"))] = { value = rounded(m.value), n = m.n, short = m.short }
  end
  return metrics
end

return M
