-- Adapters on the device lie around their weights (ops/border.h): the results are the host's, whatever has an adapter,
-- and the products are as few as they should be.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"
local lucid = require "lucid"
local models = require "lucid.bench.models"
local native = require "lucid.native"
local BIN = require "tests.support.program"

local C = native.C
local GROUPED = native.root .. "tests/golden/llava_tiny/classic"     -- two query heads share a key head
local SIZES = { vision = { width = 32, mlp = 64, layers = 1, heads = 2, size = 28, patch = 14 },
  language = { width = 64, mlp = 96, layers = 2, heads = 2, words = 76, positions = 256 } }
local PAIRS = {
  { prompt = { 1, 5, 9 }, chosen = { 30, 31, 32, 2 }, rejected = { 40, 2 } },
  { prompt = { 1, 6 }, chosen = { 33, 2 }, rejected = { 33, 44, 45, 2 } },
}

local function open(kind, device, dtype)
  if kind == "grouped" then return lucid.model(GROUPED, { dtype = dtype, device = device }) end
  local own = kind == "alike"
  local m = models.new(SIZES, { dtype = own and dtype or "f32", device = own and device or "cpu", seed = 3 })
  if own then return m end
  local dir = folder.folder()                   -- packed weights are those of a file
  models.write(dir, SIZES)
  m:save(dir)
  m = lucid.model(dir, { dtype = dtype, device = device, quant = kind })
  folder.remove(dir)
  return m
end

-- Adapters that change something, the same on every device.
local function adapt(m, o)
  m:lora { rank = o.rank, alpha = 2 * o.rank, targets = o.targets, seed = 1 }
  for _, p in ipairs(m:parameters()) do
    p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = #p.name, device = p.tensor:device() }) * 0.05)
  end
  return m
end

local function loss_of(m) return lucid.dpo.step(m, m:base(), PAIRS, { loss = "sigmoid" }) end

-- Gradients of two micro-batches, and the log-probabilities with the adapters on and off.
local function results(m)
  for _ = 1, 2 do lucid.scope(function() loss_of(m):backward() end) end
  local slopes = {}
  for i, p in ipairs(m:parameters()) do slopes[i] = p.tensor.grad and p.tensor.grad:to("cpu"):tolist() or 0 end
  local f = lucid.forest.pairs(PAIRS)
  return { slopes = slopes, on = m:logps(f), off = m:base():logps(f) }
end

local function agree(o)
  local found = {}
  for _, device in ipairs { "cpu", "cuda" } do
    local m = adapt(open(o.kind, device, o.dtype), o)
    if o.recompute then m:recompute() end
    if o.beside then m:train_beside(o.beside) end
    found[device] = results(m)
  end
  local most = o.dtype == "f32" and { 1e-5, 1e-4 } or { 1e-2, 6e-2 }
  golden.agree(found.cuda.on, found.cpu.on, most[1], "log-probabilities, adapters on")
  golden.agree(found.cuda.off, found.cpu.off, most[1], "log-probabilities, adapters off")
  golden.agree(found.cuda.slopes, found.cpu.slopes, most[2], "gradients")
end

describe("adapters on the device give the host's log-probabilities and gradients", function()
  for name, o in pairs {
    ["of all linears, of one size"] = { kind = "alike", dtype = "bf16", rank = 8 },
    ["of all linears, in f32"] = { kind = "alike", dtype = "f32", rank = 8 },
    ["of all linears, of grouped heads, whose ranks fill no pack"] = { kind = "grouped", dtype = "bf16", rank = 3 },
    ["of some linears of a group"] = { kind = "alike", dtype = "bf16", rank = 4, targets = "q_proj,v_proj,up_proj" },
    ["of one linear"] = { kind = "grouped", dtype = "f32", rank = 5, targets = "k_proj" },
    ["of blocks that are recomputed"] = { kind = "alike", dtype = "bf16", rank = 8, recompute = true },
    ["of packed weights"] = { kind = "q8_0", dtype = "bf16", rank = 8 },
    ["of packed weights of 4 bits, in f32, whose ranks fill no pack"] = { kind = "nf4", dtype = "f32", rank = 3 },
    ["of some linears of a packed group, recomputed"] = { kind = "fp4", dtype = "bf16", rank = 4, targets = "k_proj,gate_proj",
      recompute = true },
    ["beside a weight that is trained, too"] = { kind = "alike", dtype = "f32", rank = 8, beside = "layers%.1%..*k_proj%.weight" },
  } do it(name, function() agree(o) end) end
end)

describe("an adapter on the device", function()
  it("changes no bit while its B is zero, and none of the base when it is off", function()
    for _, dtype in ipairs { "bf16", "f16", "f32" } do
      for _, kind in ipairs { "alike", "grouped", "nf4" } do
        local m, f = open(kind, "cuda", dtype), lucid.forest.pairs(PAIRS)
        m:lora { rank = 3, alpha = 6, seed = 1 }
        local off = m:base():logps(f):tolist()
        assert.same(off, m:logps(f):tolist())
        for _, p in ipairs(m:parameters()) do
          p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = 2, device = "cuda" }))
        end
        assert.same(off, m:base():logps(f):tolist())
        assert.not_same(off, m:logps(f):tolist())
      end
    end
  end)

  it("leaves the weights that are read, saved and copied as they were, and their memory but for its own", function()
    collectgarbage() -- of earlier models
    collectgarbage()
    local m = open("alike", "cuda", "bf16")
    local name, before = "layers%.1%..*(%a+_proj)%.weight$", {}
    for _, p in ipairs(m:all_parameters()) do before[p.name] = p.tensor:to("cpu"):tolist() end
    local held = tonumber(C.lc_device_memory("weights"))
    m:lora { rank = 8, alpha = 16, seed = 1 }
    local count = 0
    for _, p in ipairs(m:all_parameters()) do
      if before[p.name] then
        assert.same(before[p.name], p.tensor:to("cpu"):tolist(), p.name)
        count = count + (p.name:find(name) and 1 or 0)
      end
    end
    assert.equal(7, count)
    -- Borders of two blocks: 24, 8, 16 and 8 columns and rows beside their groups.
    local borders = 0
    for _, g in ipairs { { 192, 64, 24 }, { 64, 64, 8 }, { 192, 64, 16 }, { 64, 96, 8 } } do
      borders = borders + 2 * 2 * ((g[1] + g[3]) * (g[2] + g[3]) - g[1] * g[2])
    end
    local more = tonumber(C.lc_device_memory("weights")) - held
    assert.is_true(math.abs(more - borders) < 2 * 7 * 512, more .. " bytes for " .. borders) -- blocks are of 512 bytes
  end)

  for _, kind in ipairs { "alike", "q8_0" } do it("is followed when it is written, stepped or loaded: " .. kind, function()
    local m = adapt(open(kind, "cuda", "f32"), { rank = 4 })
    local f, seen = lucid.forest.pairs(PAIRS), {}
    local function changed()
      local now = table.concat(m:logps(f):tolist(), " ")
      for _, old in ipairs(seen) do assert.not_equal(old, now) end
      seen[#seen + 1] = now
    end
    changed()
    local adamw = lucid.optim.adamw(m:parameters(), {})
    for _ = 1, 2 do
      lucid.scope(function() loss_of(m):backward() end)
      adamw:step(1e-2)
      changed()
    end
    for _, p in ipairs(m:parameters()) do
      if p.name:find("lora_B") then p.tensor:copy(lucid.randn(p.tensor:shape(), { seed = 8, device = "cuda" })) end
    end
    changed()
  end) end

  it("leaves packed weights packed, and nothing expanded behind", function()
    collectgarbage()
    collectgarbage()
    local m, f = open("nf4", "cuda", "bf16"), lucid.forest.pairs(PAIRS)
    local held, room = tonumber(C.lc_device_memory("weights")), tonumber(C.lc_device_memory("workspace"))
    m:lora { rank = 8, alpha = 16, seed = 1 }
    lucid.scope(function() m:pairs(f).tokens:sum():backward() end)
    assert.equal(held, tonumber(C.lc_device_memory("weights")))
    -- What one expanded weight and its border take, or what earlier work has made of it.
    assert.is_true(tonumber(C.lc_device_memory("workspace")) <= math.max(room, 2 * 72 * 72))
  end)

  it("gives a row the same bits in any company", function()
    local m = adapt(open("alike", "cuda", "bf16"), { rank = 8 })
    local prompt, long = { 1, 5, 9 }, {}
    for i = 1, 40 do long[i] = 3 + i end
    local one = { { prompt = prompt, chosen = long, rejected = { 40, 2 } } }
    local two = { one[1], { prompt = { 1, 6 }, chosen = { 33, 2 }, rejected = long } }
    local alone, beside = m:logps(lucid.forest.pairs(one)):tolist(), m:logps(lucid.forest.pairs(two)):tolist()
    for i = 1, #alone do assert.equal(alone[i], beside[i]) end
  end)
end)

describe("the products of a block", function()
  local recording = os.getenv("LUCID_CUBLASLT") or ""
  if recording == "" then return end

  -- What a process multiplies in a step of a model with that many blocks: { [m n k batch] = times }, and all of it.
  local function products(layers, chunk)
    local dir = folder.folder()
    file.write(dir .. "/step.lua", ([[
      local lucid, models = require "lucid", require "lucid.bench.models"
      local sizes = { vision = { width = 32, mlp = 64, layers = 1, heads = 2, size = 28, patch = 14 },
        language = { width = 64, mlp = 96, layers = %d, heads = 2, words = 76, positions = 256 } }
      local m = models.new(sizes, { dtype = "bf16", seed = 3, device = "cuda" })
      m:lora { rank = 8, alpha = 16, seed = 1 }
      local long = {}
      for i = 1, 20 do long[i] = 3 + i end
      local f = lucid.forest.pairs { { prompt = { 1, 5, 9 }, chosen = long, rejected = long } }
      %s]]):format(layers, chunk))
    local command = ("LUCID_CUBLASLT_LOG=%s/log %s %s/step.lua 2>&1"):format(dir, BIN, dir)
    local p = io.popen(command .. "; echo $?")
    local out = p:read("*a")
    p:close()
    assert.equal("0\n", out)
    local count, all = {}, 0
    for line in io.lines(dir .. "/log") do
      local what = line:match("^%d+ %d+ %d+ %d+")
      count[what], all = (count[what] or 0) + 1, all + 1
    end
    folder.remove(dir)
    return count, all
  end

  -- Of a block in the middle: a step with three blocks less one with two.
  local function of_a_block(chunk)
    local three, all = products(3, chunk)
    local two, fewer = products(2, chunk)
    local list = {}
    for what, n in pairs(three) do
      local more = n - (two[what] or 0)
      if more > 0 then list[#list + 1] = more == 1 and what or what .. " x" .. more end
    end
    table.sort(list)
    return list, all - fewer
  end

  it("are twenty-four: of each group two forward and four back, and none of them adds to an activation", function()
    local list, count = of_a_block("m:pairs(f).tokens:sum():backward()")
    assert.equal(24, count)
    local rows = 3 + 20 + 20
    local wanted = {}
    for _, line in ipairs {
      -- q, k and v: U, Y, V, dX, dA, dB
      "R 24 64 1", "R 192 88 1", "R 8 64 3", "R 64 216 1", "24 64 R 1", "64 8 R 3",
      "R 8 64 1", "R 64 72 1", "R 8 64 1", "R 64 72 1", "8 64 R 1", "64 8 R 1",               -- o
      "R 16 64 1", "R 192 80 1", "R 8 96 2", "R 64 208 1", "16 64 R 1", "96 8 R 2",           -- gate and up
      "R 8 96 1", "R 64 104 1", "R 8 64 1", "R 96 72 1", "8 96 R 1", "64 8 R 1",              -- down
    } do
      local what = line:gsub("R", rows)
      wanted[what] = (wanted[what] or 0) + 1
    end
    local sorted = {}
    for what, n in pairs(wanted) do sorted[#sorted + 1] = n == 1 and what or what .. " x" .. n end
    table.sort(sorted)
    assert.same(sorted, list)
  end)

  it("are four where the adapters are off", function()
    local list, count = of_a_block("lucid.no_grad(function() m:base():pairs(f) end)")
    assert.equal(4, count)
    assert.same({ "43 192 64 1 x2", "43 64 64 1", "43 64 96 1" }, list)
  end)
end)
