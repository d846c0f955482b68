-- The speed of this machine: its limits, and how close lucid comes to them.
--   lucid bench [--suite gpu] [--only decode,dpo] [--json]
local lucid = require "lucid"

local opt = lucid.args {
  about = "Measures this machine's limits (reading and copying memory, matrix products, oneDNN's where libdnnl.so.2 is\n"
    .. "installed) and, as a share of them, what lucid does. What memory limits is timed right behind reading or copying,\n"
    .. "a product right behind oneDNN's of its shape, and compared with that round by round; other work, with the best of\n"
    .. "all products. Shares are withheld while others keep more than 0.3 cores busy, or where the middle half of what is\n"
    .. "compared, round by round or of the times, is wider than 10 %: with --json that is exit status 1.",
  common = "dtype threads json quiet",
  { "suite", "all", "cpu, gpu, or all that is here", { choices = "cpu gpu all" } },
  { "rounds", 5, "timings of every row", { whole = true, min = 1, max = 1000 } },
  { "only", table.concat(lucid.bench.GROUPS, ","), "rows, separated by commas",
    { choices = table.concat(lucid.bench.GROUPS, " "), list = true } },
  { "small", false, "sizes that test the bench and measure nothing" },
}

lucid.threads(opt.threads)
local only, results, texts, complete = {}, {}, {}, true
for name in opt.only:gmatch "[^,]+" do only[#only + 1] = name end

local function tell(text) return opt.quiet or io.stderr:write("bench: ", text, "\n") end

local function suite(device)
  local result = lucid.bench.run { device = device, dtype = opt.dtype ~= "auto" and opt.dtype or nil, rounds = opt.rounds,
    only = only, small = opt.small, tell = tell, progress = not opt.quiet }
  complete = complete and lucid.bench.complete(result)
  results[device == "cpu" and "cpu" or "gpu"] = result
  texts[#texts + 1] = lucid.bench.text(result)
end

if opt.suite ~= "gpu" then suite "cpu" end
if opt.suite ~= "cpu" then
  local here, reason = lucid.bench.gpu()
  if here then suite(here) elseif opt.suite == "gpu" then error(reason, 0) else tell("gpu: " .. reason) end
end
lucid.run.show(opt, results, table.concat(texts, "\n"))
if opt.json and not complete then error("bench: the machine was busy or rounds differed, so not every share is there", 0) end
return results
