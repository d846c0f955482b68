-- Training runs that go on: equal to the uninterrupted one in every byte, whatever they were cut off at.
local checkpoints = require "lucid.checkpoints"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local lucid = require "lucid"
local program = require "tests.support.program"
local tiny = require "tests.support.tiny"
local training = require "tests.support.training"

local log_of = training.log_of
local dir
setup(function()
  dir = folder.folder()
  training.world(dir)
end)
teardown(function() folder.remove(dir) end)

local function run(words, before) return training.run(words, dir, before) end

local function succeed(words)
  local status, stderr = run(words)
  assert.equal(0, status, stderr)
  return stderr
end

local function copy(from, to) assert.equal(0, os.execute(("cp -a %s %s"):format(from, to))) end

local function steps_of(out)
  local steps = checkpoints.steps(out)
  table.sort(steps)
  return steps
end

-- A run's folder as it was after step k, but with a log that knows more.
local function cut_off(from, to, k)
  copy(from, to)
  for _, step in ipairs(checkpoints.steps(to)) do
    if step > k then folder.remove(("%s/checkpoint-%d"):format(to, step)) end
  end
  if k > 0 then checkpoints.link(to, "last", k) end
  folder.remove(to .. "/adapter")
  os.remove(to .. "/model.safetensors")
end

local function same_file(name, a, b)
  assert.equal(file.hash(a .. "/" .. name), file.hash(b .. "/" .. name), ("%s of %s and %s"):format(name, a, b))
end

-- bco_pair remembers a mean between steps; an epoch ends after step 3.
local ACCUMULATED = "--accumulate 2 --loss bco_pair:0.5,sigmoid --gamma 0.1 --keep 6 --quiet"

describe("a resumed run", function()
  it("equals the uninterrupted one from every step on, also in its second epoch", function()
    local whole = dir .. "/whole"
    succeed(training.llava(dir, whole, ACCUMULATED))
    assert.same({ 1, 2, 3, 4, 5, 6 }, steps_of(whole))
    for k = 0, 5 do
      local out = ("%s/from%d"):format(dir, k)
      cut_off(whole, out, k)
      succeed(training.llava(dir, out, ACCUMULATED .. " --resume auto"))
      for _, name in ipairs { "adapter/adapter_model.safetensors", "checkpoint-6/adapter_model.safetensors",
        "checkpoint-6/optimizer.safetensors", "log.jsonl" } do
        same_file(name, out, whole)
      end
      local was, is = json.read(whole .. "/checkpoint-6/trainer_state.json"), json.read(out .. "/checkpoint-6/trainer_state.json")
      assert.same(was.loss_state, is.loss_state)
      assert.equal(12, is.loss_state.bco_pair.count)
      assert.equal(36, is.samples)
      assert.equal(2, is.epoch)
      assert.equal(was.samples, is.samples)
    end
    cut_off(dir .. "/from1", dir .. "/twice", 3)
    succeed(training.llava(dir, dir .. "/twice", ACCUMULATED .. " --resume auto"))
    same_file("adapter/adapter_model.safetensors", dir .. "/twice", whole)
    same_file("log.jsonl", dir .. "/twice", whole)
  end)

  it("goes on with whole parts that are trained", function()
    local whole = dir .. "/parts"
    succeed(training.sft(dir, whole, "--keep 6 --quiet"))
    assert.is_true(file.exists(whole .. "/checkpoint-3/trained.safetensors"))
    succeed(training.sft(dir, whole .. "-bf16", "--keep 6 --quiet --dtype bf16"))      -- with f32 masters
    for _, case in ipairs { { 1, "" }, { 4, "" }, { 2, "-bf16", " --dtype bf16" } } do
      local from, out = whole .. case[2], ("%s/parts%d%s"):format(dir, case[1], case[2])
      cut_off(from, out, case[1])
      succeed(training.sft(dir, out, "--keep 6 --quiet --resume " .. out .. "/last" .. (case[3] or "")))
      same_file("model.safetensors", out, from)
      same_file("checkpoint-6/optimizer.safetensors", out, from)
      same_file("log.jsonl", out, from)
    end
  end)

  it("may take its checkpoint from another folder, and has the log from there on", function()
    succeed(training.llava(dir, dir .. "/source", "--keep 6 --quiet"))
    local stderr = succeed(training.llava(dir, dir .. "/target", "--resume " .. dir .. "/source/checkpoint-4"))
    assert.truthy(stderr:find("policy and reference are not compared: the run goes on", 1, true), stderr)
    same_file("adapter/adapter_model.safetensors", dir .. "/target", dir .. "/source")
    local log = log_of(dir .. "/target")
    assert.equal(2, #log)
    assert.equal(5, log[1].step)
    local status, said = run(training.llava(dir, dir .. "/target", "--quiet --resume " .. dir .. "/source/checkpoint-4"))
    assert.equal(256, status)
    assert.truthy(said:find("/target holds a run already", 1, true), said)
  end)

  it("may go back; what came later is then of another life", function()
    local out, whole = dir .. "/back", dir .. "/source"
    copy(whole, out)
    file.write(out .. "/slow.lua", "return function(policy) return -policy.chosen:mean(), {} end")
    local forced = ("--keep 6 --quiet --force-resume --loss %s/slow.lua"):format(out)
    local later = file.hash(out .. "/checkpoint-6/adapter_model.safetensors")
    local stderr = succeed(training.llava(dir, out, forced .. " --steps 3 --resume " .. out .. "/checkpoint-2"))
    assert.truthy(stderr:find("removed are the checkpoints of later steps, 6, 5, 4, 3\n", 1, true), stderr)
    assert.truthy(stderr:find("/log.jsonl: 4 lines of later steps are dropped\n", 1, true), stderr)
    assert.same({ 1, 2, 3 }, steps_of(out))
    stderr = succeed(training.llava(dir, out, forced .. " --resume auto"))
    assert.truthy(stderr:find("checkpoint-3 is taken", 1, true), stderr)
    assert.equal(6, #log_of(out))
    assert.not_equal(later, file.hash(out .. "/checkpoint-6/adapter_model.safetensors"))
  end)

  it("comes from its checkpoint, whatever has become of its log", function()
    local source = dir .. "/source"
    for name, spoil in pairs {
      torn = function(path) file.truncate(path, file.size(path) - 40) end, short = function(path) file.truncate(path, 50) end,
      empty = function(path) file.write(path, "") end, gone = os.remove,
      foreign = function(path) file.write(path, "{]\n3\n" .. file.read(path)) end,
    } do
      local out = ("%s/log-%s"):format(dir, name)
      cut_off(source, out, 4)
      spoil(out .. "/log.jsonl")
      local stderr = succeed(training.llava(dir, out, "--keep 6 --quiet --resume auto"))
      assert.truthy(stderr:find("checkpoint-4 is taken", 1, true), stderr)
      assert.truthy(stderr:find("log.jsonl: ", 1, true), stderr)
      same_file("adapter/adapter_model.safetensors", out, source)
      local log = log_of(out)
      assert.equal((name == "torn" or name == "foreign") and 6 or 2, #log)
      assert.equal(6, log[#log].step)
    end
  end)

  it("says that nothing is left to train", function()
    local out = dir .. "/done"
    copy(dir .. "/source", out)
    for steps, words in pairs { [6] = "6 steps are done, as many as were asked for", [4] = "6 steps are done, and 4 were asked for" } do
      local stderr = succeed(training.llava(dir, out, ("--keep 6 --quiet --force-resume --resume auto --steps %d"):format(steps)))
      assert.truthy(stderr:find(("resume: %s: nothing is trained\n"):format(words), 1, true), stderr)
      same_file("adapter/adapter_model.safetensors", out, dir .. "/source")
    end
  end)

  it("was cut off between its last checkpoint and the links to it: what is too old goes all the same", function()
    local out = dir .. "/late"
    copy(dir .. "/source", out)
    checkpoints.link(out, "last", 5)
    succeed(training.llava(dir, out, "--keep 2 --quiet --resume auto"))
    assert.same({ 5, 6 }, steps_of(out))
    same_file("last/manifest.json", out, dir .. "/source")
  end)

  it("has a page of its curves", function()
    local page = file.read(dir .. "/source/report.html")
    assert.truthy(page:find("<svg", 1, true) and page:find("rewards/margins", 1, true) and page:find("--save-steps", 1, true))
  end)
end)

describe("--resume auto", function()
  local whole
  setup(function()
    whole = dir .. "/auto"
    succeed(training.llava(dir, whole, "--keep 3 --quiet"))
  end)

  it("passes a damaged checkpoint over and says so", function()
    local out = dir .. "/damaged"
    copy(whole, out)
    local path = out .. "/checkpoint-6/optimizer.safetensors"
    local text = file.read(path)
    file.write(path, text:sub(1, 2000) .. string.char((text:byte(2001) + 1) % 256) .. text:sub(2002))
    os.remove(out .. "/checkpoint-5/manifest.json")
    file.mkdir(out .. "/checkpoint-9.tmp")
    file.write(out .. "/checkpoint-9.tmp/adapter_model.safetensors", "half")
    file.write(out .. "/log.jsonl.tmp.99999999", "half")
    local stderr = succeed(training.llava(dir, out, "--keep 3 --quiet --resume auto"))
    assert.truthy(stderr:find("checkpoint-6 is passed over: optimizer.safetensors has another hash", 1, true), stderr)
    assert.truthy(stderr:find("checkpoint-5 is passed over: it has no manifest.json", 1, true), stderr)
    assert.truthy(stderr:find("checkpoint-4 is taken", 1, true), stderr)
    same_file("adapter/adapter_model.safetensors", out, whole)
    same_file("checkpoint-6/optimizer.safetensors", out, whole)
    same_file("log.jsonl", out, whole)
    assert.is_false(file.exists(out .. "/checkpoint-9.tmp"))
    assert.is_false(file.exists(out .. "/log.jsonl.tmp.99999999"))
  end)

  it("has an adapter of an unfinished run, too", function()
    local m = lucid.model(dir .. "/model", { adapter = whole .. "/last" })
    local out = dir .. "/unfinished"
    copy(whole, out)
    folder.remove(out .. "/adapter")
    local other = lucid.model(dir .. "/model", { adapter = out })
    local own, parameters = m:parameters(), other:parameters()
    assert.equal(42, #parameters)
    for i, p in ipairs(parameters) do assert.same(own[i].tensor:tolist(), p.tensor:tolist()) end
  end)

  it("knows every file of a checkpoint", function()
    local at = dir .. "/one"
    for _, name in ipairs { "adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors",
      "trainer_state.json", "manifest.json" } do
      copy(whole .. "/checkpoint-6", at)
      assert.is_nil(checkpoints.fault(at))
      local text = file.read(at .. "/" .. name)
      file.write(at .. "/" .. name, text:sub(1, -3))
      assert.truthy(checkpoints.fault(at), name)
      file.write(at .. "/" .. name, string.char((text:byte(1) + 1) % 256) .. text:sub(2))
      assert.truthy(checkpoints.fault(at), name)
      os.remove(at .. "/" .. name)
      assert.truthy(checkpoints.fault(at), name)
      folder.remove(at)
    end
  end)

  it("refuses other options and other data by name, unless it is forced", function()
    local out = dir .. "/changed"
    copy(whole, out)
    local status, stderr = run(training.llava(dir, out, "--keep 3 --lr 2e-2 --beta 0.2 --resume auto --quiet"))
    assert.equal(256, status)
    assert.truthy(stderr:find("checkpoint-6 was trained with other settings: --beta (0.1, now 0.2), --lr (0.01, now 0.02)",
      1, true), stderr)
    local other = file.read(dir .. "/pairs/desc_data.json")
    file.write(dir .. "/pairs/desc_data.json", (other:gsub("blue cat", "green cat", 1)))
    status, stderr = run(training.llava(dir, out, "--keep 3 --resume auto --quiet"))
    file.write(dir .. "/pairs/desc_data.json", other)
    assert.equal(256, status)
    assert.truthy(stderr:find("settings: the desc_data.json, the samples; give", 1, true), stderr)
    same_file("adapter/adapter_model.safetensors", out, whole)                -- nothing was touched
    stderr = succeed(training.llava(dir, out, "--keep 3 --lr 2e-2 --quiet --force-resume --resume " .. out .. "/checkpoint-4"))
    assert.truthy(stderr:find("goes on although these have changed: --lr (0.01, now 0.02)", 1, true), stderr)
    assert.equal(6, #log_of(out))
  end)

  it("knows other weights of the same size, where a cache keeps their hashes", function()
    local model, out, more = dir .. "/swapped", dir .. "/weights", "--steps 2 --quiet --cache "
    copy(dir .. "/model", model)
    local function words(add) return (training.llava(dir, out, more .. add):gsub("/model ", "/swapped ", 1)) end
    succeed(words(dir .. "/hashes"))
    file.remove(model .. "/model.safetensors")
    tiny.model(dir .. "/other", 4)
    copy(dir .. "/other/model.safetensors", model .. "/model.safetensors")
    local status, stderr = run(words(dir .. "/hashes --resume auto"))
    assert.not_equal(0, status)
    assert.truthy(stderr:find("other settings: the weights; give", 1, true), stderr)
    succeed(words "none --resume auto")
    copy(dir .. "/model/model.safetensors", model .. "/model.safetensors")
    succeed(words(dir .. "/hashes --resume auto"))
  end)

  it("knows when a file of the user's own has changed", function()
    local out, own = dir .. "/own", dir .. "/own.lua"
    file.write(own, "return function(policy) return -policy.chosen:mean(), {} end")
    local words = training.llava(dir, out, "--quiet --loss " .. own)
    succeed(words)
    file.write(own, "return function(policy) return -policy.chosen:mean() * 2, {} end")
    local status, stderr = run(words .. " --resume auto")
    assert.equal(256, status)
    assert.truthy(stderr:find("other settings: the file of --loss; give", 1, true), stderr)
  end)

  it("begins at the first step where there is no whole checkpoint", function()
    local out = dir .. "/fresh"
    local stderr = succeed(training.llava(dir, out, "--quiet --resume auto"))
    assert.truthy(stderr:find("the run begins at its first step", 1, true), stderr)
    same_file("adapter/adapter_model.safetensors", out, whole)
  end)

  it("goes on after the disk was full: earlier checkpoints are whole", function()
    if os.execute("unshare -rm true 2>/dev/null") ~= 0 then pending("no user namespaces here") end
    local full, script = dir .. "/full", dir .. "/full.sh"
    file.mkdir(full)
    local words = ("%s %s"):format(program, training.llava(dir, full .. "/run", "--quiet --keep 6"))
    file.write(script, ([[
      mount -t tmpfs -o size=1m none %s
      %s 2>%s/stderr && exit 3
      ls %s/run >%s/left
      mount -o remount,size=9m %s
      %s --resume auto 2>>%s/stderr && cp -a %s/run %s/after
    ]]):format(full, words, dir, full, dir, full, words, dir, full, dir))
    local status, stderr = os.execute("unshare -rm sh " .. script), file.read(dir .. "/stderr")
    assert.equal(0, status, stderr)
    assert.truthy(stderr:find("^lucid: %S+/checkpoint%-[3-5]%.tmp/%S+: [^\n]*No space left on device\n"), stderr)
    assert.truthy(stderr:find("checkpoint%-[2-4] is taken\n"), stderr)
    assert.truthy(file.read(dir .. "/left"):find("checkpoint-2", 1, true))
    same_file("adapter/adapter_model.safetensors", dir .. "/after", whole)
    same_file("log.jsonl", dir .. "/after", whole)
  end)

  it("does not let a run without checkpoints begin anew with other options", function()
    local out = dir .. "/none"
    succeed(training.llava(dir, out, "--quiet --save-steps 0"))
    assert.same({}, steps_of(out))
    local status, stderr = run(training.llava(dir, out, "--quiet --lr 3e-2 --resume auto"))
    assert.equal(256, status)
    assert.truthy(stderr:find("--lr (0.01, now 0.03)", 1, true), stderr)
  end)
end)

describe("a folder that holds a run", function()
  it("is refused, or replaced where that is asked for", function()
    local out = dir .. "/held"
    succeed(training.llava(dir, out))
    local hash = file.hash(out .. "/adapter/adapter_model.safetensors")
    local status, stderr = run(training.llava(dir, out, "--lr 3e-2"))
    assert.equal(256, status)
    assert.truthy(stderr:find("/held holds a run already; --resume auto goes on with it, --overwrite", 1, true), stderr)
    assert.equal(hash, file.hash(out .. "/adapter/adapter_model.safetensors"))
    assert.equal(512, (run(training.llava(dir, out, "--overwrite --resume auto"))))
    succeed(training.llava(dir, out, "--quiet --lr 3e-2 --steps 2 --overwrite"))
    assert.same({ 1, 2 }, steps_of(out))
    assert.equal(2, #log_of(out))
    assert.not_equal(hash, file.hash(out .. "/adapter/adapter_model.safetensors"))
  end)
end)

describe("a folder that another process trains in", function()
  it("is refused by one line, and free again when that has ended", function()
    for _, out in ipairs { dir .. "/shared", dir .. "/other" } do
      if out == dir .. "/other" then succeed(training.llava(dir, out, "--quiet --steps 2")) end
      local words = training.llava(dir, out, "--quiet --steps 3 --force-resume --resume auto")
      file.mkdir(out)
      local held, before = file.lock(out .. "/.lock"), table.concat(file.list(out), " ")
      local status, stderr = run(words)
      assert.equal(256, status)
      assert.equal(("lucid: %s/.lock: another process works on it\n"):format(out), stderr)
      assert.equal(before, table.concat(file.list(out), " "))
      file.unlock(held)
      succeed(words)
      assert.equal(3, #log_of(out))
    end
  end)
end)

describe("--keep and --eval-pairs", function()
  it("leave the newest and the best checkpoint", function()
    local out = dir .. "/best"
    succeed(training.llava(dir, out, "--quiet --keep 1 --eval-pairs 3 --lr 0.3 --loss bco_pair"))
    local best
    for _, record in ipairs(log_of(out)) do
      assert.is_number(record["eval_rewards/margins"])
      if not best or record.eval_loss < best.eval_loss then best = record end
    end
    assert.is_true(best.step < 6, "the last step is the best: nothing is tested here")
    assert.same({ best.step, 6 }, steps_of(out))
    assert.same({ step = best.step, eval_loss = best.eval_loss }, json.read(out .. "/checkpoint-6/trainer_state.json").best)
    same_file("manifest.json", out .. "/best", ("%s/checkpoint-%d"):format(out, best.step))
    same_file("manifest.json", out .. "/last", out .. "/checkpoint-6")
    assert.equal(6, json.read(out .. "/checkpoint-6/trainer_state.json").loss_state.bco_pair.count)   -- not moved by measuring
    cut_off(out, out .. "2", best.step)
    succeed(training.llava(dir, out .. "2", "--quiet --keep 1 --eval-pairs 3 --lr 0.3 --loss bco_pair --resume auto"))
    same_file("log.jsonl", out .. "2", out)
    same_file("adapter/adapter_model.safetensors", out .. "2", out)
  end)

  it("refuse to hold everything out, or never to measure", function()
    assert.equal(512, (run(training.llava(dir, dir .. "/never", "--eval-pairs 3 --save-steps 0"))))
    local status, stderr = run(training.llava(dir, dir .. "/all", "--eval-pairs 12"))
    assert.equal(256, status)
    assert.truthy(stderr:find("--eval-pairs 12: there are 12 different pairs", 1, true), stderr)
  end)
end)

-- ---- signals ------------------------------------------------------------------------------------------

-- Starts the program, waits for a file, sends signals, and returns the exit status and what was said.
local function interrupted(words, wanted, signals)
  local script = dir .. "/interrupt.sh"
  local lines = { ("%s %s >/dev/null 2>%s/stderr &"):format(program, words, dir),
    "pid=$!", ("for i in $(seq 400); do [ -e %s ] && break; sleep 0.02; done"):format(wanted) }
  for _, signal in ipairs(signals) do lines[#lines + 1] = ("kill -%s $pid; sleep 0.1"):format(signal) end
  lines[#lines + 1] = "wait $pid; exit $?"
  file.write(script, table.concat(lines, "\n") .. "\n")
  local status = os.execute("sh " .. script)
  return status / 256, file.read(dir .. "/stderr")
end

describe("a signal", function()
  local LONG = "--quiet --steps 150 --save-steps 30"

  it("ends a run after its step, with a checkpoint that it goes on from", function()
    succeed(training.llava(dir, dir .. "/long", LONG))
    for _, case in ipairs { { "TERM", 143 }, { "INT", 130 } } do
      local out = dir .. "/" .. case[1]
      local status, stderr = interrupted(training.llava(dir, out, LONG), out .. "/checkpoint-30", { case[1] })
      assert.equal(case[2], status, stderr)
      assert.truthy(stderr:find("stopped after step %d+; %-%-resume auto goes on from %S+/checkpoint%-%d+\n"), stderr)
      assert.truthy(stderr:find("lucid: interrupted\n", 1, true), stderr)
      local log, newest = log_of(out), checkpoints.steps(out)[1]
      assert.is_true(newest >= 30 and newest < 150)
      assert.equal(newest, #log)
      assert.is_false(file.exists(out .. "/adapter"))
      succeed(training.llava(dir, out, LONG .. " --resume auto"))
      same_file("adapter/adapter_model.safetensors", out, dir .. "/long")
      same_file("log.jsonl", out, dir .. "/long")
    end
  end)

  it("ends a run at once when it comes a second time", function()
    local slow, mark, out = dir .. "/slow.lua", dir .. "/in-step", dir .. "/second"
    file.write(slow, ([[
      local lucid = require "lucid"
      return function(policy)
        lucid.file.write("%s", "")
        local from = lucid.time()
        while lucid.time() < from + 20 do end
        return -policy.chosen:mean(), {}
      end]]):format(mark))
    local from = os.time()
    local status, stderr = interrupted(training.llava(dir, out, "--quiet --loss " .. slow), mark, { "TERM", "TERM" })
    assert.equal(143, status, stderr)
    assert.is_true(os.time() - from < 10)
    assert.same({}, steps_of(out))
  end)
end)
