-- Twenty steps of preference training against TRL, PEFT and PyTorch: tests/golden/steps, whose script says how the
-- numbers were made.
local lucid = require "lucid"
local native = require "lucid.native"
local golden = require "tests.support.golden"

local HERE, DPO = native.root .. "tests/golden/steps/", native.root .. "tests/golden/dpo/"
local want = lucid.json.read(HERE .. "steps.json")

local function encoded_pairs()
  local list = {}
  for i, p in ipairs(lucid.json.read(DPO .. "replay.json").pairs) do
    local prompt = {}
    for _, id in ipairs(p.before) do prompt[#prompt + 1] = id end
    prompt[#prompt + 1] = lucid.IMAGE
    for _, id in ipairs(p.after) do prompt[#prompt + 1] = id end
    list[i] = { kind = "desc", image = DPO .. p.image, prompt = prompt, chosen = p.chosen, rejected = p.rejected }
  end
  return list
end

-- By block and layer, however a library roots the names above them.
local function layer(name) return name:match("(layers%..*)$") end

-- What a logged number may be away.
local function allowed(name, value)
  if name:find("^rewards/") then return 1e-3 end
  return (name == "grad_norm" and 1e-3 or 1e-4) * math.abs(value)
end

describe("twenty LoRA steps of a tiny LLaVA", function()
  for _, name in ipairs { "sigmoid", "ipo", "hinge" } do
    it("with " .. name .. " log what TRL logs, and move the adapter as TRL does", function()
      local policy = lucid.model(native.root .. "tests/golden/llava_tiny/classic", { dtype = "f32" })
      policy:load_adapter(DPO .. "adapter-before")
      local reference, pairs_of, before = policy:base(), encoded_pairs(), {}
      for _, p in ipairs(policy:parameters()) do before[p.name] = p.tensor:tolist() end
      local optimizer = lucid.optim.adamw(policy:parameters(), { betas = want.betas, eps = want.eps, clip = want.clip })
      for i, step in ipairs(want.losses[name].steps) do
        lucid.scope(function()
          local batch = { pairs_of[(i - 1) % 3 + 1], pairs_of[i % 3 + 1] }
          local loss, stats = lucid.dpo.step(policy, reference, batch, { loss = name, options = { beta = want.beta } })
          loss:backward()
          stats.loss, stats.grad_norm = loss:item(), optimizer:step(want.lr)
          for key, value in pairs(step) do
            assert(math.abs(stats[key] - value) <= allowed(key, value),
              ("step %d: %s is %.9g, %.9g is expected"):format(i, key, stats[key], value))
          end
        end)
      end

      local moved = lucid.checkpoint(HERE .. "adapter-" .. name .. ".safetensors")
      local expected = {}
      for _, key in ipairs(moved:names()) do expected[layer(key)] = moved:tensor(key) end
      local got, all = {}, {}
      for i, p in ipairs(policy:parameters()) do
        got[i] = (p.tensor:detach():to("cpu") - lucid.tensor(before[p.name])):tolist()
        all[i] = expected[layer(p.name)]:tolist()
      end
      assert.equal(28, #got)
      golden.agree(got, all, 1e-4, "what moved")
    end)
  end
end)
