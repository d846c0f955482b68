-- Quantised weights: the numbers that bitsandbytes and ggml give back (tests/golden/quant), every half and
-- every threshold against the formats' description (tests/oracle/quant.lua), and a model on such a base.
local ffi = require "ffi"
local lucid = require "lucid"
local native = require "lucid.native"
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local flops = require "lucid.flops"
local folder = require "tests.support.folder"
local golden = require "tests.support.golden"
local tiny = require "tests.support.tiny"
local oracle = require "tests.oracle.quant"
local planning = require "lucid.plan"

local BIN = require "tests.support.program"
local C = native.C
local KINDS = { "q8_0", "nf4", "fp4" }
local ROOT, BRIDGES = native.root .. "tests/golden/quant/", native.root .. "tests/golden/bridges/"

local function raises(text, f, ...)
  local ok, reason = pcall(f, ...)
  assert.is_false(ok)
  assert.truthy(tostring(reason):find(text, 1, true), reason)
  assert.is_nil(tostring(reason):find("\n", 1, true))
end

local function flat(t, dtype)
  if t:packed() then t = t:expand(dtype) end
  return t:view(-1):tolist()
end

-- Every finite half whose magnitude is at most 1, in rising order.
local function small_halves()
  local list = {}
  for code = 15 * 1024, 0, -1 do
    local exponent, digits = math.floor(code / 1024), code % 1024
    list[#list + 1] = -(exponent == 0 and digits * 2 ^ -24 or (1024 + digits) * 2 ^ (exponent - 25))
  end
  for i = #list, 1, -1 do list[#list + 1] = -list[i] end
  return list
end

-- The list cut into blocks of 64 that each begin with the same largest number.
local function with_largest(list, most)
  local out = {}
  for _, x in ipairs(list) do
    if #out % 64 == 0 then out[#out + 1] = most end
    out[#out + 1] = x * most
  end
  return out
end

describe("quantised numbers", function()
  it("are those of bitsandbytes and of gguf, bit for bit, in every dtype and size", function()
    local values, seen = lucid.checkpoint(ROOT .. "values.safetensors"), 0
    for _, name in ipairs(values:names()) do
      local case = name:match("^x%.(.+)$")
      for _, kind in ipairs(case and KINDS or {}) do
        local y, want = values:tensor(name):quantise(kind), values:tensor(kind .. "." .. case)
        assert.same(want:shape(), y:shape())
        assert.same(flat(want), flat(y))
        seen = seen + 1
      end
    end
    assert.equal(3 * 3 * 8, seen)
  end)

  it("are what the 4-bit formats say of every half", function()
    local halves = small_halves()
    assert.equal(2 * (15 * 1024 + 1), #halves)
    for _, most in ipairs { 1, 24, 0.1 } do     -- 24: thirds of it are halves, too, so that thresholds are met
      local list = with_largest(halves, oracle.f16(most))
      for _, kind in ipairs { "nf4", "fp4" } do
        assert.same(oracle.quantise(list, kind), lucid.tensor(list):quantise(kind):tolist())
      end
    end
  end)

  it("use every code", function()
    for kind, count in pairs { nf4 = 16, fp4 = 15, q8_0 = 255 } do
      local list, seen, found = {}, {}, 0
      for i = 0, 2540 do list[#list + 1] = i % 32 == 0 and 127 or (i - 1270) / 10 end
      for _, y in ipairs(lucid.tensor(list):quantise(kind):tolist()) do
        if not seen[y + 0] then seen[y + 0], found = true, found + 1 end
      end
      assert.equal(count, found, kind)          -- fp4 has zero twice
    end
  end)

  it("pass a threshold only beyond it, and round halves of q8_0 away from zero", function()
    local function quantise(list, kind) return lucid.tensor(list):quantise(kind):tolist() end
    -- 11/128 is a threshold of fp4; the next halves on either side of it
    assert.same({ 128, oracle.f16(128 / 192), oracle.f16(128 / 192), oracle.f16(128 / 6), -oracle.f16(128 / 192) },
      quantise({ 128, 10.9921875, 11, 11.0078125, -11 }, "fp4"))
    assert.same({ 12, 8, -8 }, quantise({ 12, 7, -7 }, "fp4"))      -- 0.583333 is less than 7/12
    assert.same({ 127, 1, -1, 2, 3, 0, -126 }, quantise({ 127, 0.5, -0.5, 1.5, 2.5, 0.49, -126.4 }, "q8_0"))
  end)

  it("are zeros where a block is, and where a scale is too small for a half", function()
    for _, kind in ipairs(KINDS) do
      local list = {}
      for i = 1, 130 do list[i] = i > 128 and 127 or 0 end
      assert.same(list, lucid.tensor(list):quantise(kind):tolist())
      assert.same({}, lucid.zeros({ 0 }):quantise(kind):tolist())
      assert.same({ 0, 0 }, lucid.tensor({ 1e-45, -1e-9 }):quantise(kind):tolist())
    end
    assert.same({ 2 ^ -24, -2 ^ -24 }, lucid.tensor({ 2 ^ -24, -2 ^ -24 }):quantise("fp4"):tolist())
  end)

  it("are cast to the asked dtype at the end, not before", function()
    local x = lucid.randn({ 3, 70 }, { seed = 1 })
    for _, kind in ipairs(KINDS) do
      for _, dtype in ipairs { "bf16", "f16" } do
        local y = x:quantise(kind, dtype)
        assert.equal(dtype, y:dtype())
        assert.same(flat(x:quantise(kind):to(dtype)), flat(y))
      end
      assert.same(flat(x:t():contiguous():quantise(kind)), flat(x:t():quantise(kind)))
    end
  end)

  it("do not depend on the number of threads", function()
    local x = lucid.randn({ 50000 }, { seed = 2 })
    local list = x:tolist()
    for _, kind in ipairs(KINDS) do
      local want = oracle.quantise(list, kind)
      for threads = 1, 3 do
        lucid.threads(threads)
        local y = x:quantise(kind)
        lucid.threads(0)
        assert.same(want, y:tolist())
      end
    end
  end)

  it("refuse what fits no block, and what is not known", function()
    for _, kind in ipairs(KINDS) do
      raises("quantise: element 3 is inf", function() return lucid.tensor({ 1, 2, 1 / 0, 0 / 0 }):quantise(kind) end)
      raises("quantise: element 40000 is", function()
        local x = lucid.zeros({ 50000 })
        x:slice(1, 40000, 50000):copy(lucid.full({ 10001 }, 0 / 0))
        return x:quantise(kind)
      end)
      raises("i32 [1]", function() return lucid.tensor({ 1 }, { dtype = "i32" }):quantise(kind) end)
    end
    assert.equal(65504, lucid.tensor({ 65519 }):quantise("fp4"):item())
    raises("magnitudes below 65520 can be", function() return lucid.tensor({ 65520 }):quantise("nf4") end)
    raises("none, q8_0, nf4 and fp4", function() return lucid.tensor({ 1 }):quantise("q4_0") end)
    raises("there is no kind 0", function() return lucid.tensor({ 1 }):quantise("none") end)
  end)
end)

-- ---- packed weights -------------------------------------------------------------------------------------

-- Beside blocks: of whole rows, that go on in the next row, shorter than one; more rows than a span; longer than a part of K; more
-- columns than are expanded together.
local SIZES = { { 40, 64 }, { 33, 96 }, { 21, 50 }, { 3, 5 }, { 17, 2112 }, { 24, 6208 }, { 600, 64 } }

local function each_case(f)
  for _, kind in ipairs(KINDS) do
    for _, dtype in ipairs { "f32", "bf16", "f16" } do
      for i, size in ipairs(SIZES) do f(lucid.randn(size, { seed = i }), kind, dtype, ("%s %s %dx%d"):format(kind, dtype, unpack(size))) end
    end
  end
end

describe("a packed weight", function()
  it("gives back what a quantised copy has, in every dtype and size", function()
    each_case(function(w, kind, dtype, name)
      local p = w:pack(kind)
      assert.equal(kind, p:dtype())
      assert.same(w:shape(), p:shape())
      assert.same(flat(w:quantise(kind, dtype)), flat(p, dtype), name)
    end)
  end)

  it("multiplies as the expanded one does, a row alone as among many, with any number of threads", function()
    each_case(function(w, kind, dtype, name)
      local p, x = w:pack(kind), lucid.randn({ 70, w:size(2) }, { seed = 9, dtype = dtype })
      local want = x:linear(p:expand(dtype)):tolist()
      for _, rows in ipairs { 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 20, 32, 70 } do
        lucid.threads(1 + rows % 2)
        local y = x:slice(1, 71 - rows, 70):linear(p):tolist()
        for r = 1, rows do assert.same(want[70 - rows + r], y[r], name) end
      end
      lucid.threads(0)
      assert.same(flat(x:linear_bias(p:expand(dtype), lucid.ones({ w:size(1) }))),
        flat(x:linear_bias(p, lucid.ones({ w:size(1) }))))
    end)
  end)

  it("multiplies no rows, too", function()
    each_case(function(w, kind, dtype, name)
      local p, x = w:pack(kind), lucid.ones({ 0, w:size(2) }, { dtype = dtype })
      assert.same({ 0, w:size(1) }, x:linear(p):shape(), name)
    end)
  end)

  it("has an adapter's gradients, and hands on its input's", function()
    each_case(function(w, kind, dtype, name)
      local found = {}
      for _, rows in ipairs { 3, 40 } do
        for i, weight in ipairs { w:pack(kind), w:quantise(kind, dtype) } do
          local x = lucid.randn({ rows, w:size(2) }, { seed = 1, dtype = dtype }):requires_grad()
          local a = lucid.randn({ 2, w:size(2) }, { seed = 2 }):requires_grad()
          local b = lucid.randn({ w:size(1), 2 }, { seed = 3 }):requires_grad()
          local y = native.adopt(C.lc_linear_lora(x, weight, a, b, 2))
          y:backward(lucid.randn({ rows, w:size(1) }, { seed = 4, dtype = dtype }))
          found[i] = { flat(y), flat(x.grad), flat(a.grad), flat(b.grad) }
        end
        assert.same(found[2], found[1], name)
      end
    end)
  end)

  it("is read by linear layers alone", function()
    local p, x = lucid.randn({ 4, 64 }, { seed = 1 }):pack("nf4"), lucid.randn({ 64, 4 }, { seed = 1 })
    local text = "nf4 [4, 64] is a packed weight, which linear layers alone can read; expand it"
    for name, f in pairs { scale = function() return p * 2 end, add = function() return p + p end,
      matmul = function() return x:matmul(p) end, view = function() return p:view(-1) end,
      slice = function() return p:slice(1, 1, 1) end, transpose = function() return p:t() end,
      read = function() return p:tolist() end, copy = function() return x:copy(p) end, cast = function() return p:to("f32") end,
      rows = function() return p:rows { 1 } end, quantise = function() return p:quantise("nf4") end,
      linear = function() return p:linear(x) end, pack_weight = function() return p:pack("nf4") end } do
      raises(name .. ": " .. text, f)
    end
    local dir = folder.folder()
    raises("writer: " .. text, require("lucid.checkpoint").save, dir .. "/p.safetensors", { p = p })
    folder.remove(dir)
    raises("nf4 [4, 64] has no gradients", p.requires_grad, p)
    raises("expand: f32 [64, 4] is not packed", x.expand, x)
    raises("expand: nf4 [4, 64] to i32", p.expand, p, "i32")
    raises("pack_weight: f32 [256]; a weight [N, K] of floats is expected", function() return x:view(-1):pack("nf4") end)
    raises("quantise: element 2 is inf", function() return lucid.tensor({ { 1, 1 / 0 } }):pack("q8_0") end)
    raises("linear: x is f32 [2, 3] but weight is nf4 [4, 64]", function() return lucid.ones({ 2, 3 }):linear(p) end)
    raises("tensor: q8_0 is not made but packed", function()
      return native.check(C.lc_tensor_new(1, ffi.new("int64_t[1]", 4), C.LC_PACKED_Q8_0, C.LC_HOST))
    end)
  end)

  it("says what it is and what it takes", function()
    local p = lucid.randn({ 40, 64 }, { seed = 1 }):pack("q8_0")
    assert.equal(40 * 64 * 34 / 32, p:bytes())
    assert.equal("packed q8_0 [40, 64] cpu, 2720 bytes", tostring(p))
    assert.equal(2 * 64 + 2 * 3, lucid.ones({ 5, 31 }):pack("nf4"):bytes())     -- three blocks, in two cache lines
    assert.equal(12, lucid.ones({ 3 }):bytes())
    local used = tonumber(C.lc_memory_used())
    p = lucid.scope(function() return lucid.ones({ 64, 64 }):pack("nf4") end)  -- it leaves its scope
    assert.is_true(tonumber(C.lc_memory_used()) - used < 64 * 64)
    assert.equal(1, p:expand():tolist()[64][64])
  end)

  it("is given up where memory ends", function()
    local w = lucid.randn({ 32, 96 }, { seed = 1 })
    for rows, dtype in pairs { [1] = "f32", [2] = "bf16", [70] = "bf16" } do
      local p, x = w:pack("nf4"), lucid.randn({ rows, 96 }, { seed = 2, dtype = dtype })
      local want, failed = flat(x:linear(p)), 0
      for n = 1, 12 do
        C.lc_memory_fail_at(n)
        local y = C.lc_linear(x, p)
        C.lc_memory_fail_at(0)
        if y == nil then failed = failed + 1
        else assert.same(want, flat(native.adopt(y))) end
      end
      assert.is_true(failed > 1 and failed < 12)
    end
  end)
end)

-- ---- models ---------------------------------------------------------------------------------------------

local FILES = { vision = BRIDGES .. "tower.pth", bridge = BRIDGES .. "joined.pth" }

local function open(quant, dtype, dir)
  return lucid.model(dir or BRIDGES .. "language", { quant = quant, dtype = dtype, vision = FILES.vision,
    bridge = FILES.bridge })
end

local function is_quantised(name) return name:find("%.layers%.%d+%..*_proj%.weight$") ~= nil end

-- What lucid.forest.pairs takes of the golden pairs.
local function pairs_of(m)
  local want = lucid.json.read(BRIDGES .. "minigpt4.expected.json")
  local pixels = lucid.checkpoint(BRIDGES .. "minigpt4.expected.safetensors"):tensor("pixels")
  local features, list = native.adopt(C.lc_model_vision(m.handle, pixels)), {}
  local size = features:shape()
  for i, p in ipairs(want.pairs) do
    local prompt = {}
    for _, id in ipairs(p.before) do prompt[#prompt + 1] = id end
    prompt[#prompt + 1] = lucid.IMAGE
    for _, id in ipairs(p.after) do prompt[#prompt + 1] = id end
    list[i] = { image = features:slice(1, i, i):contiguous():view(size[2], size[3]), prompt = prompt,
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

local function values(m)
  local list = {}
  for _, p in ipairs(m:all_parameters()) do list[p.name] = flat(p.tensor) end
  return list
end

describe("a quantised base", function()
  local dir
  setup(function() dir = folder.folder() end)
  teardown(function() folder.remove(dir) end)

  it("has the logits of PyTorch's model with bitsandbytes' or gguf's weights", function()
    local want = lucid.checkpoint(ROOT .. "logits.safetensors")
    for _, kind in ipairs(KINDS) do
      for dtype, tolerance in pairs { f32 = 1e-4, bf16 = 2e-2 } do
        lucid.no_grad(function()
          local m = open(kind, dtype)
          for i, pair in ipairs(pairs_of(m)) do
            golden.agree(logits(m, pair), want:tensor(kind .. "." .. i), tolerance, kind .. " in " .. dtype)
          end
        end)
      end
    end
  end)

  it("differs from the file in the decoder blocks' linear layers alone", function()
    local plain, source = open(), lucid.checkpoint(BRIDGES .. "language")
    for _, kind in ipairs(KINDS) do
      local m, count = open(kind), 0
      for i, p in ipairs(m:all_parameters()) do
        local want = plain:all_parameters()[i].tensor
        if is_quantised(p.name) then
          want, count = source:tensor(p.name):quantise(kind), count + 1
          assert.not_same(flat(source:tensor(p.name)), flat(p.tensor))
        end
        assert.same(flat(want), flat(p.tensor), p.name)
      end
      assert.equal(2 * 7, count)
    end
  end)

  it("is quantised from the file's numbers, not from a cast of them", function()
    local source = lucid.checkpoint(BRIDGES .. "language")
    for _, p in ipairs(open("fp4", "bf16"):all_parameters()) do
      if is_quantised(p.name) then assert.same(flat(source:tensor(p.name):quantise("fp4", "bf16")), flat(p.tensor, "bf16")) end
    end
  end)

  it("is in memory once, and packed", function()
    local function taken(quant)                   -- at most, and by each kind of weight
      collectgarbage()
      C.lc_memory_peak_reset()
      local before, linears, rest = tonumber(C.lc_memory_used()), 0, 0
      local m = open(quant, "bf16")
      for _, p in ipairs(m:all_parameters()) do
        if is_quantised(p.name) then linears = linears + p.tensor:bytes() else rest = rest + p.tensor:bytes() end
      end
      return tonumber(C.lc_memory_peak()) - before, linears, rest
    end
    local plain, linears, rest = taken("none")
    assert.is_true(plain > linears + rest)        -- all weights are converted here, none is mapped
    for kind, bytes in pairs { q8_0 = 34 / 32, nf4 = 34 / 64, fp4 = 34 / 64 } do
      local most, packed, same = taken(kind)
      assert.equal(rest, same)
      assert.is_true(packed >= bytes * linears / 2 and packed < 1.1 * bytes * linears / 2)     -- quants fill cache lines
      assert.is_true(most < plain - (linears - packed) + 1024, kind)
    end
  end)

  it("is planned with the bytes that it takes", function()
    local shape, said = flops.shape(open()), {}
    for _, quant in ipairs { "none", "nf4" } do
      local m, bytes = open(quant, "bf16"), 0
      for _, p in ipairs(m:all_parameters()) do bytes = bytes + p.tensor:bytes() end
      said[quant] = planning.bytes(m, shape, 10, 0, 1)
      assert.equal(bytes, said[quant].weights)
    end
    assert.is_true(said.nf4.weights < said.none.weights)
    assert.equal(C.lc_threads_used() * 12 * 2 ^ 20, said.nf4.kept - said.none.kept)
  end)

  it("stays as it is while an adapter is trained on it, and is its reference", function()
    local m, fresh = open("fp4"), open("fp4")
    m:lora { rank = 2, alpha = 4, targets = "q_proj,v_proj", seed = 1 }
    local list = lucid.no_grad(pairs_of, m)
    local f = lucid.forest.pairs(list)
    local before, losses = values(m), {}
    local reference = lucid.no_grad(m.pairs, m:base(), f)
    assert.same(lucid.no_grad(fresh.pairs, fresh, f).tokens:tolist(), reference.tokens:tolist())
    assert.same(reference.tokens:tolist(), lucid.no_grad(m.pairs, m, f).tokens:tolist())
    local optimizer = lucid.optim.adamw(m:parameters(), {})
    for step = 1, 8 do
      local loss = lucid.dpo.step(m, m:base(), list, { loss = "sigmoid", beta = 0.5 })
      losses[step] = loss:item()
      loss:backward()
      optimizer:step(0.01)
    end
    assert.is_true(losses[8] < losses[1] - 0.05)
    for name, after in pairs(values(m)) do
      if name:find("lora_B", 1, true) then assert.not_same(before[name], after)
      elseif not name:find("lora_", 1, true) then assert.same(before[name], after, name) end
    end
    assert.same(reference.tokens:tolist(), lucid.no_grad(m.pairs, m:base(), f).tokens:tolist())

    m:save_adapter(dir .. "/adapter")             -- which another quantised base takes up
    fresh:load_adapter(dir .. "/adapter")
    assert.same(lucid.no_grad(m.pairs, m, f).tokens:tolist(), lucid.no_grad(fresh.pairs, fresh, f).tokens:tolist())
  end)

  it("is neither trained nor saved, and new weights are none", function()
    local m = open("nf4")
    raises("train: the language model is quantised", m.train, m, "language")
    m:train("language", false):train("projector")
    raises("are quantised (nf4) and not what its files hold", m.save, m, dir .. "/copy")
    raises("are quantised (nf4)", m.save, m:base(), dir .. "/copy")
    assert.is_false(file.exists(dir .. "/copy"))
    raises("new weights are there to be trained", lucid.model, BRIDGES .. "language", { init = true, quant = "fp4" })
    raises("there are no 'int4' weights", open, "int4")
    assert.truthy(C.lc_model_open_parts(BRIDGES .. "language", nil, nil, C.LC_F32, C.LC_HOST, 9) == nil)
  end)

  it("is not read packed, and nothing is merged into it", function()
    local packed, merged = dir .. "/packed", dir .. "/merged"
    file.mkdir(packed)
    local config = lucid.json.read(BRIDGES .. "language/config.json")
    config.quantization_config = { load_in_4bit = true, bnb_4bit_quant_type = "fp4" }
    lucid.json.write(packed .. "/config.json", config)
    file.write(packed .. "/model.safetensors", file.read(BRIDGES .. "language/model.safetensors"))
    raises("the weights are stored quantised (quantization_config); give the folder that they were made from", open, "none",
      "f32", packed)
    raises("the weights are stored quantised", lucid.merge, { model = packed, adapter = dir .. "/adapter", out = merged })
    assert.is_false(file.exists(merged))
    config.quantization_config = lucid.json.null
    lucid.json.write(packed .. "/config.json", config)
    assert.is_truthy(open("none", "f32", packed))
  end)

  it("says how it is quantised", function()
    assert.truthy(tostring(open("fp4")):find("quantised (fp4: 4 bits, blocks of 64", 1, true))
    assert.is_nil(tostring(open("none")):find("quantised", 1, true))
    assert.is_nil(open().quant)
  end)

  it("names a weight that no block holds", function()
    local source, tensors = lucid.checkpoint(BRIDGES .. "language"), {}
    for _, name in ipairs(source:names()) do tensors[name] = source:tensor(name) end
    local name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = lucid.zeros(tensors[name]:shape()):copy(tensors[name])
    tensors[name]:slice(1, 2, 2):slice(2, 1, 1):copy(lucid.tensor({ { 0 / 0 } }))
    local broken = dir .. "/broken"
    file.mkdir(broken)
    require("lucid.checkpoint").save(broken .. "/model.safetensors", tensors)
    file.write(broken .. "/config.json", file.read(BRIDGES .. "language/config.json"))
    raises(name .. " (it cannot be converted: quantise: element 41 is ", open, "fp4", "f32", broken)
    assert.is_truthy(open("none", "f32", broken))
  end)
end)

describe("--quant", function()
  local dir, model, world
  setup(function()
    dir = folder.folder()
    model, world = dir .. "/model", dir .. "/world"
    tiny.model(model, 3)
    files.write { dir = world, split = "eval", seed = 3, count = 2, seen = 8 }
    file.write(world .. "/desc_data.json", '[{"image_id": "300001", "chosen": ["a red car."], "rejected": ["a cat."]}]')
    file.write(world .. "/pope_data.json", [=[[{"image_id": "300001", "question": "Is there a cat in the image?",
      "answer": "no", "chosen": "No.", "reject": "Yes.", "correct": false}]]=])
  end)
  teardown(function() folder.remove(dir) end)

  -- What the command says on stdout and on stderr.
  local function run(words)
    local command = ("%s %s --model %s >%s/out 2>%s/err"):format(BIN, words, model, dir, dir)
    local status = os.execute(command)
    return file.read(dir .. "/out"), file.read(dir .. "/err"), status > 255 and status / 256 or status
  end

  local function train(quant, more)
    return run(("llava --data %s --images %s --out %s/%s --quant %s --steps 2 --rank 2 --batch 2 %s"):format(world, world,
      dir, quant, quant, more))
  end

  it("has every answer given by the quantised model", function()
    local picture, texts = world .. "/VG_100K/300001.jpg", {}
    for _, kind in ipairs { "none", "q8_0", "fp4" } do
      local text = lucid.model(model, { quant = kind }):generate { image = picture, max_new_tokens = 12,
        prompt = "Describe this image in detail." }
      local out, reason = run(("describe --image %s --max-new-tokens 12 --quant %s"):format(picture, kind))
      assert.equal("", reason)
      assert.equal(text .. "\n", out)
      texts[kind] = text
    end
    assert.not_equal(texts.none, texts.fp4)
  end)

  it("is said before training begins, and trains", function()
    local _, plan = train("nf4", "--dry-run")
    assert.truthy(plan:find("base: the decoder blocks' linear layers are quantised (nf4: 4 bits", 1, true), plan)
    _, plan = train("none", "--dry-run")
    assert.is_nil(plan:find("quantised", 1, true))
    local _, reason, status = train("fp4", "--quiet")
    assert.equal(0, status, reason)
    assert.equal("fp4", lucid.json.read(dir .. "/fp4/config.json").options.quant)
    assert.is_true(file.exists(dir .. "/fp4/adapter/adapter_model.safetensors"))
  end)

  it("takes the kinds that there are", function()
    local _, reason, status = train("int8", "")
    assert.equal(2, status)
    assert.equal("lucid: --quant: 'int8' is none of none, q8_0, nf4, fp4\n", reason)
  end)
end)
