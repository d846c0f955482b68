-- A metric of one's own: how often an answer just says yes.      lucid pope ... --metric examples/05_own_metric.lua
return {
  needs = "answers",
  score = function(records)
    local yes = 0
    for _, r in ipairs(records) do
      if r.answer:lower():find("^%s*yes") then yes = yes + 1 end
    end
    local share = yes / #records
    return { says_yes = { value = share, stderr = math.sqrt(share * (1 - share) / #records), n = #records } }
  end,
}
