-- Runs that are killed (SIGKILL) at random moments, resumed, killed again ... have the files of the run that was not.
local checkpoints = require "lucid.checkpoints"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local rng = require "lucid.rng"
local lucid = require "lucid"
local training = require "tests.support.training"

local KILLS, MOST = 20, 3        -- kills in all, and of one run

describe("a run that is killed", function()
  local dir
  setup(function()
    dir = folder.folder()
    training.world(dir)
  end)
  teardown(function() folder.remove(dir) end)

  it("goes on to the same adapter, optimizer and log", function()
    local more = "--quiet --loss bco_pair --accumulate 2 --eval-pairs 2 --steps 20"
    local whole, from = dir .. "/whole", lucid.time()
    assert.equal(0, (training.run(training.llava(dir, whole, more), dir)))
    local took, random, killed, moments = lucid.time() - from, rng(os.time(), "kill"), 0, {}
    local i = 0
    while killed < KILLS do
      i = i + 1
      assert.is_true(i <= 3 * KILLS, ("%d runs, but only %d were killed before their end"):format(i, killed))
      local out, done = ("%s/%d"):format(dir, i), false
      for attempt = 1, MOST do
        local after, start = took * random:uniform(), lucid.time()
        local status, stderr = training.run(training.llava(dir, out, more .. " --resume auto"), dir,
          ("timeout -s KILL %.3f"):format(math.max(after, 0.001)))
        if status == 0 then -- it was quicker: the machine has more time for it than it had for the first
          took, done = math.min(took, lucid.time() - start), true
          break
        end
        assert.equal(137 * 256, status, stderr)         -- timeout ends itself as it ended the program
        killed = killed + 1
        moments[#moments + 1] = ("%d.%d: %.3f s"):format(i, attempt, after)
        for _, step in ipairs(checkpoints.steps(out)) do
          assert.is_nil(checkpoints.fault(("%s/checkpoint-%d"):format(out, step)), table.concat(moments, ", "))
        end
      end
      if not done then
        local status, stderr = training.run(training.llava(dir, out, more .. " --resume auto"), dir)
        assert.equal(0, status, stderr .. table.concat(moments, ", "))
      end
      for _, name in ipairs { "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "log.jsonl",
        "checkpoint-20/optimizer.safetensors", "checkpoint-20/adapter_model.safetensors" } do
        assert.equal(file.hash(whole .. "/" .. name), file.hash(out .. "/" .. name), name .. " after " .. table.concat(moments, ", "))
      end
      local steps = 0
      for record in json.each(out .. "/log.jsonl") do
        steps = steps + 1
        assert.equal(steps, record.step)
      end
      assert.equal(20, steps)
      folder.remove(out)
    end
  end)
end)
