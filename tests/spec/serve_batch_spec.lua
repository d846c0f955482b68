-- Answers that grow together: each is what it is alone, whoever joins and leaves, and pictures run once.
local lucid = require "lucid"
local adapted = require "tests.support.adapted"
local Batch = require "lucid.serve.batch"
local folder = require "tests.support.folder"
local rng = require "lucid.rng"
local trunks = require "lucid.serve.trunks"

local QUESTIONS = { "Is there a car in the image?", "Describe this image in detail.", "What is red?" }
local dir, m, pictures

setup(function() dir, m, pictures = adapted(4) end)
teardown(function() folder.remove(dir) end)

local function item(model, picture, question, settings, more)
  local made = { ids = model.template:tokens(model.tokenizer, question, { image = picture ~= nil }),
    image = picture and model:features(picture), key = picture, settings = settings, say = function() end }
  for name, value in pairs(more or {}) do made[name] = value end
  return made
end

local function alone(model, picture, question, settings)
  local request = { image = picture, prompt = question }
  for name, value in pairs(settings) do request[name] = value end
  local _, a = model:generate(request)
  return a
end

local function same(want, sequence)
  local got = sequence.answer:answer()
  assert.same({ want.text, want.ids, want.logps, want.score, want.reason },
    { got.text, got.ids, got.logps, got.score, got.reason })
end

-- Random sequences that come and go; half of them leave early.
local function crowd(model, batch, seed, check)
  local draw, list, gone = rng.new(seed), {}, 0
  local function pick(n) return draw:integer(n) end
  for round = 1, 40 do
    for _ = 1, round <= 20 and pick(4) - 1 or 0 do
      local picture, question = pictures[pick(5)], QUESTIONS[pick(3)]
      local settings = { max_new_tokens = pick(30), temperature = pick(2) - 1, top_p = pick(2) == 1 and 0.9 or 1, seed = #list }
      list[#list + 1] = { batch:join(item(model, picture, question, settings)), picture, question, settings }
    end
    local one = list[pick(math.max(#list, 1))]
    if one and pick(3) == 1 and not one[1].answer.reason then
      batch:leave(one[1])
      one.left, gone = true, gone + 1
    elseif one then
      batch:rest(one[1], pick(2) == 1 and round < 30)
    end
    batch:step()
  end
  for _, one in ipairs(list) do batch:rest(one[1], false) end
  while batch.count > 0 do batch:step() end
  assert.is_true(#list > 20 and gone > 3)
  for _, one in ipairs(list) do
    if not one.left then check(alone(model, one[2], one[3], one[4]), one[1]) end
  end
end

describe("answers that grow together", function()
  it("are what they are alone, with the adapter and without", function()
    for seed, model in ipairs { m, m:base() } do crowd(model, Batch.new(model, { trunk_budget = 2 ^ 20 }), seed, same) end
    assert.not_equal(alone(m, nil, QUESTIONS[1], {}).score, alone(m:base(), nil, QUESTIONS[1], {}).score)
  end)

  it("are so where every trunk is let go at once", function()
    local batch = Batch.new(m, { trunk_budget = 0 })
    crowd(m, batch, 3, same)
    assert.equal(1, batch.trunks.count)
  end)

  it("are so beside an answer that stops, and one that asks for more than there is room", function()
    local batch = Batch.new(m, { trunk_budget = 2 ^ 20 })
    local stop = alone(m, nil, QUESTIONS[1], { max_new_tokens = 12 }).text:sub(4, 6)
    local list = {}
    for i, settings in ipairs { { max_new_tokens = 12, stop = { stop } }, { max_new_tokens = 2000 }, { max_new_tokens = 12 } } do
      list[i] = { batch:join(item(m, nil, QUESTIONS[1], settings)), settings }
    end
    while batch.count > 0 do batch:step() end
    for _, one in ipairs(list) do same(alone(m, nil, QUESTIONS[1], one[2]), one[1]) end
    assert.equal("stop", list[1][1].answer.reason)
  end)

  it("run a picture once", function()
    local batch = Batch.new(m, { trunk_budget = 2 ^ 20 })
    for i = 1, 12 do batch:join(item(m, pictures[i % 3 + 1], QUESTIONS[i % 2 + 1], { max_new_tokens = 3 })) end
    assert.same({ 3, 9 }, { batch.trunks.misses, batch.trunks.hits })
    while batch.count > 0 do batch:step() end
    assert.equal(3, batch.trunks.count)
    batch:join(item(m, pictures[1], "What is blue?", { max_new_tokens = 3 }))
    assert.equal(10, batch.trunks.hits)
  end)

  it("hold no more memory with time", function()
    local batch = Batch.new(m, { trunk_budget = 2 ^ 18 })
    local function work(rounds)
      for i = 1, rounds do
        for k = 1, 8 do
          batch:join(item(m, pictures[(i + k) % 4 + 1], QUESTIONS[k % 3 + 1], { max_new_tokens = 4 + k }))
        end
        while batch.count > 0 do batch:step() end
      end
      collectgarbage()
      collectgarbage()
      return lucid.memory().used
    end
    work(10)
    local before = work(5)
    assert.is_true(work(30) <= before + 64 * 1024)
  end)

  it("tell the likeliest tokens of each place", function()
    local batch = Batch.new(m, { trunk_budget = 2 ^ 20 })
    local sequence = batch:join(item(m, pictures[1], QUESTIONS[1], { max_new_tokens = 5 }, { top = 3 }))
    while batch.count > 0 do batch:step() end
    local a = alone(m, pictures[1], QUESTIONS[1], { max_new_tokens = 5 })
    for i, token in ipairs(sequence.tokens) do
      assert.same({ a.ids[i], a.logps[i], 3, a.ids[i], a.logps[i] },
        { token.id, token.logp, #token.top, token.top[1].id, token.top[1].logp })
      assert.is_true(token.top[1].logp >= token.top[2].logp and token.top[2].logp >= token.top[3].logp)
    end
    assert.equal(#a.ids, #sequence.tokens)
  end)

  it("begin anew after a failure", function()
    local batch = Batch.new(m, { trunk_budget = 2 ^ 20 })
    batch:join(item(m, pictures[1], QUESTIONS[1], { max_new_tokens = 5 }))
    batch:step()
    batch:reset()
    assert.same({ 0, 0 }, { batch.count, batch.trunks.count })
    local sequence = batch:join(item(m, pictures[1], QUESTIONS[1], { max_new_tokens = 5 }))
    while batch.count > 0 do batch:step() end
    same(alone(m, pictures[1], QUESTIONS[1], { max_new_tokens = 5 }), sequence)
  end)
end)

describe("trunks", function()
  it("go in the order of their last use, when they hold too much", function()
    local dropped, made = {}, 0
    local set = trunks.new(10, function(leaf) dropped[#dropped + 1] = leaf end)
    local function get(key)
      return set:get(key, function()
        made = made + 1
        return made, 4
      end)
    end
    assert.same({ 1, 2, 1, 3 }, { get "a", get "b", get "a", get "c" })
    assert.same({ 2 }, dropped)
    assert.same({ true, false, true, 8, 2 }, { set.kept.a ~= nil, set.kept.b ~= nil, set.kept.c ~= nil, set.bytes, set.count })
    assert.same({ 4, 3 }, { get "b", get "c" })
    assert.same({ 2, 1 }, dropped)
  end)
end)
