-- Follows README.md on a demo that has run: the numbers that it states, the commands that work on the demo's model,
-- the Lua that it shows.   bin/lucid tests/readme.lua DEMO [numbers] DEMO takes the place of runs/demo. numbers:
-- those of the demo's table have to be these to the last digit; they are of seed 1 on a CPU with AVX-512.
package.path = "./?.lua;" .. package.path
local commands = require "tests.support.commands"
local lucid = require "lucid"
local program = require "tests.support.program"

local demo, numbers = ...
local page = lucid.file.read "README.md"
local dir = demo .. "/readme"
lucid.file.mkdir(dir)

local function fail(...) error("README.md: " .. string.format(...), 0) end

-- ---- numbers -----------------------------------------------------------------------------------------------

local NAMES = { base = "before", ["HA-DPO"] = "after", ["SFT control"] = "control" }

local function check_table(report)
  local rows = 0
  for line in page:match("\n| model | SHR |[^\n]*\n|[^\n]*\n(.-)\n\n"):gmatch "[^\n]+" do
    local cells = {}
    for cell in line:gmatch "|%s*([^|]-)%s*%f[|]" do cells[#cells + 1] = cell end
    local r = report[NAMES[cells[1]]]
    local p = r.pope.adversarial
    local is = { 100 * r.shr, 100 * r.object_recall, r.sentences_per_image, 100 * p.accuracy, 100 * p.precision, 100 * p.recall }
    for i, value in ipairs(is) do
      local shown = ("%." .. #cells[i + 1]:match "%.(%d+)$" .. "f"):format(value)
      if shown ~= cells[i + 1] then fail("%s, column %d: %s is stated, and the demo gave %s", cells[1], i + 1, cells[i + 1], shown) end
    end
    rows = rows + 1
  end
  if rows ~= 3 then fail("the demo's table has %d rows", rows) end
  local pictures, questions = page:match "percentages over (%d+) pictures and ([%d,]+) questions a set"
  local shr = lucid.json.read(demo .. "/eval/before/shr/results.json").shr
  local pope = lucid.json.read(demo .. "/eval/before/pope/results.json").adversarial
  if shr.shr.n and tostring(pope.accuracy.n) ~= (questions:gsub(",", "")) then
    fail("%s questions are stated, and there were %d", questions, pope.accuracy.n)
  end
  local _, described = lucid.file.read(demo .. "/eval/before/shr/samples.jsonl"):gsub("\n", "")
  if tostring(described) ~= pictures then fail("%s pictures are stated, and there were %d", pictures, described) end
  print "README.md: the demo's numbers are those that it states"
end

-- ---- commands ------------------------------------------------------------------------------------------------

local function picture()
  local first = lucid.json.each(demo .. "/world/eval/image_data.json")()
  return demo .. "/world/eval/" .. first.url:match "[^/]+/[^/]+$"
end

-- The commands of README.md that need nothing but the demo: the REPL, help, a script, a description.
local function check_commands()
  lucid.file.write(dir .. "/cat.jpg", lucid.file.read(picture()))
  lucid.file.write(dir .. "/my_recipe.lua", 'print("my recipe")')
  local ran = 0
  for _, line in ipairs(commands.lines(commands.fenced(page, "sh"))) do
    local is_own = line:find "runs/demo" or line == "bin/lucid" or line == "bin/lucid help" or line:find "my_recipe"
    if line:find "^bin/lucid" and is_own then
      local words = line:gsub("^bin/lucid", program):gsub("runs/demo", demo):gsub("cat%.jpg", dir .. "/cat.jpg")
        :gsub("%./my_recipe", dir .. "/my_recipe")
      if os.execute(("echo '1 + 1' | %s >%s/out 2>%s/err"):format(words, dir, dir)) ~= 0 then
        fail("%s: %s", line, lucid.file.read(dir .. "/err"))
      end
      if not lucid.file.read(dir .. "/out"):find "%S" then fail("%s: it said nothing", line) end
      ran = ran + 1
    end
  end
  if ran < 4 then fail("no more than %d commands were found that the demo is enough for", ran) end
  print(("README.md: %d commands ran"):format(ran))
end

-- ---- Lua ---------------------------------------------------------------------------------------------------------

-- The Lua of README.md, with the ids and the pictures that it leaves to the reader.
local function check_lua()
  local source = commands.fenced(page, "lua")[1]:gsub("runs/demo", demo):gsub('"[ab]%.jpg"', ("%q"):format(picture()))
  local m = lucid.model(demo .. "/base")
  local question = m.template:tokens(m.tokenizer, "Is it red?")
  local function ids(answer)
    local list = { unpack(question) }
    for _, id in ipairs(m.template:answer(m.tokenizer, answer)) do list[#list + 1] = id end
    return list
  end
  local env = setmetatable({ ids_of_one_answer = ids "yes", ids_of_another = ids "no" }, { __index = _G })
  local chunk = assert(loadstring((source:gsub("score_from = %d+", "score_from = " .. #question + 1)), "=README.md"))
  setfenv(chunk, env)()
  print "README.md: its Lua ran"
end

check_commands()
check_lua()
if numbers then check_table(lucid.json.read(demo .. "/report.json")) end
