-- One of the processes that ranks.lua starts: steps on the pairs of the folder's pictures; the first process writes
-- what each of them had to do into ranks.json.
--   mpirun -n N lucid tests/bench/scale/rank.lua FOLDER SIZE PICTURES STEPS
local dist = require "lucid.dist"
local json = require "lucid.json"
local microbatch = require "lucid.microbatch"
local step = require "tests.bench.scale.step"
local timing = require "lucid.bench.timing"

local folder, size, pictures, steps = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])

dist.join { threads = 1, quiet = true }
local paths = {}
for i = 1, pictures do paths[i] = ("%s/%d.jpg"):format(folder, i) end
local list, one, seconds = step.mixed(paths), step.new(size), {}
for i = 1, steps do seconds[i] = one.run(list) end

local shares = dist.shares(list, dist.size(), microbatch.sharing(step.GROUP, one.shape.image_rows))
local own, named = step.count(shares[dist.rank() + 1], one.shape, step.GROUP), {}
own.seconds = timing.median(seconds)
for name, v in pairs(own) do named[("%d %s"):format(dist.rank() + 1, name)] = v end
local all, ranks = dist.sum(named), json.array {}
if dist.first() then
  for rank = 1, dist.size() do
    ranks[rank] = {}
    for name in pairs(own) do ranks[rank][name] = all[("%d %s"):format(rank, name)] end
  end
  json.write(folder .. "/ranks.json", { trained = one.trained, ranks = ranks })
end
