-- lucid inspect: weights are told by their tensors' names, whatever the files are called.
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local inspect = require "lucid.inspect"
local json = require "lucid.json"
local tensor = require "lucid.tensor"
local build = require "tests.support.torchfile"
local support = require "tests.support.folder"

local BIN = require "tests.support.program"

local function torch_file(names)
  local items = {}
  for name in names:gmatch("%S+") do
    items[#items + 1] = build.text(name)
    items[#items + 1] = build.tensor {}
  end
  return build.dict(unpack(items))
end

describe("inspect", function()
  local folder
  before_each(function() folder = support.folder() end)
  after_each(function()
    collectgarbage()
    support.remove(folder)
  end)

  it("tells what weights are of", function()
    local path = folder .. "/x.bin"
    for _, row in ipairs {
      { "LLaVA, original layout", "model.layers.0.self_attn.q_proj.weight model.mm_projector.0.weight" },
      { "LLaVA, Hugging Face layout", "language_model.model.layers.0.self_attn.q_proj.weight "
        .. "multi_modal_projector.linear_1.weight vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight" },
      { "LLaVA, Hugging Face layout", "model.multi_modal_projector.linear_1.weight" },
      { "Llama", "model.layers.0.self_attn.q_proj.weight model.layers.0.mlp.gate_proj.weight" },
      { "MiniGPT-4 projection", "llama_proj.weight llama_proj.bias" },
      { "EVA vision tower", "cls_token blocks.0.attn.q_bias patch_embed.proj.weight" },
      { "InstructBLIP, LAVIS layout (trained parts)",
        "query_tokens llm_proj.weight Qformer.bert.encoder.layer.0.attention.self.query.weight" },
      { "InstructBLIP, Hugging Face layout", "language_projection.weight "
        .. "qformer.encoder.layer.0.attention.attention.query.weight "
        .. "vision_model.encoder.layers.0.self_attn.qkv.weight" },
      { "PEFT adapter", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" },
      { "LLaVA projector (non-LoRA trainables)", "base_model.model.model.mm_projector.0.weight" },
      { "CLIP vision tower", "vision_model.encoder.layers.0.self_attn.q_proj.weight" },
      { "weights of no kind that is known here", "linear.weight" },
    } do
      local body = torch_file(row[2])
      file.write(path, build.file(body))
      assert.equal(row[1], inspect(path).kind)
      file.write(path, build.file(build.dict(build.text("model"), body))) -- as training writes it
      assert.equal(row[1], inspect(path).kind)
    end
  end)

  it("says what an adapter is, and by which PEFT it was written", function()
    file.write(folder .. "/adapter_model.bin",
      build.file(torch_file("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")))
    file.write(folder .. "/non_lora_trainables.bin",
      build.file(torch_file("base_model.model.model.mm_projector.0.weight")))
    local config = { peft_type = "LORA", r = 128, lora_alpha = 256, target_modules = { "q_proj", "v_proj" },
      base_model_name_or_path = "liuhaotian/llava-v1.5-7b" }
    json.write(folder .. "/adapter_config.json", config)
    local found = inspect(folder)
    assert.same({ "written by PEFT 0.4: rank 128, alpha 256, targets q_proj v_proj",
      "made for liuhaotian/llava-v1.5-7b", "layers with adapters: 1" }, found.facts)
    assert.equal("LLaVA projector (non-LoRA trainables)", found.others[1].kind)
    config.use_rslora = false
    json.write(folder .. "/adapter_config.json", config)
    assert.matches("PEFT later than 0.4", inspect(folder).facts[1])
    file.remove(folder .. "/adapter_config.json")
    assert.matches("no adapter_config.json", inspect(folder).facts[1])
    file.mkdir(folder .. "/run/adapter")
    json.write(folder .. "/run/config.json", {})
    json.write(folder .. "/run/adapter/adapter_config.json", config)
    checkpoint.save(folder .. "/run/adapter/adapter_model.safetensors", { ["a.lora_A.weight"] = tensor.zeros { 1 } })
    assert.equal(folder .. "/run/adapter", inspect(folder .. "/run").path)
  end)

  it("counts tensors, dtypes and bytes of all parts of a folder, and lists files beside them", function()
    checkpoint.save(folder .. "/a.safetensors", { ["model.norm.weight"] = tensor.zeros { 3 } })
    file.write(folder .. "/b.bin", build.file(torch_file("lm_head.weight")))
    json.write(folder .. "/model.safetensors.index.json",
      { weight_map = { ["model.norm.weight"] = "a.safetensors", ["lm_head.weight"] = "b.bin" } })
    file.write(folder .. "/page.bin", "<html>")
    local found = inspect(folder .. "/")
    assert.equal(folder, found.path)
    assert.equal(2, found.tensors)
    assert.equal(36, found.bytes)
    assert.same({ { dtype = "F32", tensors = 2, bytes = 36 } }, found.dtypes)
    assert.equal("safetensors", found.files[1].format)
    assert.equal("PyTorch zip", found.files[2].format)
    assert.matches("HTML page", found.others[1].reason)
    local text = inspect.text(found, true)
    assert.matches("2 tensors, 36 bytes: 2 F32", text)
    assert.matches("lm_head.weight F32 %[2, 3%]", text)
    assert.matches("\nalso in it:\n", text)
  end)

  it("reads no more than directories: a file of 200 GB takes no time and no memory", function()
    local path = folder .. "/large.safetensors"
    local header = '{"w":{"dtype":"F16","shape":[100000,1000000],"data_offsets":[0,200000000000]}}'
    local f = assert(io.open(path, "wb"))
    f:write(build.little(#header, 8), header)
    f:close()
    if os.execute(("truncate -s %d '%s' 2>/dev/null"):format(8 + #header + 200000000000, path)) ~= 0 then
      return pending("this file system has no sparse files")
    end
    local found = inspect(path)
    assert.equal(2e11, found.bytes)
    assert.matches("1 tensor, 200 GB: 1 F16", inspect.text(found))
  end)

  it("reads every byte when it is asked to check", function()
    local path = folder .. "/x.safetensors"
    checkpoint.save(path, { a = tensor.tensor { 1, 1 / 0, 0 / 0 }, b = tensor.tensor { -1 / 0, 2 }:to("bf16"),
      c = tensor.zeros { 5 }:to("f16") })
    local found = inspect(path)
    inspect.check(found)
    assert.same({ a = 2, b = 1 }, found.nonfinite)
    assert.matches("\n  a: 2 numbers are NaN or infinite\n", inspect.text(found))
    found = inspect "tests/golden/torchfile/plain.pth"
    inspect.check(found)
    assert.matches("read whole: every number is finite", inspect.text(found))
    -- A byte of a storage is found by nothing but the sum of its entry.
    local bytes = file.read("tests/golden/torchfile/alone.pth")
    local at = bytes:find("\0\0\64\64", 1, true)
    path = folder .. "/x.pth"
    file.write(path, bytes:sub(1, at - 1) .. "\1" .. bytes:sub(at + 1))
    found = inspect(path)
    assert.has_error(function() inspect.check(found) end,
      ("inspect: %s: its zip entry 'alone/data/0' is damaged (its sum is wrong); get it again"):format(path))
  end)

  it("is a command", function()
    local path, out = folder .. "/x.pth", folder .. "/out"
    file.write(path, build.file(torch_file("llama_proj.weight")))
    assert.equal(0, os.execute(("%s inspect %s --json --tensors >%s"):format(BIN, path, out)))
    local found = json.read(out)
    assert.equal("MiniGPT-4 projection", found.kind)
    assert.same({ name = "llama_proj.weight", dtype = "F32", shape = { 2, 3 }, bytes = 24, file = path }, found.list[1])
    os.execute(("%s inspect %s/none >%s 2>&1"):format(BIN, folder, out))
    assert.matches("none: there is no such file or folder\n$", file.read(out))
    file.write(path, "<html>")
    os.execute(("%s inspect %s >%s 2>&1"):format(BIN, path, out))
    assert.matches("^lucid: inspect: [^\n]*x.pth: it is an HTML page[^\n]*\n$", file.read(out))
  end)
end)
