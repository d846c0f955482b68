-- Decoding over the cache against teacher forcing: greedy answers of prompts that share a trunk have the
-- log-probabilities of one pass over each whole path, equal prompts have equal answers, and company changes no bit.
--   lucid tests/gpu/decode.lua SEED [small]
local arrays = require "tests.oracle.arrays"
local ffi = require "ffi"
local golden = require "tests.support.golden"
local lucid = require "lucid"
local models = require "tests.gpu.models"
local native = require "lucid.native"

local C = native.C
local seed, small = tonumber(arg[1]), arg[2] == "small"
local STEPS, TRUNK = small and 6 or 64, small and 20 or 700
local TOLERANCE = { f32 = 2e-5, bf16 = 3e-2, f16 = 4e-3 }
local random = arrays.random(seed)

local function ids(n, before)
  local list = {}
  for i, id in ipairs(before or {}) do list[i] = id end
  for _ = 1, n do list[#list + 1] = random(3, 300) end
  return list
end

-- Greedy answers of prompts: { ids = {}, logps = {} } each.
local function generate(m, prompts)
  local sequences, answers = {}, {}
  for i, prompt in ipairs(prompts) do
    sequences[i], answers[i] = { ids = prompt, score_from = #prompt + 1 }, { ids = {}, logps = {} }
  end
  local b = m:batch(lucid.forest.of(sequences))
  local g = ffi.gc(native.check(C.lc_generator_new(m.handle, b, STEPS, 1)), C.lc_generator_free)
  local n = C.lc_generator_leaves(g)
  local chosen, logps = ffi.new("int32_t[?]", n), ffi.new("float[?]", n)
  for _ = 1, STEPS do
    native.check(C.lc_generator_step(g, chosen, logps))
    for i, answer in ipairs(answers) do
      table.insert(answer.ids, chosen[i - 1])
      table.insert(answer.logps, tonumber(logps[i - 1]))
    end
  end
  return answers
end

local function same(a, b, what)
  for i = 1, STEPS do
    if a.ids[i] ~= b.ids[i] or a.logps[i] ~= b.logps[i] then
      error(("%s: token %d is %d at %.9g and %d at %.9g"):format(what, i, a.ids[i], a.logps[i], b.ids[i],
        b.logps[i]), 0)
    end
  end
end

local worst = 0
for _, dtype in ipairs { "bf16", "f16", "f32" } do
  lucid.scope(lucid.no_grad, function()
    local m = models.new(models.SMALL, { dtype = dtype, seed = seed })
    local trunk = ids(TRUNK)
    local question = ids(9, trunk)
    local prompts = { question, ids(30, trunk), ids(1, trunk), question, ids(5) }
    local answers = generate(m, prompts)
    same(answers[1], answers[4], dtype .. ", one prompt twice")
    same(answers[2], generate(m, { prompts[2] })[1], dtype .. ", alone and in company")
    local whole, logps = {}, {}
    for i, prompt in ipairs(prompts) do
      local path = ids(0, prompt)
      for k, id in ipairs(answers[i].ids) do
        path[#path + 1] = id
        logps[#logps + 1] = answers[i].logps[k]
      end
      whole[i] = { ids = path, score_from = #prompt + 1 }
    end
    local far = golden.distance(logps, (m:token_logps(lucid.forest.of(whole))))
    if far > TOLERANCE[dtype] then
      error(("%s: decoding is %.3g away from one pass over the whole"):format(dtype, far), 0)
    end
    worst = math.max(worst, far / TOLERANCE[dtype])
  end)
end
print(("%d tokens of 5 prompts, as one pass over the whole says: %.2f of what is allowed"):format(STEPS, worst))
