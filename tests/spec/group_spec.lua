-- However a step's pairs are computed, the step is the same: grouped by picture, pair by pair, without sharing or
-- padded; at once or in parts; a pair that stands there twice once or twice.
local lucid = require "lucid"
local draw = require "lucid.draw"
local microbatch = require "lucid.microbatch"
local native = require "lucid.native"

local ROOT = native.root .. "tests/golden/dpo/"
local GROUPS = { "image", "pair", "none" }

local policy = lucid.model(native.root .. "tests/golden/llava_tiny/classic", { dtype = "f32" })
policy:load_adapter(ROOT .. "adapter-before")
local reference = policy:base()

local VOCABULARY = policy:word_embeddings():size(1)

-- Pictures with questions that begin alike, answers that begin alike, and pairs that stand there twice.
local function batch_of(count)
  local files, list = {}, {}
  for _, name in ipairs(lucid.file.list(ROOT)) do
    if name:find("%.png$") then files[#files + 1] = ROOT .. name end
  end
  local r = lucid.rng(5, "pairs")
  local function ids(n)
    local out = {}
    for i = 1, n do out[i] = 3 + r:integer(VOCABULARY - 4) end
    out[#out + 1] = 2
    return out
  end
  for i = 1, count do
    local prompt = { 1, 10, lucid.IMAGE, 11, 12 + r:integer(2) }
    list[i] = { id = "pair " .. i, kind = i % 3 == 0 and "pope" or "desc", image = files[1 + i % 2], prompt = prompt,
      chosen = ids(r:integer(5)), rejected = ids(r:integer(6)) }
  end
  list[count - 1] = list[1]
  return list
end

-- Every option that a loss needs, and losses with what may be set beside them.
local CASES = {
  sigmoid = {}, hinge = {}, ipo = {}, exo_pair = { label_smoothing = 0.1 }, robust = { label_smoothing = 0.1 },
  discopop = {}, nca_pair = {}, sppo_hard = {}, apo_zero = {}, apo_down = {}, sft = {}, sigmoid_norm = {},
  bco_pair = { bco_shift = "none" }, ["sigmoid:0.8,bco_pair:0.2,sft:1"] = { bco_shift = "none" },
  ["sigmoid,hinge"] = { use_weighting = true, ld_alpha = 0.5, f_divergence_type = "js_divergence" },
}

local function settings_of(name, more)
  local s = { loss = name, options = { beta = 0.3 }, group = "image", gamma = 0.1 }
  for key, value in pairs(CASES[name]) do s.options[key] = value end
  for key, value in pairs(more or {}) do s[key] = value end
  return s
end

-- One step: its numbers and the gradient of every adapter matrix.
local function step(batches, settings, from)
  local steps, stats = lucid.dpo.steps(policy, from or reference, settings), {}
  local parts = steps.split(batches)
  for _, part in ipairs(parts) do
    lucid.scope(function()
      local loss, numbers, share = steps.loss(part)
      share = share or 1 / #parts
      if settings.joint then loss = loss * share end
      loss:backward()
      for key, v in pairs(numbers) do
        stats[key] = (stats[key] or 0) + share * (type(v) == "number" and v or v:item())
      end
    end)
  end
  local gradients = {}
  for _, p in ipairs(policy:parameters()) do
    gradients[p.name] = p.tensor.grad:tolist()
    p.tensor:zero_grad()
  end
  stats.tokens = nil
  return stats, gradients, #parts
end

local function flat(value, out)
  out = out or {}
  if type(value) == "number" then out[#out + 1] = value
  else for _, v in ipairs(value) do flat(v, out) end end
  return out
end

local function distance(a, b)
  a, b = flat(a), flat(b)
  assert.equal(#a, #b)
  local difference, size = 0, 0
  for i = 1, #a do difference, size = difference + (a[i] - b[i]) ^ 2, size + b[i] ^ 2 end
  return math.sqrt(difference) / math.max(math.sqrt(size), 1e-12)
end

local function same(stats, gradients, want, want_gradients, what)
  for key, value in pairs(want) do
    assert.is_true(math.abs(stats[key] - value) <= 1e-5 * math.max(1, math.abs(value)),
      ("%s: %s is %g, not %g"):format(what, key, stats[key], value))
  end
  for name, gradient in pairs(want_gradients) do
    local d = distance(gradients[name], gradient)
    assert.is_true(d <= 1e-5, ("%s: the gradient of %s is %g away"):format(what, name, d))
  end
end

describe("pairs", function()
  it("have the same log-probabilities by picture, by pair, alone and padded", function()
    local list = batch_of(6)
    local longest = 0
    for _, p in ipairs(list) do longest = math.max(longest, #p.prompt + math.max(#p.chosen, #p.rejected)) end
    lucid.no_grad(function()
      local want = policy:pairs(lucid.forest.pairs(list, "image"))
      for _, group in ipairs { "pair", "none" } do
        local got = policy:pairs(lucid.forest.pairs(list, group))
        for _, key in ipairs { "tokens", "chosen", "rejected" } do
          assert.is_true(distance(got[key]:tolist(), want[key]:tolist()) <= 1e-5)
        end
      end
      -- Two sequences a pair, all as long as the longest, and every row's logits: what the usual loop computes.
      local segments, targets, places, row = {}, {}, {}, 0
      for _, p in ipairs(list) do
        for _, answer in ipairs { p.chosen, p.rejected } do
          local ids = { unpack(p.prompt) }
          for i, id in ipairs(answer) do
            ids[#ids + 1] = id
            places[#places + 1], targets[#targets + 1] = row + #p.prompt + policy.image_rows - 1 + i - 2, id
          end
          while #ids < longest do ids[#ids + 1] = 0 end
          segments[#segments + 1] = { tokens = ids, image = p.image }
          row = row + #ids + policy.image_rows - 1
        end
      end
      local logps = policy:logits(lucid.forest(segments)):log_softmax():tolist()
      local padded = {}
      for i, place in ipairs(places) do padded[i] = logps[place + 1][targets[i] + 1] end
      assert.is_true(distance(padded, want.tokens:tolist()) <= 1e-5)
    end)
  end)

  it("share what the group says", function()
    local list, rows = batch_of(8), policy.image_rows
    local function count(group) return lucid.forest.pairs(list, group):count(rows) end
    local image, pair, none = count("image"), count("pair"), count("none")
    local prompt = 4 + rows
    local answers = none.scored
    assert.same({ 2 * 8 * prompt + answers, 8 * prompt + answers }, { none.tokens, pair.tokens })
    -- two pictures under one beginning of two tokens, up to two questions each
    local shared = image.tokens - answers - 2 - 2 * (rows + 1)
    assert.is_true(shared >= 2 and shared <= 4)
    assert.same({ answers, answers }, { pair.scored, image.scored })
    -- the keys that rows see, from the definition
    local seen, ends = 0, {}
    local f = lucid.forest.pairs(list, "image")
    for i, s in ipairs(f.segments) do
      ends[i] = s.parent and ends[s.parent] or 0
      for _, id in ipairs(s.tokens) do
        for _ = 1, id == lucid.IMAGE and rows or 1 do
          ends[i] = ends[i] + 1
          seen = seen + ends[i]
        end
      end
    end
    assert.equal(seen, image.seen)
  end)
end)

describe("pairs of a bridge", function()
  local BRIDGES = native.root .. "tests/golden/bridges/"
  for kind, part in pairs { minigpt4 = "joined", instructblip = "qformer" } do
    it(("of %s are the same in each group, and share what it lets them"):format(kind), function()
      local name = kind == "minigpt4" and kind or part
      local m = lucid.model(BRIDGES .. "language", { vision = BRIDGES .. "tower.pth",
        bridge = BRIDGES .. part .. ".pth" })
      local rows = lucid.checkpoint(BRIDGES .. name .. ".expected.safetensors"):tensor("features")
      local picture = rows:slice(1, 1, 1):contiguous():view(rows:size(2), rows:size(3))
      local list = {}
      for i = 1, 4 do
        list[i] = { id = i, kind = "pope", prompt = { 1, 10, lucid.IMAGE, 11, 12 + i }, chosen = { 20 + i, 2 },
          rejected = { 30, 31, 2 },
          image = { picture = picture, text = kind == "instructblip" and { 5, 6 + i % 2 } or nil } }
      end
      lucid.no_grad(function()
        local want = m:pairs(lucid.forest.pairs(list, "none")).tokens:tolist()
        for _, group in ipairs { "image", "pair" } do
          assert.is_true(distance(m:pairs(lucid.forest.pairs(list, group)).tokens:tolist(), want) <= 1e-5)
        end
      end)
      -- one trunk, or one for each text that the bridge read, behind the ids in front of the picture
      local trunks = kind == "instructblip" and 2 or 1
      local count = lucid.forest.pairs(list, "image"):count(m.image_rows)
      assert.equal(2 + trunks * (m.image_rows + 1) + 4 + count.scored, count.tokens)
      assert.equal(1, #microbatch.split({ list }, { group = "image" }, m.image_rows))
      assert.equal(1, #microbatch.by_picture(list))
    end)
  end
end)

describe("a step of", function()
  local list = batch_of(8)
  for name in pairs(CASES) do
    it(name .. " is the same whatever shares what, at once or in parts", function()
      local want, gradients = step({ list }, settings_of(name, { group = "none" }))
      local function check(what, batches, more, least)
        local got, own, parts = step(batches, settings_of(name, more))
        same(got, own, want, gradients, what)
        assert.is_true(parts >= least, what .. " has parts")
      end
      for _, group in ipairs(GROUPS) do
        check(group, { list }, { group = group }, 1)
        check(group .. " in small parts", { list }, { group = group, tokens_per_step = 30 }, 3)
      end
      local one_by_one = {}
      for i, p in ipairs(list) do one_by_one[i] = { p } end
      check("eight batches", one_by_one, { group = "pair" }, 8)
      check("eight batches of pictures", one_by_one, {}, 7)
    end)
  end

  it("kinds that weigh is the same, too", function()
    local weights = { pope = 4 }
    local want, gradients = step({ list }, settings_of("sigmoid", { group = "none", kind_weights = weights }))
    for _, group in ipairs(GROUPS) do
      local got, own = step({ list }, settings_of("sigmoid", { group = group, kind_weights = weights,
        tokens_per_step = 30 }))
      same(got, own, want, gradients, group)
    end
  end)

  it("a loss that depends on the batch keeps its batches, twofold pairs and all", function()
    local halves = { { unpack(list, 1, 4) }, { unpack(list, 5, 8) } }
    for _, name in ipairs { "aot", "aot_unpaired", "bco_pair" } do
      assert.equal(name, lucid.loss.joint(name, {}))
      assert.equal(name, lucid.loss.joint("sigmoid," .. name, {}))
      local sum = 0
      for _, half in ipairs(halves) do
        local p = lucid.no_grad(policy.pairs, policy, lucid.forest.pairs(half))
        local r = lucid.no_grad(reference.pairs, reference, lucid.forest.pairs(half))
        sum = sum + lucid.loss[name](p, r, { beta = 0.3 }):item() / 2
      end
      local stats, _, parts = step(halves, { loss = name, options = { beta = 0.3 }, group = "image", joint = true })
      assert.equal(2, parts)
      assert.is_near(sum, stats.loss, 1e-5)
    end
    assert.is_nil(lucid.loss.joint("bco_pair", { bco_shift = "none" }))
    assert.equal("sft", lucid.loss.joint("sft", { use_weighting = true }))
    assert.is_nil(lucid.loss.joint("sigmoid,sft", {}))
  end)
end)

describe("a split", function()
  it("computes what stands there twice once, and keeps a picture's pairs together", function()
    local list = batch_of(8)
    local parts = microbatch.split({ list }, { group = "image", tokens_per_step = 1e6 }, policy.image_rows)
    assert.equal(1, #parts)
    assert.equal(7, #parts[1])
    local twice = 0
    for i, n in ipairs(parts[1].counts) do
      if n == 2 then twice = i end
    end
    assert.equal(list[1], parts[1][twice])
    local pictures = 1
    for i = 2, #parts[1] do
      if parts[1][i].image ~= parts[1][i - 1].image then pictures = pictures + 1 end
    end
    assert.equal(2, pictures)
  end)

  it("keeps to the tokens that it is given, unless one pair has more", function()
    local list = batch_of(12)
    for _, group in ipairs(GROUPS) do
      for _, tokens in ipairs { 1, 40, 80, 200 } do
        local total, opt = 0, { group = group, tokens_per_step = tokens }
        for _, part in ipairs(microbatch.split({ list }, opt, policy.image_rows)) do
          local packed = lucid.forest.pairs(part, group):count(policy.image_rows).tokens
          assert.is_true(packed <= tokens or #part == 1)
          total = total + #part
        end
        assert.equal(group == "image" and 11 or 12, total)
      end
    end
  end)
end)

describe("an epoch", function()
  local list = batch_of(30)
  for i, p in ipairs(list) do                     -- no pair twice but by its kind, and more pictures
    list[i] = { id = "pair " .. i, kind = p.kind, image = "picture " .. i % 7, prompt = p.prompt, chosen = p.chosen,
      rejected = p.rejected }
  end

  local function epoch(next_batch, size)
    local seen, drawn, batches = {}, 0, {}
    while drawn < size do
      local batch = next_batch()
      batches[#batches + 1] = batch
      drawn = drawn + #batch
      for _, p in ipairs(batch) do seen[p] = (seen[p] or 0) + 1 end
    end
    assert.equal(size, drawn)
    return seen, batches
  end

  it("is the same pairs in each order, round after round", function()
    for _, group in ipairs(GROUPS) do
      local next_batch, size = draw.pairs(list, { seed = 3, batch = 8, group = group, repeats = { desc = 2 } })
      assert.equal(50, size)
      for _ = 1, 3 do
        local seen = epoch(next_batch, size)
        for _, p in ipairs(list) do assert.equal(p.kind == "desc" and 2 or 1, seen[p]) end
      end
    end
  end)

  it("is as many steps, and another order for another seed", function()
    local function ids(seed)
      local next_batch, size = draw.pairs(list, { seed = seed, batch = 8, group = "image" })
      local _, batches = epoch(next_batch, size)
      assert.equal(4, #batches)
      local out = {}
      for _, batch in ipairs(batches) do
        for _, p in ipairs(batch) do out[#out + 1] = p.id end
      end
      return table.concat(out, " ")
    end
    assert.equal(ids(1), ids(1))
    assert.not_equal(ids(1), ids(2))
  end)

  it("has the same steps, however many batches make one", function()
    for _, group in ipairs(GROUPS) do
      local function drawn_steps(batch, accumulate)
        local next_batch, lines = draw.pairs(list, { seed = 4, batch = batch, accumulate = accumulate, group = group }), {}
        for k = 1, 12 do                          -- three epochs of 30 pairs: 8, 8, 8, 6
          local ids, most = {}, 0
          for _ = 1, accumulate do
            local part = next_batch() or {}
            most = math.max(most, #part)
            for _, p in ipairs(part) do ids[#ids + 1] = p.id end
          end
          assert.is_true(most <= batch and #ids == (k % 4 == 0 and 6 or 8))
          lines[k] = table.concat(ids, " ")
        end
        return lines
      end
      local whole = drawn_steps(8, 1)
      assert.same(whole, drawn_steps(4, 2))
      assert.same(whole, drawn_steps(1, 8))
    end
  end)

  it("by picture keeps what fits together", function()
    local few = {}
    for i = 1, 24 do
      few[i] = { id = i, kind = "desc", image = "picture " .. math.ceil(i / 3), prompt = { 1, 2 }, chosen = { 2 },
        rejected = { 2 } }
    end
    local next_batch = draw.pairs(few, { seed = 1, batch = 6, group = "image" })
    for _ = 1, 4 do
      local of = {}
      for _, p in ipairs(next_batch()) do of[p.image] = (of[p.image] or 0) + 1 end
      for _, n in pairs(of) do assert.equal(3, n) end
    end
  end)
end)
