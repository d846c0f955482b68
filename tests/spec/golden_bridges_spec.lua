-- MiniGPT-4 and InstructBLIP against PyTorch's numbers: tests/golden/bridges, whose script says how they
-- were made. Forward to 1e-4 in f32 and 2e-2 in bf16, the gradients of a preference loss to 1e-3.
local lucid = require "lucid"
local native = require "lucid.native"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"

local C = native.C
local ROOT = native.root .. "tests/golden/bridges/"

local function part(name) return ROOT .. name .. ".safetensors" end

-- How each model is opened, what it is, and what its expectations are called.
local CASES = {
  { name = "minigpt4", kind = "minigpt4", dir = ROOT .. "language",
    parts = { vision = part "tower", bridge = part "joined" } },
}

local function open(case, dtype)
  return lucid.model(case.dir, { dtype = dtype, vision = case.parts.vision, bridge = case.parts.bridge })
end

-- The tower's rows of all pictures: [N, rows, W].
local function tower(m, tensors)
  return native.adopt(C.lc_model_vision(m.handle, tensors:tensor("pixels")))
end

local function row(t, i)
  local size = t:shape()
  return t:slice(1, i, i):contiguous():view(size[2], size[3])
end

-- The pairs about each picture as lucid.forest.pairs takes them.
local function pairs_of(want, features)
  local list = {}
  for i, p in ipairs(want.pairs) do
    local prompt = {}
    for _, id in ipairs(p.before) do prompt[#prompt + 1] = id end
    prompt[#prompt + 1] = lucid.IMAGE
    for _, id in ipairs(p.after) do prompt[#prompt + 1] = id end
    list[i] = { image = { picture = row(features, i), text = p.text }, prompt = prompt,
      chosen = p.chosen, rejected = p.rejected }
  end
  return list
end

local function logits(m, pair)
  local ids = {}
  for _, list in ipairs { pair.prompt, pair.chosen } do
    for _, id in ipairs(list) do ids[#ids + 1] = id end
  end
  return m:logits(lucid.forest { { tokens = ids, image = pair.image } })
end

for _, case in ipairs(CASES) do
  describe("golden " .. case.name, function()
    local want = lucid.json.read(ROOT .. case.name .. ".expected.json")
    local tensors = lucid.checkpoint(ROOT .. case.name .. ".expected.safetensors")

    local function check_forward(dtype, tolerance)
      lucid.no_grad(function()
        local m = open(case, dtype)
        assert.equal(case.kind, m.kind)
        local features = tower(m, tensors)
        golden.agree(features, tensors:tensor("features"), tolerance, "features")
        assert.equal(tensors:shape("rows")[2], m.image_rows)
        for i, pair in ipairs(pairs_of(want, features)) do
          local rows = m:project(row(features, i), want.pairs[i].text)
          golden.agree(rows, row(tensors:tensor("rows"), i), tolerance, "rows of picture " .. i)
          golden.agree(logits(m, pair), tensors:tensor("logits." .. i), tolerance, "logits " .. i)
        end
      end)
    end

    it("sees, joins and reads as PyTorch does, in f32", function() check_forward("f32", 1e-4) end)
    it("and in bf16", function() check_forward("bf16", 2e-2) end)

    it("has PyTorch's preference loss and its gradient by every adapter", function()
      local m = open(case, "f32")
      m:lora { rank = want.rank, alpha = want.alpha, targets = want.targets }
      local trained = m:parameters()
      for _, p in ipairs(trained) do p.tensor:copy(tensors:tensor("lora." .. p.name)) end
      assert.equal(2 * 2 * #want.targets, #trained)
      local features = lucid.no_grad(tower, m, tensors)
      local f = lucid.forest.pairs(pairs_of(want, features))
      local reference = lucid.no_grad(m.pairs, m:base(), f)
      local policy = m:pairs(f)
      for i = 1, 2 do
        golden.agree({ reference.chosen:tolist()[i], reference.rejected:tolist()[i] },
          want.reference[i], 1e-4, "reference " .. i)
        golden.agree({ policy.chosen:tolist()[i], policy.rejected:tolist()[i] },
          want.policy[i], 1e-4, "policy " .. i)
      end
      local loss = native.adopt(C.lc_dpo_loss(policy.chosen, policy.rejected, reference.chosen,
        reference.rejected, want.beta))
      golden.agree({ loss:item() }, { want.loss }, 1e-4, "loss")
      loss:backward()
      for _, p in ipairs(trained) do
        golden.agree(p.tensor.grad, tensors:tensor("grad." .. p.name), 1e-3, p.name)
      end
    end)
  end)
end

describe("weights of parts", function()
  local dir
  setup(function() dir = folder.folder() end)
  teardown(function() folder.remove(dir) end)

  -- A copy of a file with some tensors changed; nil for one that is left out.
  local function changed(name, change)
    local from, tensors, path = lucid.checkpoint(part(name)), {}, dir .. "/" .. name .. ".safetensors"
    for _, n in ipairs(from:names()) do tensors[n] = from:tensor(n) end
    change(tensors)
    lucid.checkpoint.save(path, tensors)
    return path
  end

  local function refusal(vision, bridge)
    local worked, reason = pcall(lucid.model, ROOT .. "language", { vision = vision, bridge = bridge })
    assert.is_false(worked)
    return tostring(reason)
  end

  it("that are missing, misshapen or too many are listed by name", function()
    local vision = changed("tower", function(t)
      t["blocks.1.attn.q_bias"] = nil
      t["blocks.1.norm2.weight"] = lucid.zeros { 33 }
      t["blocks.0.attn.k_bias"] = lucid.zeros { 32 }
    end)
    local bridge = changed("joined", function(t) t["llama_proj.bias"] = lucid.zeros { 41 } end)
    local reason = refusal(vision, bridge)
    for _, what in ipairs { "tower.safetensors: the weights do not fit the model: ",
      "blocks.1.attn.q_bias (missing)", "blocks.1.norm2.weight (f32 [33], expected [32])",
      "blocks.0.attn.k_bias (not part of this model)", "; ", "joined.safetensors: ",
      "llama_proj.bias (f32 [41], expected [40])" } do
      assert.truthy(reason:find(what, 1, true), what .. "\n" .. reason)
    end
    assert.is_nil(reason:find("norm2.weight (not part", 1, true))
  end)

  it("are asked for when a language model stands alone", function()
    assert.truthy(refusal(nil, nil):find("neither llama_proj.weight", 1, true))
    assert.truthy(refusal(part "tower", part "tower"):find("tower.safetensors: it holds neither", 1, true))
    assert.truthy(refusal(part "tower", dir .. "/none"):find("/none", 1, true))
  end)

  it("make one folder when the model is saved", function()
    local whole = lucid.model(ROOT .. "language", { vision = part "tower", bridge = part "joined" })
    whole:save(dir .. "/whole")
    local again = lucid.model(dir .. "/whole")
    assert.equal("minigpt4", again.kind)
    local tensors = lucid.checkpoint(ROOT .. "minigpt4.expected.safetensors")
    assert.same(tower(whole, tensors):tolist(), tower(again, tensors):tolist())
  end)
end)
