-- The LLaVA graph against transformers' own numbers: tests/golden/llava_tiny, whose script says how
-- they were made. In f32 forward to 1e-5, gradients to 1e-4, greedy answers to the token; forward to
-- 2e-2 in bf16 and 2e-3 in f16.
local lucid = require "lucid"
local native = require "lucid.native"
local golden = require "tests.support.golden"

local C = native.C
local ROOT = native.root .. "tests/golden/llava_tiny/"
local ZERO = 1e-4     -- softmax cancels a key's bias: what is left of its gradient is rounding
local PICTURE = ROOT .. "picture.png"

local function joined(...)
  local out = {}
  for _, list in ipairs { ... } do
    for _, id in ipairs(list) do out[#out + 1] = id end
  end
  return out
end

-- The tower with its gradients; m:features is outside the tape.
local function tower(m)
  local s = m.size
  local pixels = m.processor(lucid.image.load(PICTURE)):view(1, 3, s, s)
  local out = native.adopt(C.lc_model_vision(m.handle, pixels))
  return out:view(out:size(2), out:size(3))
end

for _, case in ipairs { "classic", "rerooted" } do
  describe("golden LLaVA, " .. case, function()
    local dir = ROOT .. case
    local want = lucid.json.read(dir .. "/expected.json")
    local tensors = lucid.checkpoint(dir .. "/expected.safetensors")
    local prompt = joined(want.before, { lucid.IMAGE }, want.after)
    local ids = joined(prompt, want.answer)
    local m = lucid.model(dir, { dtype = "f32" })

    local function scored(picture)
      return lucid.forest.of { { image = picture, ids = ids, score_from = #prompt + 1 } }
    end

    it("turns the picture into transformers' pixels", function()
      local pixels = m.processor(lucid.image.load(PICTURE))
      golden.agree(pixels, tensors:tensor("pixel_values"), 1e-6, "pixels")
    end)

    it("sees the tower's and the projector's rows", function()
      lucid.no_grad(function()
        assert.equal(want.rows, m.image_rows)
        local features = m:features(PICTURE)
        golden.agree(features, tensors:tensor("vision"), 1e-5, "tower")
        golden.agree(m:project(features), tensors:tensor("image_rows"), 1e-5, "projector")
      end)
    end)

    it("gives the logits of every position", function()
      lucid.no_grad(function()
        local logits = m:logits(lucid.forest { { tokens = ids, image = PICTURE } })
        assert.equal(#want.input_ids, logits:size(1))
        golden.agree(logits, tensors:tensor("logits"), 1e-5, "logits")
      end)
    end)

    for dtype, tolerance in pairs { bf16 = 2e-2, f16 = 2e-3 } do
      it("sees and reads nearly the same in " .. dtype, function()
        lucid.no_grad(function()
          local half = lucid.model(dir, { dtype = dtype })
          local features = half:features(PICTURE)
          assert.equal(dtype, features:dtype())
          golden.agree(features, tensors:tensor("vision"), tolerance, "tower")
          golden.agree(half:project(features), tensors:tensor("image_rows"), tolerance, "projector")
          local logits = half:logits(lucid.forest { { tokens = ids, image = PICTURE } })
          golden.agree(logits, tensors:tensor("logits"), tolerance, "logits")
        end)
      end)
    end

    it("gives the answer's log-probabilities, token by token and summed", function()
      lucid.no_grad(function()
        local logps, first = m:token_logps(scored(PICTURE))
        assert.same({ 1, #want.answer + 1 }, first)
        golden.agree(logps, tensors:tensor("token_logps"), 1e-5, "token logps")
        golden.agree(m:logps(scored(PICTURE)), { want.logp }, 1e-5, "logp")
      end)
    end)

    it("continues the prompt greedily as transformers does", function()
      local _, answer = m:generate { image = PICTURE, ids = prompt, max_new_tokens = #want.greedy }
      assert.same(want.greedy, answer.ids)
      assert.equal("length", answer.reason)
    end)

    it("has PyTorch's gradient by every parameter", function()
      for _, part in ipairs { "vision", "projector", "language" } do m:train(part, true) end
      lucid.scope(function()
        m:logps(scored(tower(m))):sum():backward()
      end)
      local seen = 0
      for _, p in ipairs(m:all_parameters()) do
        local norm = want.grad_norms[p.name]
        if norm then
          seen = seen + 1
          local grad = assert(p.tensor.grad, p.name .. " has no gradient")
          local square = 0
          for _, g in ipairs(grad:view(-1):tolist()) do square = square + g * g end
          if norm < ZERO then
            assert(math.sqrt(square) < ZERO, p.name .. " has a gradient, but should have none")
          else
            golden.agree({ math.sqrt(square) }, { norm }, 1e-4, "norm of " .. p.name)
            if case == "classic" then
              golden.agree(grad, tensors:tensor("grad." .. p.name), 1e-4, p.name)
            end
          end
        else
          assert.is_nil(p.tensor.grad, p.name .. " has a gradient, but nothing depends on it")
        end
        p.tensor:zero_grad()
      end
      local all = 0
      for _ in pairs(want.grad_norms) do all = all + 1 end
      assert.equal(all, seen)
    end)
  end)
end
