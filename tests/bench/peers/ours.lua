-- Our side of peers.sh: a row is opened once, then run as often as it is asked; a line of JSON each.
--   lucid tests/bench/peers/ours.lua
--     {"do": "open", "row": "questions", "folder": ...}   ->   {...}: what the other side takes over
--     {"do": "run"}                                       ->   {"seconds": [...]}, of each call; a step's with "group": "pair"
--     {"do": "peak"}                                      ->   {"bytes": ...}: the most memory that this process had
-- Models have random weights; what both sides read is written into the row's folder.
local decoder = require "lucid.bench.decoder"
local image = require "lucid.image"
local json = require "lucid.json"
local lucid = require "lucid"
local models = require "lucid.bench.models"
local native = require "lucid.native"
local pair_step = require "tests.bench.pair_step"
local pairs_of = require "tests.bench.pairs"
local photos = require "lucid.bench.photos"
local questions = require "lucid.bench.questions"
local timing = require "lucid.bench.timing"

local C = native.C
local RANK = 128
local WARM = 4                   -- tokens behind a prompt that are not timed, as llama.cpp's

-- LLaVA-1.5-7B's widths with so many decoder layers, and as great a part of its tower's.
local function sizes(layers)
  local s = { vision = {}, language = {} }
  for part, of in pairs(models.LLAVA_7B) do
    for name, v in pairs(of) do s[part][name] = v end
  end
  s.language.layers = layers
  s.vision.layers = math.max(1, math.floor(23 * layers / 32 + 0.5)) + 1
  return s
end

local function llava(o)
  models.write(o.folder, sizes(o.layers))
  return lucid.model(o.folder, { init = true, device = "cpu", dtype = "bf16", seed = 1 })
end

-- Each opens a row: work to time, and what the other side is told.
local OPEN = {}

function OPEN.dpo(o)
  local list = pairs_of.read(o.mix, "image", o.images)
  json.write(o.folder .. "/pairs.json", json.array(list))
  local m = llava(o)
  m:lora { rank = RANK, alpha = 2 * RANK }
  local steps = {}
  for _, group in ipairs(o.groups) do
    steps[group] = pair_step.new(m, list, { group = group, tokens_at_once = o.tokens_at_once })
  end
  return steps, { pairs = #list }
end

function OPEN.decode(o)
  local m = llava(o)
  if o.quant then
    m:save(o.folder)
    m = lucid.model(o.folder, { device = "cpu", dtype = "bf16", quant = o.quant })
  end
  local decoding
  return { calls = o.tokens, run = function() decoding.run() end,
    again = function() -- with as many keys as the other side has then
      decoding = nil
      collectgarbage()
      decoding = decoder.decode(m, { leaves = o.answers, prompt = o.prompt, calls = o.tokens, rounds = 1 })
      for _ = 1, WARM do decoding.run() end
    end }, { prompt = o.prompt, tokens = o.tokens }
end

-- The prompts as ids for the other side, which needs no tokenizer then.
function OPEN.questions(o)
  local m = questions.model(o.folder, { device = "cpu", dtype = "bf16", size = function(large) return large end })
  m:save(o.folder)
  local sets, asked, requests = questions.sets(photos.write(o.folder, o.images)), {}, {}
  for _, set in ipairs(sets) do
    for _, q in ipairs(set.questions) do
      asked[#asked + 1] = { image = q.image, ids = m.template:tokens(m.tokenizer, q.text, {}) }
      requests[#requests + 1] = { image = o.folder .. "/" .. q.image, prompt = q.text }
    end
  end
  json.write(o.folder .. "/asked.json", json.array(asked))
  local function trees()
    m:forget_features()
    m:generate_all(requests, { max_new_tokens = questions.MOST, batch = 128, together = true })
  end
  return { run = o.once and function() questions.ask(m, sets, o.folder) end or trees }, { most = questions.MOST }
end

-- One worker decodes, the other does the rest.
function OPEN.pictures(o)
  local paths, names = {}, photos.write(o.folder, o.images)
  for i, name in ipairs(names) do paths[i] = o.folder .. "/" .. name end
  models.write(o.folder, models.LLAVA_7B)
  local process, reader = image.processor(json.read(o.folder .. "/preprocessor_config.json")), image.reader()
  return { run = function()
    reader:ask(paths)
    for _, path in ipairs(paths) do lucid.scope(function() process(reader:take(path)) end) end
  end }, { pictures = json.array(names) }
end

local work
local DO = {}

function DO.open(o)
  lucid.threads(o.threads)
  local told
  work, told = OPEN[o.row](o)
  if work.again then work.again() end
  if o.warm ~= false then timing.seconds(work, work.calls or 1, timing.waiting "cpu") end
  return told
end

function DO.run(o)
  local one, seconds = o.group and work[o.group] or work, {}
  if one.again then one.again() end
  for i = 1, one.calls or 1 do seconds[i] = timing.seconds(one, 1, timing.waiting "cpu") end
  return { seconds = seconds, loss = one.loss }
end

function DO.peak()
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match "^VmHWM:%s*(%d+)"
    if kilobytes then return { bytes = tonumber(kilobytes) * 1024, counted = tonumber(C.lc_memory_peak()) } end
  end
end

io.stdout:setvbuf "line"
print(json.encode { ready = "lucid " .. native.version })
for line in io.lines() do
  local o = json.decode(line)
  local ok, result = pcall(DO[o["do"]], o)
  print(json.encode(ok and result or { error = tostring(result) }))
end
