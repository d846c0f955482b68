-- A language model and an adapter in the files of their time: tests/golden/era, written by transformers 4.31
-- and PEFT 0.4, and what these compute. Forward to 1e-4 in f32 and 2e-2 in bf16, gradients to 1e-3.
local lucid = require "lucid"
local native = require "lucid.native"
local golden = require "tests.support.golden"

local C = native.C
local ROOT = native.root .. "tests/golden/"
local HERE = ROOT .. "era/"

local want = lucid.json.read(HERE .. "expected.json")
local tensors = lucid.checkpoint(HERE .. "expected.safetensors")
local seen = lucid.checkpoint(ROOT .. "bridges/minigpt4.expected.safetensors"):tensor("features")

local function open(dtype)
  return lucid.model(HERE .. "language", { dtype = dtype, adapter = HERE .. "adapter",
    vision = ROOT .. "bridges/tower.pth", bridge = ROOT .. "bridges/joined.pth" })
end

local function joined(...)
  local out = {}
  for _, list in ipairs { ... } do
    for _, id in ipairs(list) do out[#out + 1] = id end
  end
  return out
end

-- The pairs about each picture as lucid.forest.pairs takes them.
local function pairs_of(m)
  local list, size = {}, seen:shape()
  for i, p in ipairs(want.pairs) do
    local features = seen:slice(1, i, i):contiguous():view(size[2], size[3]):to(m:word_embeddings():dtype())
    list[i] = { image = features, prompt = joined(p.before, { lucid.IMAGE }, p.after),
      chosen = p.chosen, rejected = p.rejected }
  end
  return list
end

describe("files of transformers 4.31 and PEFT 0.4", function()
  for dtype, tolerance in pairs { f32 = 1e-4, bf16 = 2e-2 } do
    it("give the logits of their time in " .. dtype .. ", with the adapter and without", function()
      lucid.no_grad(function()
        local m = open(dtype)
        for i, pair in ipairs(pairs_of(m)) do
          local f = lucid.forest { { tokens = joined(pair.prompt, pair.chosen), image = pair.image } }
          golden.agree(m:base():logits(f), tensors:tensor("base." .. i), tolerance, "base " .. i)
          golden.agree(m:logits(f), tensors:tensor("adapter." .. i), tolerance, "adapter " .. i)
        end
      end)
    end)
  end

  it("give the gradient of a preference loss by every tensor of the adapter", function()
    local m = open "f32"
    local f = lucid.forest.pairs(pairs_of(m))
    local reference = lucid.no_grad(m.pairs, m:base(), f)
    local policy = m:pairs(f)
    local loss = native.adopt(C.lc_dpo_loss(policy.chosen, policy.rejected, reference.chosen,
      reference.rejected, want.beta))
    golden.agree({ loss:item() }, { want.loss }, 1e-4, "loss")
    loss:backward()
    local trained = m:parameters()
    assert.equal(12, #trained)
    for _, p in ipairs(trained) do
      golden.agree(p.tensor.grad, tensors:tensor("grad.base_model.model." .. p.name), 1e-3, p.name)
    end
  end)
end)
