-- Beam search and the settings of generation: against a search that runs every path whole, alone and in company,
-- and the ends that an answer may have. transformers' own answers are in golden_beams_spec.
local ffi = require "ffi"
local lucid = require "lucid"
local beam = require "lucid.beam"
local native = require "lucid.native"
local files = require "lucid.tinyworld.files"
local ending = require "tests.support.ending"
local folder = require "tests.support.folder"
local tiny = require "tests.support.tiny"

local C = native.C
local m = ending.model(2.5, 1.6)
local EOS = m.tokenizer.eos

-- ---- the oracle: no cache, no forks, no generator; hypotheses are lists of ids --------------------

-- Log-probabilities of what follows ids, id -> value.
local function next_logps(request, ids)
  local all = { unpack(request.ids) }
  for _, id in ipairs(ids) do all[#all + 1] = id end
  local logits = lucid.no_grad(m.logits, m, lucid.forest { { tokens = all, image = request.image } }):tolist()
  local row, most, sum, out = logits[#logits], -math.huge, 0, {}
  for _, x in ipairs(row) do most = math.max(most, x) end
  for _, x in ipairs(row) do sum = sum + math.exp(x - most) end
  for id = 0, #row - 1 do out[id] = row[id + 1] - most - math.log(sum) end
  return out
end

local function with(ids, id)
  local more = { unpack(ids) }
  more[#more + 1] = id
  return more
end

-- Every continuation of every beam, best first.
local function ranked(request, beams)
  local list = {}
  for _, b in ipairs(beams) do
    for id, logp in pairs(next_logps(request, b.ids)) do list[#list + 1] = { ids = b.ids, id = id, sum = b.sum + logp } end
  end
  table.sort(list, function(a, b) return a.sum > b.sum end)
  return list
end

local function best_first(done)
  table.sort(done, function(a, b) return a.score > b.score end)
  return done
end

-- The best hypothesis of `width` beams. An end counts among the first `width`; full: the end is not
-- measured, the prompt is; the search ends when what is open, measured as it stands, is no better.
local function oracle(request, width, most, full)
  local beams, done, before = { { ids = {}, sum = 0 } }, {}, full and #request.ids or 0
  for made = 1, most do
    local list, on = ranked(request, beams), {}
    for rank, c in ipairs(list) do
      if c.id ~= EOS then
        if #on < width then on[#on + 1] = { ids = with(c.ids, c.id), sum = c.sum } end
      elseif rank <= width and (not full or #on < width) then
        done[#done + 1] = { ids = c.ids, score = c.sum / (before + made - (full and 1 or 0)), reason = "eos" }
      end
      if made == most and not full and rank <= width and c.id ~= EOS then
        done[#done + 1] = { ids = with(c.ids, c.id), score = c.sum / made, reason = "length" }
      end
    end
    best_first(done)
    for i = #done, width + 1, -1 do done[i] = nil end
    local hope = (full and list[1].sum or on[1].sum) / (before + made)
    if #done == width and done[width].score >= hope then return done[1] end
    beams = on
  end
  for _, b in ipairs(full and beams or {}) do
    done[#done + 1] = { ids = b.ids, score = b.sum / (before + most), reason = "length" }
  end
  return best_first(done)[1]
end

describe("beam search", function()
  local requests = ending.requests(6, 5)

  for _, norm in ipairs { "new", "full" } do
    it("finds what a search without a cache finds: " .. norm, function()
      local found = m:generate_all(requests, { beams = 3, max_new_tokens = 9, length_norm = norm, counted = "prompt" })
      local reasons = {}
      for i, r in ipairs(requests) do
        local want = oracle(r, 3, 9, norm == "full")
        assert.same(want.ids, found[i].ids, "request " .. i)
        assert.equal(want.reason, found[i].reason)
        assert.is_true(math.abs(want.score - found[i].score) < 1e-5)
        reasons[found[i].reason] = true
      end
      assert.same({ eos = true, length = true }, reasons)
    end)
  end

  it("gives a request the same answer in any company", function()
    local many = ending.requests(12, 8)
    for _, norm in ipairs { "new", "full" } do
      local opt = { beams = 4, max_new_tokens = 16, length_norm = norm, repetition_penalty = 1.3 }
      local together = m:generate_all(many, opt)
      opt.batch = 5
      assert.same(together, m:generate_all(many, opt))
      for _, i in ipairs { 1, 6, 11 } do
        local _, alone = m:generate { ids = many[i].ids, image = many[i].image, beams = 4, max_new_tokens = 16,
          length_norm = norm, repetition_penalty = 1.3 }
        assert.same(together[i], alone)
      end
    end
  end)

  it("of one beam is greedy", function()
    local s = { beams = 1, length_penalty = 0, early_stopping = false, length_norm = "new", ends = { EOS },
      is_end = { [EOS] = true }, stop_ids = {} }
    local greedy = m:generate_all(requests, { max_new_tokens = 16 })
    local sequences, items = {}, {}
    for i, r in ipairs(requests) do
      sequences[i] = { ids = r.ids, image = r.image, score_from = #r.ids + 1 }
      items[i] = { length = #r.ids, most = 16 }
    end
    local found = lucid.no_grad(function()
      local b = m:batch(lucid.forest.of(sequences))
      local g = ffi.gc(native.check(C.lc_generator_new(m.handle, b, 16, 1)), C.lc_generator_free)
      return beam.search(g, items, s, {})
    end)
    for i, a in ipairs(greedy) do
      assert.same(a.ids, found[i][1].ids)
      assert.equal(a.reason, found[i][1].reason)
    end
  end)

  it("gives as many answers as are asked for, best first", function()
    for _, norm in ipairs { "new", "full" } do
      local _, a = m:generate { ids = requests[1].ids, beams = 4, answers = 4, max_new_tokens = 8, length_norm = norm }
      assert.equal(4, #a.answers)
      assert.equal(a, a.answers[1])
      for k = 2, 4 do
        assert.is_true(a.answers[k].score <= a.answers[k - 1].score)
        assert.not_same(a.answers[k].ids, a.answers[k - 1].ids)
      end
    end
  end)

  it("sums its log-probabilities to its score, and those are the model's", function()
    local answers = m:generate_all(requests, { beams = 3, max_new_tokens = 9, length_penalty = 0 })
    for i, a in ipairs(answers) do
      local sum, ids = 0, {}
      for k, logp in ipairs(a.logps) do
        assert.is_true(math.abs(logp - next_logps(requests[i], ids)[a.ids[k]]) < 1e-4)
        sum, ids = sum + logp, with(ids, a.ids[k])
      end
      if a.reason == "eos" then sum = sum + next_logps(requests[i], ids)[EOS] end
      assert.is_true(math.abs(sum - a.score) < 1e-3)
    end
  end)

  it("has a path's prompt once in memory, however many beams there are", function()
    local long = { 1 }
    for i = 2, 200 do long[i] = 3 + i % 60 end
    local function peak(beams)
      collectgarbage()
      collectgarbage()
      local before = lucid.memory().used
      C.lc_memory_peak_reset()
      m:generate { ids = long, beams = beams, max_new_tokens = 4 }
      return lucid.memory().peak - before
    end
    peak(2)
    assert.is_true(peak(16) < 2 * peak(2))
  end)
end)

describe("an answer", function()
  local request = ending.requests(1, 5)[1]
  local function answer(opt)
    opt.ids, opt.image = request.ids, request.image
    local text, a = m:generate(opt)
    return a, text
  end

  it("ends before a text or a sequence of ids, greedy and in a search", function()
    local whole = answer { max_new_tokens = 12, min_new_tokens = 12 }
    assert.equal("length", whole.reason)
    local stop = { whole.ids[5], whole.ids[6] }
    local a = answer { max_new_tokens = 12, min_new_tokens = 12, stop_ids = { { 71, 71 }, stop } }
    assert.equal("stop", a.reason)
    assert.same({ unpack(whole.ids, 1, 6) }, a.ids)
    assert.equal(m.tokenizer:decode { unpack(whole.ids, 1, 4) }, a.text)
    local piece = whole.text:sub(5, 7)
    a = answer { max_new_tokens = 12, min_new_tokens = 12, stop = { "none of it", piece } }
    assert.same({ "stop", whole.text:sub(1, whole.text:find(piece, 1, true) - 1) }, { a.reason, a.text })
    local last = answer({ beams = 3, max_new_tokens = 12, min_new_tokens = 12 }).ids[2]
    for _, norm in ipairs { "new", "full" } do
      local stopped = 0
      a = answer { beams = 3, answers = 3, max_new_tokens = 12, min_new_tokens = 12, length_norm = norm,
        length_penalty = -2, stop_ids = { { last } } }
      for _, one in ipairs(a.answers) do
        if one.reason == "stop" then
          stopped = stopped + 1
          assert.equal(last, one.ids[#one.ids])
          assert.equal(m.tokenizer:decode { unpack(one.ids, 1, #one.ids - 1) }, one.text)
        end
      end
      assert.is_true(stopped > 0, norm)
    end
    a = answer { beams = 3, max_new_tokens = 12, min_new_tokens = 12, stop = { piece } }
    assert.is_nil(a.text:find(piece, 1, true))
  end)

  it("is told as it grows, but for what a stop takes away", function()
    local whole = answer { max_new_tokens = 12, min_new_tokens = 12 }
    for at = 4, 8 do
      local told, stop = {}, whole.text:sub(at, at + 3)
      local a = answer { max_new_tokens = 12, min_new_tokens = 12, stop = { stop }, on_text = function(i, piece)
        assert.equal(1, i)
        assert.not_equal("", piece)
        told[#told + 1] = piece
      end }
      assert.equal("stop", a.reason)
      assert.equal(a.text, table.concat(told))
      assert.is_true(#told > 1 or #a.text < 4)
    end
    local told = {}
    answer { max_new_tokens = 12, on_text = function(_, piece) told[#told + 1] = piece end }
    assert.equal(answer({ max_new_tokens = 12 }).text, table.concat(told))
  end)

  it("has limits that count what the model's programs count", function()
    local n = #request.ids
    assert.equal(5, #answer({ max_length = n + 5, min_length = n + 5, counted = "prompt" }).ids)
    assert.equal(5, #answer({ max_length = 6, min_length = 6, counted = "bos" }).ids)
    assert.equal(5, #answer({ max_length = n + 5, min_length = n + 5, beams = 2 }).ids)
    assert.equal(3, #answer({ max_length = 100, max_new_tokens = 3, min_new_tokens = 3 }).ids)
    assert.error_matches(function() answer { max_length = n } end, "max_length is %d+, and the prompt counts %d+")
  end)

  it("does not come among the first tokens, whatever ends it", function()
    local own = ending.model(2.5, 1.6)
    own.generation = { eos_token_id = { EOS, 5, 9 } }
    local function lengths(opt)
      local least, reasons = math.huge, {}
      opt.max_new_tokens = 24
      for _, a in ipairs(own:generate_all(ending.requests(12, 3), opt)) do
        if a.reason == "eos" then least = math.min(least, #a.ids) end
        reasons[a.reason] = true
        for _, id in ipairs(a.ids) do assert.is_false(id == EOS or id == 5 or id == 9) end
      end
      return least, reasons
    end
    assert.is_true(lengths {} < 6)
    assert.is_true(lengths { min_new_tokens = 6 } >= 6)
    assert.is_true(lengths { min_new_tokens = 6, beams = 3 } >= 6)
    assert.is_true(lengths { beams = 3, length_norm = "full" } < 6)
  end)

  it("repeats less under a penalty, which counts the prompt or does not", function()
    local function of(counted)
      local lists, opt = {}, { max_new_tokens = 12, repetition_penalty = 5, counted = counted }
      for i, a in ipairs(m:generate_all(ending.requests(8, 2), opt)) do lists[i] = a.ids end
      return lists
    end
    for _, ids in ipairs(of "bos") do
      local seen = {}
      for _, id in ipairs(ids) do
        assert.is_nil(seen[id])
        seen[id] = true
      end
    end
    assert.not_same(of "bos", of "prompt")
    assert.same(of "prompt", of(nil))                 -- a LLaVA's own way
  end)

  it("is sampled several times from one prompt, each time otherwise, again by seed", function()
    local opt = { temperature = 1, answers = 3, max_new_tokens = 8, seed = 4 }
    local a, again = answer(opt), answer(opt)
    assert.equal(3, #a.answers)
    assert.same(a.answers[2].ids, again.answers[2].ids)
    assert.not_same(a.answers[1].ids, a.answers[2].ids)
    opt.answers = 1
    assert.same(a.ids, answer(opt).ids)
  end)

  it("is refused where the settings make no sense", function()
    for pattern, opt in pairs {
      ["length_norm is 'old'; known are full, new"] = { length_norm = "old" }, ["beams is 0"] = { beams = 0 },
      ["does not sample"] = { beams = 2, temperature = 1 }, ["2 answers; greedy there is one"] = { answers = 2 },
      ["3 answers"] = { beams = 2, answers = 3 }, ["temperature is %-1"] = { temperature = -1 },
      ["120 best of a vocabulary of 76"] = { beams = 60 }, ["beams is 1.5"] = { beams = 1.5 },
      ["early_stopping is 'yes'; known are false, never, true"] = { early_stopping = "yes" },
      ["max_new_tokens is 0; a whole number, 1"] = { max_new_tokens = 0 },
    } do
      assert.error_matches(function() answer(opt) end, pattern)
    end
  end)
end)

describe("published settings", function()
  it("are those of every kind's programs, and generate takes them", function()
    local published = lucid.published
    for kind in pairs(published.SETTINGS) do
      for task in published.TASKS:gmatch "%S+" do
        local s = published.settings(kind, task)
        assert.equal("full", s.length_norm)
        s.max_new_tokens, s.max_length = s.max_new_tokens and 4, s.max_length and 40
        assert.is_string((m:generate(setmetatable({ ids = { 1, 5, 6 } }, { __index = s }))))
        m:generate_all({ { ids = { 1, 5, 6 } } }, s)
      end
    end
    assert.error_matches(function() published.settings("llava", "tea") end, "no published settings of llava for 'tea'")
  end)

  it("trim answers to yes/no questions, and leave them as the programs do where that is asked for", function()
    local clean = require("lucid.answer").clean
    for kind, text in pairs { llava = "No</s>", minigpt4 = "No", instructblip = "No" } do
      assert.equal("No", clean(" No\n", lucid.published.settings(kind, "pope").clean, true))
      assert.equal(text, clean(" No", lucid.published.settings(kind, "pope", true).clean, true))
      assert.is_nil(lucid.published.settings(kind, "shr", true).clean)
    end
    local how = lucid.published.settings("minigpt4", "pope", true).clean
    for _, case in ipairs { { "Yes", true, "Ye" }, { "Yes ", true, "Yes" }, { " Yes, it is. ", false, "Yes, it is." },
      { "No", true, "No" }, { "a Assistant: b Assistant:  No", false, "No" }, { "ss</s>", false, "" }, { "", true, "" },
      { "<s>Yes 1 < 2 >", true, "Yes 1 < 2" } } do
      assert.equal(case[3], clean(case[1], how, case[2]))
    end
    assert.equal(" as it is ", clean(" as it is ", nil, true))
    for _, beams in ipairs { 1, 2 } do
      local whole = m:generate { ids = { 1, 5, 6 }, max_new_tokens = 12, min_new_tokens = 12, beams = beams }
      local text = m:generate { ids = { 1, 5, 6 }, max_new_tokens = 12, min_new_tokens = 12, beams = beams,
        clean = { after = whole:sub(3, 3) } }
      assert.equal(clean(whole, { after = whole:sub(3, 3) }, false), text)
      assert.not_equal(whole, text)
    end
  end)

  it("hold where an option was not given", function()
    local words = lucid.generate.OPTIONS
    local function settings(given, kind, task)
      local opt = lucid.args.parse({ common = words .. " seed", published = kind and words }, given)
      return lucid.generate.settings(opt, kind and lucid.published.settings(kind, task))
    end
    local s = settings({ "--beams", "2", "--stop", "x" }, "minigpt4", "shr")
    assert.same({ 2, 300, "full", 1 }, { s.beams, s.max_new_tokens, s.length_norm, s.min_length })
    assert.same({ "x", "###" }, s.stop)
    s = settings({ "--max-length", "40" }, "llava", "shr")
    assert.same({ 40, 5 }, { s.max_length, s.beams })
    assert.is_nil(s.max_new_tokens)
    s = settings({}, "instructblip", "pope")
    assert.same({ 5, 1.5, 256 }, { s.beams, s.repetition_penalty, s.max_length })
    s = settings {}
    assert.same({ 1, 512, "new" }, { s.beams, s.max_new_tokens, s.length_norm })
    assert.is_nil(s.max_length)
  end)

  it("are what shr and pope go by, and their results name them", function()
    local dir = folder.folder()
    tiny.model(dir .. "/model", 3)
    files.write { dir = dir .. "/world", split = "eval", seed = 3, count = 4, seen = 24 }
    local function config(name, options)
      options.model, options.images, options.out, options.quiet = dir .. "/model", dir .. "/world", dir .. "/" .. name, true
      options["max-new-tokens"] = 6
      lucid.recipe.run(name, options)
      return lucid.json.read(("%s/%s/results.json"):format(dir, name)).config
    end
    local c = config("shr", { data = dir .. "/world/shr", json = false })
    assert.same({ 5, "full", 6 }, { c.beams, c["length-norm"], c["max-new-tokens"] })
    c = config("pope", { questions = dir .. "/world/pope/coco_pope_random.json", beams = 2 })
    assert.same({ 2, "full", 6 }, { c.beams, c["length-norm"], c["max-new-tokens"] })
    folder.remove(dir)
  end)
end)
