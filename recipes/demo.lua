-- The whole loop on a tiny world: draw, train, mine, DPO, measure; on a CPU, in minutes.
--   lucid demo --seed 1 --out runs/demo
local lucid = require "lucid"
