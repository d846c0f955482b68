-- Greedy answers and beam search against transformers' own, id for id: tests/golden/beams, whose script says how
-- they were made. Each case's prompts grow together here; there each was asked alone.
local lucid = require "lucid"
local native = require "lucid.native"
local ending = require "tests.support.ending"
local golden = require "tests.support.golden"

local ROOT = native.root .. "tests/golden/beams/"

-- The fields of transformers' GenerationConfig that have other names here.
local NAMES = { num_beams = "beams" }

local function options(case, facts)
  local opt = {}
  for name, value in pairs(case) do opt[NAMES[name] or name] = value end
  if not opt.max_length then opt.max_new_tokens = facts.length end
  if opt.beams then opt.answers = 2 end
  return opt
end

-- An answer's ids as the golden has them: with the id that ended it.
local function with_end(a, m)
  local ids = { unpack(a.ids) }
  if a.reason == "eos" then ids[#ids + 1] = m.tokenizer.eos end
  return ids
end

local function check(name, set, opt)
  local facts = lucid.json.read(ROOT .. name .. ".json")
  local m, prompts = ending.model(facts["head"], facts["end"]), facts.sets[set].prompts
  for case, asked in pairs(facts.cases) do
    local requests = {}
    for i, p in ipairs(prompts) do requests[i] = { ids = p.ids, image = ending.picture } end
    local settings = options(asked, facts)
    for key, value in pairs(opt) do settings[key] = value end
    local answers = m:generate_all(requests, settings)
    for i, p in ipairs(prompts) do
      local want, what = p.answers[case], ("%s, prompt %d"):format(case, i)
      assert.same(want.ids, with_end(answers[i], m), what)
      if want.second then
        assert.same(want.second, with_end(answers[i].answers[2], m), what .. ", the second")
        golden.agree({ answers[i].score, answers[i].answers[2].score }, want.scores, 1e-5, what)
      end
    end
  end
end

describe("golden answers", function()
  it("are those of today's transformers, with pictures", function() check("modern", "ids", { length_norm = "new" }) end)

  it("are those of transformers 4.31 where it is given ids", function()
    check("era", "ids", { length_norm = "full", counted = "prompt" })
  end)

  it("and where it is given embeddings", function()
    check("era", "embeddings", { length_norm = "full", counted = "bos" })
  end)

  it("differ between the two norms, so that they can tell them apart", function()
    local facts = lucid.json.read(ROOT .. "era.json")
    local m, requests, differing = ending.model(facts["head"], facts["end"]), {}, 0
    for i, p in ipairs(facts.sets.ids.prompts) do requests[i] = { ids = p.ids } end
    local full = m:generate_all(requests, { beams = 5, max_new_tokens = 32, length_norm = "full" })
    local new = m:generate_all(requests, { beams = 5, max_new_tokens = 32, length_norm = "new" })
    for i, a in ipairs(full) do differing = differing + (lucid.json.encode(a.ids) ~= lucid.json.encode(new[i].ids) and 1 or 0) end
    assert.is_true(differing >= 3, differing .. " of the answers differ")
  end)
end)
