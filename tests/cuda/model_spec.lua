-- Whole models on the device: what the host computes, the device computes, too.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"
local json = require "lucid.json"
local lucid = require "lucid"
local native = require "lucid.native"
local tiny = require "tests.support.tiny"
local training = require "tests.support.training"

local C = native.C
local DIR = native.root .. "tests/golden/llava_tiny/classic"
local PAIRS = {
  { prompt = { 1, 5, 9 }, chosen = { 30, 31, 32, 2 }, rejected = { 40, 2 } },
  { prompt = { 1, 6 }, chosen = { 33, 2 }, rejected = { 33, 44, 45, 2 } },
}

describe("a model on the device", function()
  it("is where it was asked to be, and its memory is the weights'", function()
    local before = tonumber(C.lc_device_memory("weights"))
    local m = lucid.model(DIR, { dtype = "f32", device = "cuda" })
    assert.equal("cuda:0", m.device)
    local bytes = 0
    for _, p in ipairs(m:all_parameters()) do
      assert.equal("cuda:0", p.tensor:device())
      bytes = bytes + 4 * p.tensor:count()
    end
    assert.is_true(tonumber(C.lc_device_memory("weights")) - before >= bytes)
  end)

  it("gives the host's log-probabilities and gradients, in f32 and in 16 bits", function()
    for dtype, most in pairs { f32 = { 1e-5, 1e-4 }, bf16 = { 1e-2, 5e-2 } } do
      local found = {}
      for _, device in ipairs { "cpu", "cuda" } do
        local m = lucid.model(DIR, { dtype = dtype, device = device })
        m:lora { rank = 4, alpha = 8, seed = 1 }
        for _, p in ipairs(m:parameters()) do
          p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = #p.name }) * 0.05)
        end
        local loss = lucid.dpo.step(m, m:base(), PAIRS, { loss = "sigmoid" })
        loss:backward()
        local slopes = {}
        for i, p in ipairs(m:parameters()) do slopes[i] = p.tensor.grad:to("cpu"):tolist() end
        found[device] = { m:logps(lucid.forest.pairs(PAIRS)), slopes, loss:item() }
      end
      golden.agree(found.cuda[1], found.cpu[1], most[1], dtype .. " log-probabilities")
      golden.agree(found.cuda[2], found.cpu[2], most[2], dtype .. " gradients")
    end
  end)

  it("answers as the host does, greedily and by beams", function()
    local dir = folder.folder()
    tiny.model(dir, 3)
    local picture = tiny.pictures(dir, 1)[1]
    for _, more in ipairs { {}, { beams = 2 } } do
      local text = {}
      for _, device in ipairs { "cpu", "cuda" } do
        local request = { image = picture, prompt = "What is there?", max_new_tokens = 5 }
        for name, value in pairs(more) do request[name] = value end
        text[device] = lucid.model(dir, { dtype = "f32", device = device }):generate(request)
      end
      assert.equal(text.cpu, text.cuda)
    end
    folder.remove(dir)
  end)

  it("is quantised as on the host", function()
    local found = {}
    for _, device in ipairs { "cpu", "cuda" } do
      found[device] = lucid.model(DIR, { dtype = "f32", device = device, quant = "nf4" }):logps(lucid.forest.pairs(PAIRS))
    end
    golden.agree(found.cuda, found.cpu, 1e-5, "log-probabilities")
  end)
end)

describe("a run on the device", function()
  it("waits for the device as often as is written: the policy's and the reference's log-probabilities of each part, and the norm", function()
    local dir, m = folder.folder(), lucid.model(DIR, { dtype = "f32", device = "cuda" })
    m:lora { rank = 4, alpha = 8, seed = 1 }
    local work = lucid.dpo.steps(m, m:base(), { loss = "sigmoid", group = "pair", gamma = 0.5 })
    local waits = {}
    require "lucid.train".run { model = m, out = dir, steps = 3, lr = 1e-3, accumulate = 2, quiet = true,
      split = work.split, loss = work.loss,
      draw = function(_, part)
        if part == 1 then waits[#waits + 1] = tonumber(C.lc_device_count "waits") end
        return PAIRS
      end }
    assert.equal(2 * 2 + 1, waits[3] - waits[2])
    folder.remove(dir)
  end)

  it("logs what it logs on the host, and its adapter can be read anywhere", function()
    local dir = folder.folder()
    training.world(dir)
    local logs, answers = {}, {}
    for _, device in ipairs { "cpu", "cuda" } do
      local out = dir .. "/" .. device
      local words = training.llava(dir, out, "--quiet --device " .. device):gsub("%-%-steps 6", "--steps 2")
      assert.equal(0, training.run(words, dir), file.read(dir .. "/stderr"))
      logs[device] = training.log_of(out)
      answers[device] = lucid.model(dir .. "/model", { dtype = "f32", device = "cpu", adapter = out })
        :logps(lucid.forest.pairs(PAIRS))
    end
    assert.equal(2, #logs.cuda)
    for i, line in ipairs(logs.cpu) do
      for _, name in ipairs { "loss", "grad_norm", "logps/chosen", "ref_logps/rejected" } do
        assert.is_near(line[name], logs.cuda[i][name], 1e-4 * math.max(1, math.abs(line[name])), name)
      end
    end
    golden.agree(answers.cuda, answers.cpu, 1e-4, "answers of the adapters")
    folder.remove(dir)
  end)

  it("has its products timed where a run asks for that, and keeps what was chosen with the checkpoint", function()
    local dir = folder.folder()
    training.world(dir)
    local products = {}
    for _, how in ipairs { "--no-tune", "--tune" } do
      local out = dir .. "/" .. how
      local words = training.llava(dir, out, "--quiet --device cuda --dtype bf16 " .. how):gsub("%-%-steps 6", "--steps 1")
      assert.equal(0, training.run(words, dir, "LUCID_CUBLASLT_SLOW=1"), file.read(dir .. "/stderr"))
      products[how] = json.decode(file.read(out .. "/checkpoint-1/trainer_state.json")).products
    end
    assert.truthy(products["--tune"]:find "\n")
    assert.not_equal(products["--no-tune"], products["--tune"])
    folder.remove(dir)
  end)
end)
