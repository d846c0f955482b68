-- Preference training against TRL, PEFT and PyTorch: tests/golden/dpo, whose script says how the
-- numbers were made: five LoRA DPO steps of a tiny LLaVA.
local lucid = require "lucid"
local native = require "lucid.native"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"

local ROOT = native.root .. "tests/golden/dpo/"

describe("five LoRA DPO steps of a tiny LLaVA", function()
  local want = lucid.json.read(ROOT .. "replay.json")
  local policy = lucid.model(native.root .. "tests/golden/llava_tiny/classic", { dtype = "f32" })
  policy:load_adapter(ROOT .. "adapter-before")
  local reference = policy:base()
  local optimizer = lucid.optim.adamw(policy:parameters(), { betas = want.betas, eps = want.eps,
    weight_decay = want.weight_decay, clip = want.clip })

  local function batch()
    local list = {}
    for i, p in ipairs(want.pairs) do
      local prompt = {}
      for _, id in ipairs(p.before) do prompt[#prompt + 1] = id end
      prompt[#prompt + 1] = lucid.IMAGE
      for _, id in ipairs(p.after) do prompt[#prompt + 1] = id end
      list[i] = { image = ROOT .. p.image, prompt = prompt, chosen = p.chosen,
        rejected = p.rejected }
    end
    return lucid.forest.pairs(list)
  end

  -- By block and layer, however a library roots the names above them.
  local function by_layer(path)
    local c, out = lucid.checkpoint(path), {}
    for _, name in ipairs(c:names()) do
      out[name:match("(layers%..*)$")] = c:tensor(name):tolist()
    end
    return out
  end

  it("has the reference's sums with the adapter off", function()
    lucid.no_grad(function()
      local r = reference:pairs(batch())
      golden.agree(r.chosen, want.ref_chosen, 1e-5, "chosen")
      golden.agree(r.rejected, want.ref_rejected, 1e-5, "rejected")
    end)
  end)

  it("takes the same steps to the same adapter", function()
    for i, step in ipairs(want.steps) do
      lucid.scope(function()
        local f = batch()
        local p = policy:pairs(f)
        local r = lucid.no_grad(reference.pairs, reference, f)
        local loss, stats = lucid.loss.sigmoid(p, r, { beta = want.beta })
        stats.loss = loss:item()
        loss:backward()
        if i == 1 then
          local first = by_layer(ROOT .. "first-gradients.safetensors")
          for _, q in ipairs(policy:parameters()) do
            golden.agree(q.tensor.grad, first[q.name:match("(layers%..*)$")], 1e-4,
              "first gradient of " .. q.name)
          end
        end
        stats.grad_norm = optimizer:step(want.lr)
        -- A reward is a small difference of two sums: what f32 leaves of it is the sums' last digits.
        for name, value in pairs(step) do
          local allowed = 1e-5 * math.max(math.abs(value), name:find("^rewards/") and 10 or 0)
          assert(math.abs(stats[name] - value) <= allowed,
            ("step %d: %s is %.9g, %.9g is expected"):format(i, name, stats[name], value))
        end
      end)
    end

    local out = folder.folder()
    policy:save_adapter(out)
    local got, before = by_layer(out), by_layer(ROOT .. "adapter-before")
    local after, n = by_layer(ROOT .. "adapter-after"), 0
    for name, b in pairs(after) do
      n = n + 1
      golden.agree(got[name], b, 1e-5, name)
      local moved, expected = {}, {}
      for i, row in ipairs(b) do
        moved[i], expected[i] = {}, {}
        for j = 1, #row do
          moved[i][j] = got[name][i][j] - before[name][i][j]
          expected[i][j] = row[j] - before[name][i][j]
        end
      end
      golden.agree(moved, expected, 1e-4, "what moved of " .. name)
    end
    assert.equal(28, n)
    folder.remove(out)
  end)
end)
