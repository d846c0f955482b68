-- What goes to a machine with a GPU: the bundle is whole and small, gpu-check and gpu-bench use nothing else of the system
-- than libc, gcc, make and a shell, their stages pass on an emulated device, and a stage that fails stops no other one.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"

local STAGES = { "bundle", "build", "ops", "attention", "step0", "golden", "decode", "demo", "sanitizer" }
local EMULATED = "build/liblucid_cuda_emulated.so"
local dir

-- Runs a command: its status, and what it wrote.
local function run(command)
  local status = os.execute(("{ %s; } >%s/log 2>&1 </dev/null"):format(command, dir))
  return status > 255 and math.floor(status / 256) or status, file.read(dir .. "/log")
end

local function made(what)
  local status, log = run("make -s " .. what)
  assert.equal(0, status, log)
end

-- What the stages left in a folder, by name.
local function stages(out)
  local of = {}
  for _, name in ipairs(STAGES) do of[name] = json.read(("%s/%s.json"):format(out, name)) end
  return of
end

describe("the bundle for a machine with a GPU", function()
  setup(function()
    dir = folder.folder()
    made "gpu-bundle"
  end)
  teardown(function() folder.remove(dir) end)

  it("is small, and says of which commit it is", function()
    local _, size = run "du -sk --exclude=out --exclude=made build/gpu"
    assert.is_true(tonumber(size:match "^%d+") <= 50 * 1024, size)
    local _, commit = run "git rev-parse HEAD"
    assert.equal(commit:match "%x+", file.read("build/gpu/commit"):match "^%x+")
  end)

  -- A root in which there is nothing else, and no network.
  local function in_empty_root(command)
    local status, log = run(("tests/gpu/empty_root.sh sh -c '%s'"):format(command))
    if status == 77 then return pending(log) end
    return status, log
  end

  it("is all that gpu-check needs; without a GPU its stages are skipped", function()
    local status, log = in_empty_root "make gpu-check && cat build/gpu/out/*.json"
    if not status then return end
    assert.equal(0, status, log)
    assert.truthy(log:find("bundle +passed"), log)
    local words = 0
    for line in log:gmatch "{[^\n]*}" do
      local record = json.decode(line)
      if record.stage ~= "bundle" then
        assert.equal("skipped", record.status, line)
        assert.equal("there is no GPU", record.detail)
      end
      words = words + 1
    end
    assert.equal(#STAGES, words)
  end)

  it("is missed with a word where it is not there", function()
    local status, log = in_empty_root "rm -r build/gpu/lib/libluajit* && make gpu-check"
    if not status then return end
    assert.is_true(status ~= 0)
    assert.truthy(log:find("bundle +failed"), log)
    status, log = in_empty_root "rm -r build/gpu && make gpu-check"
    assert.is_true(status ~= 0)
    assert.truthy(log:find("run make gpu-bundle where", 1, true), log)
  end)

  it("is no bench without a GPU", function()
    local status, log = in_empty_root "make -s gpu-bench"
    if not status then return end
    assert.is_true(status ~= 0)
    assert.truthy(log:find("^gpu%-bench: there is no GPU; nothing is measured\n"), log)
  end)

  local function on_device(name, f)
    it(name, function()
      if io.popen("uname -m"):read "*l" ~= "x86_64" then return pending "the emulation is for x86_64" end
      made(EMULATED)
      f()
    end)
  end

  on_device("has stages that pass on an emulated device", function()
    local status, log = run(("SEED=5 OUT=%s LUCID_CUDA=$PWD/%s make gpu-check"):format(dir, EMULATED))
    assert.equal(0, status, log)
    for name, record in pairs(stages(dir)) do
      local skipped = name == "build" or name == "demo" or name == "sanitizer"
      assert.equal(skipped and "skipped" or "passed", record.status, name .. ": " .. record.detail)
      assert.equal(5, record.seed)
    end
  end)

  it("goes on after a stage that failed, and fails", function()
    local status, log = run(("OUT=%s LUCID_CUDA=/nowhere.so make gpu-check"):format(dir))
    assert.is_true(status ~= 0)
    local of = stages(dir)
    for _, name in ipairs { "ops", "attention", "step0", "golden", "decode" } do
      assert.equal("failed", of[name].status, log)
      assert.truthy(of[name].detail:find("/nowhere.so", 1, true), of[name].detail)
    end
    assert.equal("passed", of.bundle.status)
  end)

  on_device("measures our side of every row", function()
    local commands = {
      { ["do"] = "linear", rows = 40, n = 32, k = 48 },
      { ["do"] = "lora", rows = 20, rank = 8, shapes = { { 32, 48 }, { 48, 32 } } },
      { ["do"] = "attention", sequences = 2, length = 70, heads = 2, d = 128, backward = false },
      { ["do"] = "attention", sequences = 2, length = 70, heads = 2, d = 128, backward = true },
      { ["do"] = "memory", kernel = "add", rows = 20, width = 256 },
      { ["do"] = "memory", kernel = "rms_norm", rows = 20, width = 256 },
      { ["do"] = "memory", kernel = "swiglu", rows = 20, width = 256 },
      { ["do"] = "memory", kernel = "rope", rows = 20, width = 256 },
      { ["do"] = "step", mix = "published", group = "pair", pairs = 2, steps = 1 },
      { ["do"] = "step", mix = "published", group = "pair", pairs = 2, steps = 1, cached = true },
      { ["do"] = "step", mix = "paper", group = "image", pairs = 1, steps = 1 },
      { ["do"] = "decode", keys = 30, steps = 2 },
    }
    local lines = {}
    for i, o in ipairs(commands) do lines[i] = json.encode(o) end
    file.write(dir .. "/asked", table.concat(lines, "\n") .. "\n")
    local status, log = run(("LUCID_CUDA=$PWD/%s bin/lucid tests/gpu/bench.lua small <%s/asked"):format(EMULATED, dir))
    assert.equal(0, status, log)
    local answers = {}
    for line in log:gmatch "{[^\n]*}" do answers[#answers + 1] = json.decode(line) end
    assert.equal(#commands + 1, #answers)
    for i, o in ipairs(commands) do
      assert.is_nil(answers[i + 1].error, o["do"])
      assert.is_true(answers[i + 1].seconds[1] > 0)
      if o["do"] == "step" then
        assert.is_true(math.abs(answers[i + 1].loss - math.log(2)) < 1e-2)      -- nothing is learnt yet
        assert.is_true(answers[i + 1].flops > 0 and answers[i + 1].pairs == (o.group == "pair" and 2 or 7))
      end
    end
  end)

  on_device("prints a table of both sides where there is PyTorch", function()
    if run "python3 -c 'import torch, transformers, peft'" ~= 0 then return pending "no torch, transformers and peft" end
    local status, log = run(("OUT=%s LUCID_CUDA=$PWD/%s tests/gpu/bench.sh --small"):format(dir, EMULATED))
    assert.equal(0, status, log)
    for _, row in ipairs(json.read(dir .. "/bench.json").rows) do
      assert.is_number(row.figure, row.name .. ": " .. tostring(row.why))
      assert.truthy(log:find(row.name, 1, true))
    end
  end)
end)
