-- Devices of several processes: sums and broadcasts through NCCL, of which a recording library takes the place
-- (gpu/nccl.cc), through the host where there is none, and what becomes of faults.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local processes = require "tests.support.processes"
local training = require "tests.support.training"
local BIN = require "tests.support.program"

local RECORDING = os.getenv("LUCID_NCCL")
local SCRIPT = [[
  local lucid = require "lucid"
  local device, out = arg[1], arg[2]
  lucid.dist.join { threads = 1, quiet = true, device = device }
  local rank, p, numbers = lucid.dist.rank(), {}, {}
  for i, shape in ipairs { { 700 }, { 3, 5 }, { 1, 1 }, { 2311 }, { 0 }, { 40 } } do
    local dtype = i == 6 and "bf16" or "f32"
    local t = lucid.randn(shape, { seed = i + 100 * rank, dtype = dtype, device = device })
    p[i] = { name = "p" .. i, tensor = t }
    if i ~= 3 or rank == 0 then t.grad = lucid.randn(shape, { seed = 10 * i + 100 * rank, device = device }) end
  end
  for _ = 1, 2 do
    lucid.dist.broadcast(p)
    lucid.dist.reduce(p)
  end
  for i, one in ipairs(p) do numbers[i] = { one.tensor:to("cpu"):tolist(), one.tensor.grad:to("cpu"):tolist() } end
  lucid.file.write(out .. rank, lucid.json.encode(numbers))
  lucid.file.write(out .. rank .. ".device", p[1].tensor:device())
]]

local dir

-- The script in n processes: its status and what was said.
local function run(n, environment, device, out)
  local status = os.execute(("%s %s -n %d %s %s/script.lua %s %s/%s >%s/said 2>&1"):format(environment, processes.MPIRUN, n, BIN,
    dir, device, dir, out or "out", dir))
  return status > 255 and math.floor(status / 256) or status, file.read(dir .. "/said")
end

local function case(name, f)
  it(name, function()
    if not processes.HERE then return pending("no mpirun, or a build without MPI") end
    dir = folder.folder()
    finally(function() folder.remove(dir) end)
    file.write(dir .. "/script.lua", SCRIPT)
    f()
  end)
end

-- Lines of the recording library's log: "RANK CALL COUNT".
local function calls(path)
  local count = {}
  for line in io.lines(path) do
    local call = line:match("^%d+ (%S+)")
    count[call] = (count[call] or 0) + 1
  end
  return count
end

if not RECORDING or RECORDING == "" then return end

describe("tensors of several devices", function()
  case("have the bits of the host's sums and broadcasts, with NCCL and without, on every rank", function()
    for n = 1, 3 do
      assert.equal(0, (run(n, "LUCID_NCCL_LOG=" .. dir .. "/log", "cuda", "with")))
      assert.equal(0, (run(n, "LUCID_NCCL=/nowhere/libnccl.so.2", "cuda", "without")))
      assert.equal(0, (run(n, "", "cpu", "host")))
      for rank = 0, n - 1 do
        local host = file.read(dir .. "/host" .. rank)
        assert.equal(file.read(dir .. "/host0"), host)
        for _, name in ipairs { "with", "without" } do
          assert.equal(host, file.read(("%s/%s%d"):format(dir, name, rank)), ("%s NCCL, %d of %d"):format(name, rank, n))
        end
      end
      -- Twice: six broadcasts, and 3,067 numbers in parts of 1,000, all of them sent to all.
      assert.same({ join = n, broadcast = 12 * n, send = 8 * n * n, receive = 8 * n * n, all_gather = 8 * n },
        calls(dir .. "/log"))
      os.remove(dir .. "/log")
    end
  end)

  case("go over the host where a process has no NCCL, which is said once", function()
    file.write(dir .. "/one.sh", ("[ $OMPI_COMM_WORLD_RANK = 1 ] && export LUCID_NCCL=/nowhere/x.so\nexec %s \"$@\"\n"):format(BIN))
    local status = os.execute(("%s -n 3 sh %s/one.sh %s/script.lua cuda %s/out >%s/said 2>&1"):format(processes.MPIRUN, dir, dir,
      dir, dir))
    local said = file.read(dir .. "/said")
    assert.equal(0, status, said)
    assert.truthy(said:find("lucid: no NCCL (/nowhere/x.so: cannot open shared object file: No such file or directory, process 1);",
      1, true), said)
    assert.equal(1, select(2, said:gsub("lucid: [^\n]*", "")), said)
  end)

  case("are each on the device of the process's number", function()
    local status, said = run(2, "LUCID_EMULATE_DEVICES=2", "cuda")
    assert.equal(0, status, said)
    for rank = 0, 1 do assert.equal("cuda:" .. rank, file.read(("%s/out%d.device"):format(dir, rank))) end
  end)

  case("are refused where two processes would have one GPU", function()
    local status, said = run(3, "LUCID_EMULATE_DEVICES=2", "auto")
    assert.equal(1, status)
    assert.truthy(said:find("lucid: processes 0 and 2 have one GPU, cuda:0 of their machine; start one process for each GPU, or"
      .. " give --device cpu\n", 1, true), said)
    status, said = run(2, "LUCID_EMULATE_DEVICES=2", "cuda:1")
    assert.equal(1, status)
    assert.truthy(said:find("processes 0 and 1 have one GPU, cuda:1", 1, true), said)
  end)

  case("are refused where one process alone lacks a GPU", function()
    file.write(dir .. "/one.sh", ("[ $OMPI_COMM_WORLD_RANK = 1 ] && export LUCID_EMULATE_DEVICES=0\nexec %s \"$@\"\n"):format(BIN))
    assert.not_equal(0, (os.execute(("%s -n 2 sh %s/one.sh %s/script.lua auto %s/out >%s/said 2>&1"):format(processes.MPIRUN, dir,
      dir, dir, dir))))
    local said = file.read(dir .. "/said")
    assert.truthy(said:find("lucid: process 0 computes on cuda:0 and process 1 on cpu (cuda:0: there is no GPU; use --device cpu);"
      .. " give each a GPU, or all --device cpu\n", 1, true), said)
  end)
end)

describe("NCCL", function()
  for _, fault in ipairs { "past the end", "short", "a default stream", "another rank", "one place", "no such rank" } do
    case("is not asked for this, and would refuse it: " .. fault, function()
      local status, said = run(2, ("LUCID_NCCL_PLANT='%s'"):format(fault), "cuda")
      assert.equal(1, status, said)
      assert.truthy(said:find("lucid: [^\n]*: %l+: NCCL: invalid usage: "), said)
    end)
  end

  for what, op in pairs {
    ["join 1 1"] = "joining the devices", ["broadcast 0 3"] = "broadcast", ["send 1 4"] = "sum", ["all_gather 0 2"] = "sum",
    ["state 1 2"] = "sum",
  } do
    case("that fails ends all processes with one line: " .. what, function()
      local from = os.time()
      local status, said = run(2, ("LUCID_NCCL_FAIL='%s' LUCID_NCCL_LOG=%s/log"):format(what, dir), "cuda")
      assert.equal(1, status, said)
      assert.truthy(said:find((" %s: NCCL: unhandled system error: the wire is cut\n"):format(op), 1, true), said)
      assert.is_true(os.time() - from < 60)
      assert.equal(op ~= "joining the devices" and 1 or nil, calls(dir .. "/log").abort)       -- nothing was begun before
    end)
  end
end)

describe("a preference run of two devices", function()
  -- Within f32's rounding, which another order of sums brings: two processes' and one's, the device's and the host's.
  case("is that of one device, and of two processes on the host", function()
    training.world(dir)
    local function train(n, device, more)
      local out = ("%s/%d-%s"):format(dir, n, device)
      local words = training.llava(dir, out, ("--quiet --cache none --device %s %s"):format(device, more or ""))
        :gsub("%-%-steps 6", "--steps 2")
      local status, said = training.run(words, dir, n > 1 and ("%s -n %d"):format(processes.MPIRUN, n) or "")
      assert.equal(0, status, said)
      return processes.numbers(out), training.log_of(out)
    end
    local start = train(1, "cpu", "--lr 0")
    local two, log = train(2, "cuda")
    local one = train(1, "cuda")
    local host, other = train(2, "cpu", "--overwrite")
    assert.is_true(processes.distance(two, one, start) <= 1e-5, processes.distance(two, one, start))
    assert.is_true(processes.distance(two, host, start) <= 1e-3, processes.distance(two, host, start))
    assert.equal(2, #log)
    for step, record in ipairs(log) do
      for _, key in ipairs { "loss", "grad_norm", "logps/chosen", "ref_logps/rejected" } do
        assert.is_near(other[step][key], record[key], 1e-4 * math.max(1, math.abs(record[key])), key)
      end
    end
  end)
end)
