-- Writes tiny_steps.json: the token lists of four supervised and four preference batches, in
-- the tiny world's own words, as the demo draws them. All programs train on these.
--   bin/lucid tests/bench/data/make.lua
local lucid = require "lucid"
local file = require "lucid.file"
local native = require "lucid.native"
local captions = require "lucid.tinyworld.captions"
local prompt = require "lucid.prompt"
local rng = require "lucid.rng"
local world = require "lucid.tinyworld.world"

local C = native.C
local HERE = native.root .. "tests/bench/data/"
local BATCHES, SEED = 4, 1
local WORDS_FROM = 400            -- pictures whose texts the tokenizer is trained on

-- ---- the tokenizer ------------------------------------------------------------------------------

local function train_tokenizer(folder)
  local lines, words, seen = {}, {}, {}
  for i = 1, WORDS_FROM do
    local scene = world.scene(world.rng(SEED, "sft", "scene", i), 0.75)
    local r = world.rng(SEED, "sft", "caption", i)
    lines[#lines + 1] = "USER: " .. captions.INSTRUCTIONS[i % 4 + 1] .. " ASSISTANT: "
      .. captions.describe(scene, r)
    for _, q in ipairs(captions.questions(scene, r, 6)) do
      lines[#lines + 1] = q.question .. " " .. q.answer
    end
  end
  for _, line in ipairs(lines) do
    for word in line:gmatch("%a+") do
      if not seen[word] then words[#words + 1], seen[word] = word, true end
    end
  end
  file.write(folder .. "/corpus.txt", table.concat(lines, "\n") .. "\n")
  table.sort(words)
  return lucid.tokenizer.train(folder .. "/corpus.txt", folder .. "/tokenizer.model",
    { pieces = 512, words = words })
end

-- ---- batches ------------------------------------------------------------------------------------

local tk, template                 -- set below
local pictures = 0                 -- so far

local function ids_of(text)
  local ids = tk:encode(text)
  ids[#ids + 1] = tk.eos
  return ids
end

local function sequence(picture, kind, question, answer)
  local ids = template:tokens(tk, question, { train = true })
  local from = #ids + 1
  for _, id in ipairs(ids_of(answer)) do ids[#ids + 1] = id end
  return { image = picture, kind = kind, ids = lucid.json.array(ids), score_from = from }
end

-- Eight pictures, each with its description and its six questions.
local function supervised(number)
  local batch = lucid.json.array {}
  for i = 1, 8 do
    local index = (number - 1) * 8 + i
    pictures = pictures + 1
    local scene = world.scene(world.rng(SEED, "sft", "scene", index), 0.75)
    local r = world.rng(SEED, "sft", "caption", index)
    local instruction = captions.INSTRUCTIONS[r:integer(#captions.INSTRUCTIONS)]
    batch[#batch + 1] = sequence(pictures, "desc", instruction,
      (captions.describe(scene, r, { biased = true })))
    for _, q in ipairs(captions.questions(scene, r, 6, { biased = true })) do
      batch[#batch + 1] = sequence(pictures, "pope", q.question, q.answer)
    end
  end
  return batch
end

local function pair(picture, kind, question, chosen, rejected)
  return { image = picture, kind = kind,
    prompt = lucid.json.array(template:tokens(tk, question, { train = true })),
    chosen = lucid.json.array(ids_of(chosen)), rejected = lucid.json.array(ids_of(rejected)) }
end

-- A description with made-up partners beside the true one, in the same style.
local function description_pair(picture, scene, r)
  local style = r:integer(2)
  local chosen = captions.describe(scene, r, { style = style })
  local rejected
  repeat
    rejected = captions.describe(scene, r, { style = style, biased = true })
  until rejected ~= chosen
  local instruction = captions.INSTRUCTIONS[r:integer(#captions.INSTRUCTIONS)]
  return pair(picture, "desc", instruction, chosen, rejected)
end

-- A trigger without its partner: what a habitual annotator gets wrong.
local function tempting(scene)
  local present = {}
  for _, o in ipairs(scene.objects) do present[o.name] = true end
  for _, o in ipairs(scene.objects) do
    if world.PARTNER[o.name] and not present[world.PARTNER[o.name]] then return true end
  end
end

-- 16 description pairs and 64 yes/no pairs of 500 pictures, each with four questions, drawn at random.
local function preferences(number)
  local r = rng(SEED, number)
  local batch, of = lucid.json.array {}, {}
  local function draw(wanted)
    while true do
      local index = r:integer(500)
      local scene = world.scene(world.rng(SEED, "wild", "scene", index), 0.3)
      if not wanted or wanted(scene) then
        if not of[index] then
          pictures = pictures + 1
          of[index] = pictures
        end
        return of[index], scene
      end
    end
  end
  for _ = 1, 16 do
    local picture, scene = draw(tempting)
    batch[#batch + 1] = description_pair(picture, scene, r)
  end
  for _ = 1, 64 do
    local picture, scene = draw()
    local q = captions.questions(scene, r, 1)[1]
    batch[#batch + 1] = pair(picture, "pope", q.question, captions.answer(q.name, q.yes),
      captions.answer(q.name, not q.yes))
  end
  return batch
end

-- ---- the file -----------------------------------------------------------------------------------

local folder = os.tmpname()
os.remove(folder)
native.check(C.lc_make_folder(folder))
tk = train_tokenizer(folder)
for _, name in ipairs { "corpus.txt", "tokenizer.model" } do os.remove(folder .. "/" .. name) end
native.check(C.lc_remove(folder))
template = prompt.template("tiny_v1")

local out = { sft = lucid.json.array {}, dpo = lucid.json.array {} }
for i = 1, BATCHES do out.sft[i] = supervised(i) end
for i = 1, BATCHES do out.dpo[i] = preferences(i) end
out.images = pictures
lucid.json.write(HERE .. "tiny_steps.json", out)

local function mean(list, length)
  local sum = 0
  for _, x in ipairs(list) do sum = sum + length(x) end
  return sum / #list
end
print(("%d pictures; tokens without the picture's: %.1f a supervised sequence, %.1f a prompt, "
  .. "%.1f a chosen answer"):format(pictures, mean(out.sft[1], function(s) return #s.ids - 1 end),
  mean(out.dpo[1], function(p) return #p.prompt - 1 end),
  mean(out.dpo[1], function(p) return #p.chosen end)))
