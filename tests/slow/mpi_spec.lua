-- Several processes under mpirun: the update is one process's, whoever dies ends the job, whoever is asked to stop stops
-- all. Skipped where there is no mpirun.
local bridged = require "tests.support.bridged"
local checkpoints = require "lucid.checkpoints"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local lucid = require "lucid"
local processes = require "tests.support.processes"
local training = require "tests.support.training"

local HERE, SETTINGS = processes.HERE, processes.MPIRUN
local distance, log_of, numbers = processes.distance, training.log_of, processes.numbers

local dir

-- Runs a command in n processes (nil: without mpirun); its status and what it wrote to stderr.
local function run(n, words) return training.run(words, dir, n and ("%s -n %d"):format(SETTINGS, n) or "") end

-- Starts a long run of two processes in the background and waits for checkpoint-10; the processes' ids by rank.
local function start(out, more)
  local words = training.llava(dir, out, "--steps 100000 --save-steps 5 --quiet " .. (more or ""))
  file.write(dir .. "/rank.sh", ("echo $$ > %s/pid.$OMPI_COMM_WORLD_RANK; exec %s %s"):format(dir,
    require "tests.support.program", words))
  os.execute(("(%s -n 2 sh %s/rank.sh >%s/job.out 2>%s/job.err; echo $? >%s/job.tmp; mv %s/job.tmp %s/job.rc) &"):format(
    SETTINGS, dir, dir, dir, dir, dir, dir))
  for _ = 1, 600 do
    if file.exists(out .. "/checkpoint-10") or file.exists(dir .. "/job.rc") then break end
    os.execute "sleep 0.1"
  end
  assert.is_false(file.exists(dir .. "/job.rc"), file.read(dir .. "/job.err"))
  return { [0] = file.read(dir .. "/pid.0"):match("%d+"), file.read(dir .. "/pid.1"):match("%d+") }
end

-- Waits for the job's end; its status, stderr and the seconds.
local function ending()
  local from = lucid.time()
  while not file.exists(dir .. "/job.rc") and lucid.time() - from < 120 do os.execute "sleep 0.1" end
  local seconds = lucid.time() - from
  assert.is_true(seconds < 120)
  return tonumber(file.read(dir .. "/job.rc")), file.read(dir .. "/job.err")
end

local function case(name, f)
  it(name, function()
    if not HERE then return pending("no mpirun, or a build without MPI") end
    dir = folder.folder()
    finally(function() folder.remove(dir) end)
    training.world(dir)
    f()
  end)
end

-- Where an element's gradient is as small as Adam's eps, its rounding decides the step: one of these 14,784 elements is
-- such a one in one of seven seeds, and then moves 3e-5 of the whole change. Not with this seed.
local SEED = " --seed 3"

describe("processes", function()
  for name, more in pairs {
    sigmoid = "",
    ["a sum with bco_pair, kinds that weigh, an auxiliary loss"] = "--loss sigmoid:0.8,bco_pair:0.2,sft:1 --mix desc:3,pope:2"
      .. " --pope-weight 4 --gamma 0.5 --accumulate 2",
  } do
    case("of 1, 2 and 4 make the update of one: " .. name, function()
      more = "--steps 5 --batch 5 --cache none --quiet " .. more .. SEED
      assert.equal(0, (run(nil, training.llava(dir, dir .. "/start", more .. " --lr 0"))))
      assert.equal(0, (run(nil, training.llava(dir, dir .. "/alone", more))))
      local from, alone, log = numbers(dir .. "/start"), numbers(dir .. "/alone"), log_of(dir .. "/alone")
      for _, n in ipairs { 1, 2, 4 } do
        local out = dir .. "/" .. n
        local status, err = run(n, training.llava(dir, out, more))
        assert.equal(0, status, err)
        assert.is_true(distance(numbers(out), alone, from) <= (n == 1 and 0 or 1e-5), n .. " processes")
        for step, record in ipairs(log_of(out)) do
          for key, value in pairs(log[step]) do
            if key ~= "tokens" then         -- pictures that two of them have are computed twice
              assert.is_true(math.abs(record[key] - value) <= 1e-4 * math.max(1, math.abs(value)), key)
            end
          end
        end
        assert.equal(n, json.read(out .. "/config.json").versions.processes)
      end
    end)
  end

  -- As above, one element in some seeds; not with this one.
  case("share captions, crops and instructions of either model as one has them", function()
    training.captions(dir)
    local words = ("minigpt4 %s --images %s/world --data %s/pairs --captions %s/cap --as-published --sync all_reduce --steps 5"
      .. " --batch 5 --accumulate 2 --rank 2 --alpha 4 --lr 1e-2 --warmup-ratio 0 --threads 1 --seed 5 --quiet"):format(
      bridged.minigpt4(dir), dir, dir, dir)
    assert.equal(0, (run(nil, words .. " --lr 0 --out " .. dir .. "/start")))
    assert.equal(0, (run(nil, words .. " --out " .. dir .. "/alone")))
    for _, n in ipairs { 2, 4 } do
      local status, err = run(n, ("%s --out %s/%d"):format(words, dir, n))
      assert.equal(0, status, err)
      assert.is_true(log_of(("%s/%d"):format(dir, n))[1].caption_nll > 0)
      local far = distance(numbers(("%s/%d"):format(dir, n)), numbers(dir .. "/alone"), numbers(dir .. "/start"))
      assert.is_true(far <= 1e-5, ("%d processes: %g"):format(n, far))
    end
  end)

  case("have the same bits in every run", function()
    for _, out in ipairs { "/a", "/b" } do assert.equal(0, (run(3, training.llava(dir, dir .. out)))) end
    assert.equal(file.hash(dir .. "/a/adapter/adapter_model.safetensors"), file.hash(dir .. "/b/adapter/adapter_model.safetensors"))
  end)

  case("fine-tune as one does", function()
    local more = "--quiet --weights talks:0.5"
    assert.equal(0, (run(nil, training.sft(dir, dir .. "/start", more .. " --lr 0"))))
    assert.equal(0, (run(nil, training.sft(dir, dir .. "/alone", more))))
    assert.equal(0, (run(2, training.sft(dir, dir .. "/two", more))))
    local model = "model.safetensors"
    assert.is_true(distance(numbers(dir .. "/two", model), numbers(dir .. "/alone", model), numbers(dir .. "/start", model)) <= 1e-5)
  end)

  case("are said with their threads, and only by the first", function()
    local status, err = run(2, training.llava(dir, dir .. "/a", "--steps 1"))
    assert.equal(0, status)
    assert.truthy(err:find("^processes: 2, with 1 thread each; 2 of them on this machine"), err)
    assert.equal(1, select(2, err:gsub("trained parameters", "")), err)
    err = select(2, run(2, training.llava(dir, dir .. "/b", "--steps 1 --threads 1000")))
    assert.truthy(err:find("processes: fewer cores than threads for rank 0 (", 1, true), err)
  end)

  case("with --sync none train each on its own share", function()
    assert.equal(0, (run(2, training.llava(dir, dir .. "/both", "--quiet --batch 4"))))
    assert.equal(0, (run(2, training.llava(dir, dir .. "/none", "--quiet --batch 4 --sync none"))))
    local both, none = log_of(dir .. "/both"), log_of(dir .. "/none")
    assert.equal(4, both[1].count)
    assert.is_true(none[1].count < 4)
    assert.is_true(both[1].grad_norm ~= none[1].grad_norm)
  end)

  case("refuse a loss that sorts the batch", function()
    local status, err = run(2, training.llava(dir, dir .. "/a", "--loss aot"))
    assert.is_true(status ~= 0)
    assert.truthy(err:find("--loss: what aot makes of a pair depends on the others of its batch", 1, true), err)
  end)

  case("say once what is wrong for all of them", function()
    for words, line in pairs {
      [training.llava(dir, dir .. "/a"):gsub("/model ", "/nowhere ", 1)] = "/nowhere: there is no such folder",
      [training.llava(dir, dir .. "/b", "--quiet --lr 1e30")] = "nothing was saved over earlier results",
      [training.llava(dir, dir .. "/c", "--bogus")] = "unknown option --bogus",
    } do
      local status, err = run(2, words)
      assert.is_true(status ~= 0)
      assert.equal(1, select(2, err:gsub("lucid: [^\n]*\n", "")), err)
      assert.truthy(err:find(line, 1, true), err)
    end
  end)

  case("go on where another number of them was cut off", function()
    assert.equal(0, (run(2, training.llava(dir, dir .. "/a", "--quiet --steps 4 --schedule constant"))))
    local status, err = run(1, training.llava(dir, dir .. "/a", "--quiet --steps 6 --schedule constant --resume auto --force-resume"))
    assert.equal(0, status, err)
    assert.equal(0, (run(nil, training.llava(dir, dir .. "/b", "--quiet --schedule constant"))))
    assert.equal(0, (run(nil, training.llava(dir, dir .. "/start", "--quiet --lr 0"))))
    assert.is_true(distance(numbers(dir .. "/a"), numbers(dir .. "/b"), numbers(dir .. "/start")) <= 1e-5)
  end)
end)

describe("a job", function()
  case("ends when one of its processes is killed; its last checkpoint is whole", function()
    for rank = 0, 1 do
      local out = dir .. "/out" .. rank
      os.execute("kill -9 " .. start(out)[rank])
      local status, err = ending()
      assert.is_true(status ~= 0)
      assert.truthy(err:find(("process rank %d .* exited on signal 9"):format(rank)), err)
      local last = checkpoints.newest(out, function() end)
      local step = tonumber(last:match("(%d+)$"))
      assert.is_true(step >= 10)
      status, err = training.run(training.llava(dir, out, ("--quiet --steps %d --save-steps 5 --resume auto --force-resume"):format(
        step + 2)), dir)
      assert.equal(0, status, err)
      os.remove(dir .. "/job.rc")
    end
  end)

  case("stops as a whole when one of its processes is asked to", function()
    local out = dir .. "/out"
    os.execute("kill -TERM " .. start(out)[1])
    local status, err = ending()
    assert.is_true(status ~= 0)
    local step = err:match("stopped after step (%d+)")
    assert.truthy(step, err)
    assert.is_nil(checkpoints.fault(("%s/checkpoint-%s"):format(out, step)))
    assert.is_false(file.exists(out .. "/adapter"))
  end)

  case("ends when one of its processes raises, after its one line", function()
    file.write(dir .. "/script.lua", [[
      local lucid = require "lucid"
      lucid.dist.join { threads = 1 }
      lucid.dist.wait()
      if lucid.dist.rank() == 1 then error("the second one cannot go on", 0) end
      lucid.dist.wait()
      lucid.dist.wait()]])
    local status, err = run(3, dir .. "/script.lua")
    assert.is_true(status ~= 0)
    assert.equal(1, select(2, err:gsub("lucid: the second one cannot go on\n", "")), err)
  end)

  case("are handed pieces of work as they come free, and all know every result", function()
    file.write(dir .. "/work.lua", [[
      local lucid = require "lucid"
      lucid.dist.join { threads = 1, quiet = true }
      local rank, own = lucid.dist.rank(), 0
      for round, n in ipairs { 40, 0, 1, 25 } do
        local results = lucid.dist.hand_out(n, function(i)
          local from = lucid.time()
          while lucid.time() - from < (rank == 1 and 0.02 or 0.001) do end      -- rank 1 is slow
          own = own + 1
          return { round = round, text = ("%d\n\"%d\" ä"):format(i, i), number = i / 3, rank = rank }
        end)
        assert(#results == n)
        for i, r in ipairs(results) do
          assert(r.round == round and r.text == ("%d\n\"%d\" ä"):format(i, i) and r.number == i / 3)
        end
      end
      lucid.file.write(arg[1] .. "/own." .. rank, tostring(own))
    ]])
    local status, err = run(3, ("%s/work.lua %s"):format(dir, dir))
    assert.equal(0, status, err)
    local own, all = {}, 0
    for rank = 0, 2 do
      own[rank] = tonumber(file.read(("%s/own.%d"):format(dir, rank)))
      all = all + own[rank]
    end
    assert.equal(66, all)
    assert.is_true(own[1] < own[0] and own[1] < own[2], ("%d, %d, %d"):format(own[0], own[1], own[2]))
  end)

  case("answer POPE's questions and describe pictures, and the files are those of one process", function()
    local sets = {}
    for _, set in ipairs { "random", "popular", "adversarial" } do
      sets[#sets + 1] = ("%s/world/pope/coco_pope_%s.json"):format(dir, set)
    end
    local function pope(n, out)
      local status, err = run(n, ("pope --model %s/model --questions %s --images %s/world/VG_100K --batch 3 --cache none"
        .. " --max-new-tokens 6 --quiet --out %s/%s"):format(dir, table.concat(sets, ","), dir, dir, out))
      assert.equal(0, status, err)
    end
    pope(nil, "alone")
    pope(3, "three")
    for _, name in ipairs { "samples.jsonl", "pope_random.jsonl", "pope_popular.jsonl", "pope_adversarial.jsonl" } do
      assert.equal(file.read(dir .. "/alone/" .. name), file.read(dir .. "/three/" .. name))
    end
    local alone, three = json.read(dir .. "/alone/results.json"), json.read(dir .. "/three/results.json")
    assert.same(alone.random, three.random)
    assert.same(alone.generation, three.generation)

    local pictures = ("%s describe --model %s/model --max-new-tokens 8 --beams 3 --answers 2 --batch 2 --json --cache none"
      .. " %s/world/VG_100K/*.jpg"):format(require "tests.support.program", dir, dir)
    assert.equal(0, os.execute(("%s >%s/one.json"):format(pictures, dir)))
    assert.equal(0, os.execute(("%s -n 2 %s >%s/two.json 2>%s/stderr"):format(SETTINGS, pictures, dir, dir)))
    assert.truthy(file.read(dir .. "/one.json"):find('"text"', 1, true))
    assert.equal(file.read(dir .. "/one.json"), file.read(dir .. "/two.json"))
  end)

  case("describe for SHR, CHAIR and AMBER, and the files are those of one process", function()
    local instances = { images = json.array {}, annotations = json.array {}, categories = json.array { { id = 1, name = "car" } } }
    local queries, annotations = json.array {}, json.array {}
    for i = 1, 6 do
      local name = ("%d.jpg"):format(300000 + i)
      instances.images[i] = { id = i, file_name = name, width = 64, height = 64 }
      instances.annotations[i] = { image_id = i, category_id = 1, bbox = json.array { 0, 0, 9, 9 } }
      local asks = i % 2 == 0
      queries[i] = { id = i, image = name, query = asks and "Is there a cat in this image?" or "Describe this image." }
      annotations[i] = { id = i, type = asks and "discriminative-hallucination" or "generative",
        truth = asks and "no" or json.array { "car" }, hallu = json.array { "cat" } }
    end
    json.write(dir .. "/instances.json", instances)
    file.mkdir(dir .. "/amber")
    json.write(dir .. "/amber/queries.json", queries)
    json.write(dir .. "/amber/annotations.json", annotations)
    json.write(dir .. "/amber/relation.json", { car = json.array {}, cat = json.array {} })
    file.write(dir .. "/amber/safe_words.txt", "line\n")
    for name, words in pairs {
      shr = ("--data %s/world/shr --images %s/world --beams 2"):format(dir, dir),
      chair = ("--annotations %s/instances.json --images %s/world/VG_100K"):format(dir, dir),
      amber = ("--data %s/amber --queries %s/amber/queries.json --images %s/world/VG_100K"):format(dir, dir, dir),
    } do
      for _, n in ipairs { 1, 3 } do
        local status, err = run(n > 1 and n or nil, ("%s --model %s/model %s --max-new-tokens 8 --batch 2 --cache none --quiet"
          .. " --out %s/%s-%d"):format(name, dir, words, dir, name, n))
        assert.equal(0, status, err)
      end
      for _, entry in ipairs { "samples.jsonl", "responses.json" } do
        assert.equal(file.read(("%s/%s-1/%s"):format(dir, name, entry)), file.read(("%s/%s-3/%s"):format(dir, name, entry)))
      end
      assert.same(json.read(("%s/%s-1/results.json"):format(dir, name))[name],
        json.read(("%s/%s-3/results.json"):format(dir, name))[name])
    end
  end)
end)
