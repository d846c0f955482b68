-- The generator of true-size checkpoints, at small sizes: its folders are what the loader expects, at any
-- size its names, shapes and counts are the published ones, and a name that is missing, left over or
-- misshapen is listed.
local inspect = require "lucid.inspect"
local published = require "tests.support.published"
local support = require "tests.support.folder"
local weights = require "tests.support.weights"

local CLIP = { width = 32, mlp = 48, layers = 3, heads = 4, size = 28, patch = 14 }
local EVA = { width = 32, mlp = 48, layers = 2, heads = 16, size = 28, patch = 14 }
local QFORMER = { width = 24, mlp = 36, layers = 3, heads = 12, queries = 4, words = 40, positions = 16 }
local LLAMA = { width = 32, mlp = 40, layers = 2, heads = 4, words = 64, positions = 64, eps = 1e-5 }
local LLAVA = { vision = CLIP, language = LLAMA }
local INSTRUCTBLIP = { vision = EVA, qformer = QFORMER, language = LLAMA }

local function elements(parts, file)
  local n = 0
  for _, part in ipairs(parts) do
    for _, t in ipairs(part.tensors and (not file or part.file == file) and part.tensors or {}) do
      local count = 1
      for _, size in ipairs(t.shape) do count = count * size end
      n = n + count
    end
  end
  return n
end

describe("checkpoints of true size", function()
  local folder
  before_each(function() folder = support.folder() .. "/model" end)
  after_each(function()
    collectgarbage()
    support.remove(folder:match "^(.*)/")
  end)

  it("have as many numbers as the published ones", function()
    assert.equal(7063427072, elements(published["llava-hf"](published.LLAVA_7B)))
    local parts = published.instructblip(published.VICUNA_13B)
    assert.equal(13015864320, elements({ parts[1] }))
    assert.equal(189624832, elements(parts, "instruct_blip_vicuna13b_trimmed.pth"))
  end)

  for _, dtype in ipairs { "f16", "bf16" } do
    it("open as llava-hf in " .. dtype .. ", in one file and in shards", function()
      for i, limit in ipairs { 1e9, 3e4 } do
        local path = folder .. i
        weights.write(path, published["llava-hf"](LLAVA), { dtype = dtype, limit = limit })
        local found = inspect(path)
        assert.equal("LLaVA, Hugging Face layout", found.kind)
        assert.equal(dtype:upper(), found.dtypes[1].dtype)
        assert.equal(i > 1, #found.files > 1)
        assert.equal("llava", (inspect.fit(found)))
        inspect.check(found)
        assert.is_nil(next(found.nonfinite))
        support.remove(path)
      end
    end)
  end

  it("open as InstructBLIP, whole and in LAVIS's parts", function()
    weights.write(folder, published["instructblip-hf"](INSTRUCTBLIP), { dtype = "f16", limit = 5e4 })
    assert.equal("instructblip", (inspect.fit(inspect(folder))))
    local parts = folder .. "-parts"
    weights.write(parts, published.instructblip(INSTRUCTBLIP), { dtype = "f16", limit = 1e4 })
    assert.is_true(#inspect(parts .. "/vicuna").files > 1)
    local files = { vision = parts .. "/eva_vit_g.pth", bridge = parts .. "/instruct_blip_vicuna13b_trimmed.pth" }
    assert.equal("instructblip", (inspect.fit(inspect(parts .. "/vicuna"), files)))
  end)

  it("open as the original LLaVA, in pickles, at true size", function()
    weights.write(folder, published.llava(published.LLAVA_7B), { dtype = "f16", sparse = true })
    local found = inspect(folder)
    assert.equal("LLaVA, original layout", found.kind)
    assert.equal("llava", (inspect.fit(found)))
  end)

  it("are sparse when they are asked to be: 13B in next to no room, and they fit", function()
    weights.write(folder, published["instructblip-hf"](published.VICUNA_13B), { dtype = "f16", sparse = true })
    local found = inspect(folder)
    assert.is_true(found.bytes > 28e9)
    local kind, parameters = inspect.fit(found)
    assert.equal("instructblip", kind)
    assert.equal(found.tensors, parameters)
    local pipe = io.popen("du -sk '" .. folder .. "'")
    local kilobytes = tonumber(pipe:read("*a"):match "%d+")
    pipe:close()
    assert.is_true(kilobytes < 4096, kilobytes .. " kB")
  end)

  it("list what is missing, left over and misshapen", function()
    local parts = published["llava-hf"](LLAVA)
    local list = parts[1].tensors
    for i = #list, 1, -1 do
      if list[i].name:find "layers.1.mlp.up_proj" then table.remove(list, i)
      elseif list[i].name:find "lm_head" then list[i].shape = { 64, 31 } end
    end
    list[#list + 1] = { name = "language_model.model.surplus", shape = { 2 } }
    weights.write(folder, parts, { dtype = "f16" })
    local ok, reason = pcall(inspect.fit, inspect(folder))
    assert.is_false(ok)
    for _, text in ipairs { "language_model.model.layers.1.mlp.up_proj.weight (missing)",
      "language_model.model.surplus (not part of this model)",
      "language_model.lm_head.weight (f16 [64, 31], expected [128, 32])" } do
      assert.truthy(reason:find(text, 1, true), reason)
    end
    assert.is_nil(reason:find "\n")
  end)

  it("are loaded in bf16 from f16 with a word on what that costs, and from bf16 without one", function()
    for dtype, said in pairs { f16 = true, bf16 = false } do
      local path = folder .. dtype
      weights.write(path, published["llava-hf"](LLAVA), { dtype = dtype })
      local script = ("require('lucid').model('%s', { dtype = 'bf16' })"):format(path)
      local pipe = io.popen(('%s -e "%s" 2>&1'):format(os.getenv "LUCID_BIN" or "bin/lucid", script))
      local text = pipe:read "*a"
      pipe:close()
      assert.equal(said, text:find("three bits of mantissa", 1, true) ~= nil, text)
      support.remove(path)
    end
  end)
end)
