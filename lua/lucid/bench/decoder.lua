-- Rows of the bench: decoding, reading a prompt and a DPO step, on a few layers of LLaVA-1.5-7B's widths.
local ffi = require "ffi"
local dpo = require "lucid.dpo"
local flops = require "lucid.flops"
local forest = require "lucid.forest"
local models = require "lucid.bench.models"
local native = require "lucid.native"
local optim = require "lucid.optim"
local tensor = require "lucid.tensor"

local C = native.C
local M = {}

local PROMPT, QUESTION, ANSWER, TOKENS = 625, 25, 175, 8       -- tokens; TOKENS: of every leaf in a round
local BATCHES = { 1, 8, 32 }
local PACKED, PACKED_BATCHES = { "q8_0", "nf4" }, { 1, 8 }     -- on the CPU, which has products with packed weights
local BYTES = { f32 = 4, bf16 = 2, f16 = 2 }
local RANK = 128

local function ids(n, first)
  local list = {}
  for i = 1, n do list[i] = 3 + (first + i) % 250 end
  return list
end

-- Batches of prompts that begin alike, as questions about one picture do.
local function prompts(n, length)
  local list = {}
  for i = 1, n do
    local own = ids(length, 0)
    own[length] = 3 + i
    list[i] = { ids = own, score_from = length + 1 }
  end
  return forest.of(list)
end

--- Weights that every token reads, in bytes: all of the decoder but the table of words.
---@param model lucid.Model
---@return number
function M.weights(model)
  local bytes = 0
  for _, p in ipairs(model:all_parameters()) do
    if p.part == "language" and not p.name:find "embed_tokens" then bytes = bytes + p.tensor:bytes() end
  end
  return bytes
end

--- A generator over prompts, freed by the collector or by its function close.
local function generator(model, f, room)
  local g = ffi.gc(native.check(C.lc_generator_new(model.handle, model:batch(f), room, 0)), C.lc_generator_free)
  return g, function() C.lc_generator_free(ffi.gc(g, nil)) end
end

--- Decoding without adapters, a token a leaf and call.
---@param model lucid.Model
---@param o { leaves: integer, prompt: integer, calls: integer, rounds: integer }
---@return lucid.Work
function M.decode(model, o)
  local g = generator(model, prompts(o.leaves, o.prompt), o.calls * (o.rounds + 2))
  local chosen, shape = ffi.new("int32_t[?]", C.lc_generator_leaves(g)), flops.shape(model)
  -- Keys and values of the common prompt are read once, those that a leaf has made by the leaf.
  local keys = o.prompt + o.leaves * o.calls * (o.rounds + 2) / 2
  return { calls = o.calls, tokens = o.leaves,
    bytes = M.weights(model) + 2 * BYTES[model.dtype] * shape.layers * shape.keys * keys,
    run = function()
      if native.check(C.lc_generator_step(g, chosen, nil)) == 0 then error("decoding: no round is left to time", 0) end
    end }
end

--- Reading a prompt into the cache.
local function prefill(model, length)
  local f = prompts(1, length)
  local count = f:count(model.image_rows)
  return { flops = flops.forward(flops.shape(model), { tokens = count.tokens, seen = count.seen, scored = 1 }, false),
    tokens = length, run = function()
      local _, close = generator(model, f, 1)
      close()
    end }
end

-- One step on one pair with a picture, reference included.
local function step(model, o)
  local vision, side = models.LAYERS_OF_7B.vision, model.size / models.LAYERS_OF_7B.vision.patch
  local picture = tensor.randn({ side * side, o.size(vision.width, 32) }, { seed = 1, device = o.device, dtype = o.dtype })
  local prompt = ids(o.size(QUESTION, 3) + 36, 0)
  prompt[36] = forest.IMAGE
  local pair = { id = 1, kind = "desc", image = picture, prompt = prompt, chosen = ids(o.size(ANSWER, 4), 7),
    rejected = ids(o.size(ANSWER, 4), 11) }
  model:lora { rank = o.size(RANK, 4), alpha = 2 * o.size(RANK, 4) }
  local optimizer = optim.adamw(model:parameters(), { clip = 1 })
  local settings, base = { loss = "sigmoid", options = { beta = 0.1 }, group = "pair" }, model:base()
  local shape, count = flops.shape(model), forest.pairs({ pair }, "pair"):count(model.image_rows)
  return { tokens = count.tokens, flops = flops.forward(shape, count, true) + flops.backward(shape, count)
    + flops.forward(shape, count, false) + 2 * shape.bridge, run = function()
    dpo.step(model, base, { pair }, settings):backward()
    optimizer:step(1e-6)
  end }
end

--- Times the decoder's rows: a prompt, an answer, a preference pair's step.
---@param add fun(row: lucid.BenchRow)
---@param o lucid.BenchOptions
function M.rows(add, o)
  local sizes, opened = o.size(models.LAYERS_OF_7B, models.TINY), {}
  local function model(quant)
    local key = quant or "plain"
    opened[key] = opened[key] or models.new(sizes, { device = o.device, dtype = o.dtype, seed = 1, quant = quant })
    return opened[key]
  end
  local what = ("%d layers of width %d, %s, random weights"):format(sizes.language.layers, sizes.language.width, o.dtype)
  local function decoding(n, quant)
    local about = ("decoding, %d %s, %s"):format(n, n == 1 and "row" or "rows", what)
    add { group = "decode", about = quant and about .. ", packed as " .. quant or about,
      limit = o.device == "cpu" and "read" or "copy", unit = "tokens", make = function()
        return M.decode(model(quant), { leaves = n, prompt = o.size(PROMPT, 20), calls = o.size(TOKENS, 2), rounds = o.rounds })
      end }
  end
  for _, n in ipairs(BATCHES) do decoding(n) end
  for _, quant in ipairs(o.device == "cpu" and PACKED or {}) do
    for _, n in ipairs(PACKED_BATCHES) do decoding(n, quant) end
  end
  add { group = "prefill", about = ("a prompt of %d tokens, %s"):format(o.size(PROMPT, 20), what), limit = o.dtype,
    unit = "tokens", make = function() return prefill(model(), o.size(PROMPT, 20)) end }
  add { group = "dpo", about = "DPO step of one pair by LoRA, reference live, " .. what, limit = o.dtype, unit = "tokens",
    make = function() return step(model(), o) end }
end

return M
