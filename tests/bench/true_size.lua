-- LLaVA-1.5-7B at its true size: what decoding costs, beside the bandwidth of memory.
--   bin/lucid tests/bench/true_size.lua make LAYOUT FOLDER [DTYPE] [sparse]
--   bin/lucid tests/bench/true_size.lua measure FOLDER DTYPE PICTURE [THREADS]
-- true_size.sh does both. Bandwidth is that of summing the same weights: of a file that is used where it is
-- mapped all of them; beside a converted model the first two gigabytes, for no more has room.
local decoder = require "lucid.bench.decoder"
local ffi = require "ffi"
local lucid = require "lucid"
local native = require "lucid.native"
local published = require "tests.support.published"
local weights = require "tests.support.weights"

local C = native.C
local TOKENS, ROUNDS = 20, 5
local BESIDE = 2 ^ 31
local SIZES = { ["llava-hf"] = published.LLAVA_7B, llava = published.LLAVA_7B,
  instructblip = published.VICUNA_13B, ["instructblip-hf"] = published.VICUNA_13B }

local function make(layout, folder, dtype, sparse)
  local sizes = SIZES[layout] or error("there is no layout " .. tostring(layout), 0)
  weights.write(folder, published[layout](sizes), { dtype = dtype or "f16", sparse = sparse == "sparse" })
end

-- The most memory that was in use at once, in bytes: the kernel's own count, mapped pages included.
local function high_water()
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match "^VmHWM:%s*(%d+) kB"
    if kilobytes then return tonumber(kilobytes) * 1024 end
  end
end

local function say(text, ...) print(text:format(...)) io.stdout:flush() end

local function timed(f)
  local start = C.lc_seconds()
  local result = f()
  return C.lc_seconds() - start, result
end

-- A function that sums the folder's weights (or the first BESIDE bytes of them) and gives bytes a second.
local function summer(folder, most)
  local weights_there, list, all, total = lucid.checkpoint(folder), {}, 0, ffi.new "uint64_t[1]"
  for _, name in ipairs(weights_there:names()) do
    if all < most then
      list[#list + 1] = weights_there:tensor(name):keep()
      all = all + weights_there:bytes(name)
    end
  end
  return function()
    local seconds = timed(function()
      for _, t in ipairs(list) do native.check(C.lc_bandwidth_read(t, total)) end
    end)
    return all / seconds
  end
end

local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

local function measure(folder, dtype, picture, threads)
  lucid.threads(tonumber(threads or 2))
  local seconds, m = timed(function() return lucid.model(folder, { dtype = dtype }) end)
  say("opened in %.1f s, VmHWM %.2f GB", seconds, high_water() / 1e9)
  local ids = m.template:tokens(m.tokenizer, "Describe this image in detail.", {})
  local features = native.no_grad(function() return m:features(picture):keep() end)
  seconds = timed(function() native.no_grad(function() m:features(lucid.image.load(picture)) end) end)
  say("picture %.2f s", seconds)
  local b = m:batch(lucid.forest.of { { image = features, ids = ids, score_from = #ids + 1 } })
  local generator
  seconds, generator = timed(function()
    return ffi.gc(native.check(C.lc_generator_new(m.handle, b, TOKENS * ROUNDS + ROUNDS, 0)), C.lc_generator_free)
  end)
  local prompt = #ids - 1 + m.image_rows
  say("prompt of %d tokens %.1f s, %.1f tokens/s", prompt, seconds, prompt / seconds)

  local chosen = ffi.new "int32_t[1]"
  local function token()
    return timed(function() native.check(C.lc_generator_step(generator, chosen, nil)) end)
  end
  token() -- from the prompt's own logits
  local sum, best, all, quickest = nil, 0, {}, math.huge
  for round = 1, ROUNDS do
    local times = {}
    for i = 1, TOKENS do
      times[i] = token()
      all[#all + 1] = times[i]
    end
    if round == 1 then
      say("%d tokens are answered: VmHWM %.2f GB", TOKENS, high_water() / 1e9)
      local mapped = lucid.inspect(folder).dtypes[1].dtype:lower() == dtype
      sum = summer(folder, mapped and math.huge or BESIDE)
      sum() -- its pages are known from here on
    end
    local bandwidth = sum()
    best = math.max(best, bandwidth)
    quickest = math.min(quickest, median(times))
    say("round %d: %.1f ms a token (%.1f to %.1f), sums at %.2f GB/s", round, median(times) * 1e3, times[1] * 1e3,
      times[#times] * 1e3, bandwidth / 1e9)
  end
  local bytes, seconds_each = decoder.weights(m), median(all)
  say("decode: %.3f GB of weights a token, median %.1f ms = %.2f tokens/s = %.2f GB/s", bytes / 1e9,
    seconds_each * 1e3, 1 / seconds_each, bytes / seconds_each / 1e9)
  -- Like with like: others' use of the memory slows whole rounds, of tokens and of sums.
  say("bandwidth %.2f GB/s (best of %d): the best round's median %.1f %% of it, all tokens' median %.1f %%, the fastest token %.1f %%",
    best / 1e9, ROUNDS, 100 * bytes / quickest / best, 100 * bytes / seconds_each / best, 100 * bytes / all[1] / best)
end

local commands = { make = make, measure = measure }
local run = commands[arg[1]] or error("make or measure?", 0)
run(unpack(arg, 2))
