-- The tiny model's training steps, timed: what peers/torch_tiny.py does, on the same token lists.
--   bin/lucid tests/bench/steps.lua prepare FOLDER          writes the model and the pictures' rows
--   bin/lucid tests/bench/steps.lua run FOLDER [THREADS]    then commands on stdin, a line of JSON each:
--     {"do": "sft", "steps": 8}   supervised steps ("dpo": preference steps): {"seconds": [...], "loss": the first}
local lucid = require "lucid"
local native = require "lucid.native"

local C = native.C
local DATA = native.root .. "tests/bench/data/"
local steps = lucid.json.read(DATA .. "tiny_steps.json")
local command, folder, threads = arg[1], arg[2], tonumber(arg[3] or 2)

-- Each picture's rows before the projector; after it for programs that have only a language model.
local function prepare()
  local m = lucid.model(DATA .. "tiny", { init = true, seed = 1, dtype = "f32" })
  m:save(folder .. "/model")
  local rows, width = m.image_rows, 128
  local vision = lucid.randn({ steps.images, rows, width }, { seed = 2 })
  local after = lucid.no_grad(function()
    return m:project(vision:view(steps.images * rows, width)):view(steps.images, rows, -1)
  end)
  local writer = native.check(C.lc_writer_new(folder .. "/features.safetensors"))
  native.check(C.lc_writer_add(writer, "vision", vision))
  native.check(C.lc_writer_add(writer, "features", after))
  native.check(C.lc_writer_finish(writer))
end

local function open()
  local m = lucid.model(folder .. "/model", { dtype = "f32" })
  local vision = lucid.checkpoint(folder .. "/features.safetensors"):tensor("vision")
  local pictures = {}
  for i = 1, steps.images do
    pictures[i] = vision:slice(1, i, i):view(vision:size(2), vision:size(3))
  end
  return m, pictures
end

local function with_pictures(batches, pictures)
  for _, batch in ipairs(batches) do
    for _, s in ipairs(batch) do s.image = pictures[s.image] end
  end
  return batches
end

local function repeated(batches, compute, optimizer, lr)
  local number = 0
  return function()
    local batch = batches[number % #batches + 1]
    number = number + 1
    local value
    lucid.scope(function()
      local loss = compute(batch)
      value = loss:item()
      loss:backward()
    end)
    optimizer:step(lr)
    return value
  end
end

local MAKE = {
  sft = function()
    local m, pictures = open()
    m:train("language")
    local optimizer = lucid.optim.adamw(m:parameters(),
      { betas = { 0.9, 0.98 }, weight_decay = 0.05, clip = 1 })
    return repeated(with_pictures(steps.sft, pictures), function(batch)
      return (lucid.sft.step(m, batch))
    end, optimizer, 2e-3)
  end,
  dpo = function()
    local m, pictures = open()
    m:lora { rank = 8, alpha = 16 }
    local base = m:base()
    local optimizer = lucid.optim.adamw(m:parameters(), { clip = 1 })
    local settings = { loss = "sigmoid", options = { beta = 0.1 }, kind_weights = { desc = 1, pope = 4 } }
    return repeated(with_pictures(steps.dpo, pictures), function(batch)
      return (lucid.dpo.step(m, base, batch, settings))
    end, optimizer, 4e-4)
  end,
}

local function run()
  lucid.threads(threads)
  io.stdout:setvbuf("line")
  print(lucid.json.encode { ready = "lucid " .. native.version })
  local made = {}
  for line in io.lines() do
    local o = lucid.json.decode(line)
    local kind = o["do"]
    made[kind] = made[kind] or MAKE[kind]()
    local seconds, first = {}, nil
    for i = 1, o.steps do
      local start = C.lc_seconds()
      local loss = made[kind]()
      seconds[i] = C.lc_seconds() - start
      first = first or loss
    end
    print(lucid.json.encode { seconds = seconds, loss = first })
  end
end

if command == "prepare" then prepare() else run() end
