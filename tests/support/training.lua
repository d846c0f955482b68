-- Tiny training runs for specs: a model, a small world, pairs of both kinds and conversations; and the commands on them.
local file = require "lucid.file"
local files = require "lucid.tinyworld.files"
local json = require "lucid.json"
local program = require "tests.support.program"
local tiny = require "tests.support.tiny"

local M = {}

local COLOURS = { "red", "blue", "green", "yellow" }

--- Makes DIR/model, DIR/world, DIR/pairs and DIR/talks.json.
---@param dir string
function M.world(dir)
  tiny.model(dir .. "/model", 3)
  files.write { dir = dir .. "/world", split = "eval", seed = 3, count = 6, seen = 24 }
  local desc, pope, talks = json.array {}, json.array {}, json.array {}
  for i = 1, 6 do
    local id, colour = 300000 + i, COLOURS[i % 4 + 1]
    desc[i] = { image_id = id, chosen = { ("There is a %s car."):format(colour) }, rejected = { "There is a blue cat." } }
    pope[i] = { image_id = id, question = "Is there a car in the image?", answer = "yes", chosen = "Yes.",
      reject = ("No, there is a %s cat."):format(colour), correct = false }
    talks[i] = { id = tostring(i), image = ("VG_100K/%d.jpg"):format(id), conversations = json.array {
      { from = "human", value = "<image>\nWhat is there?" }, { from = "gpt", value = ("A %s car."):format(colour) } } }
  end
  file.mkdir(dir .. "/pairs")
  json.write(dir .. "/pairs/desc_data.json", desc)
  json.write(dir .. "/pairs/pope_data.json", pope)
  json.write(dir .. "/talks.json", talks)
end

--- Makes DIR/cap of three captioned pictures of the world, in CC-SBU's form.
---@param dir string
function M.captions(dir)
  file.mkdir(dir .. "/cap/image")
  local list = json.array {}
  for i, caption in ipairs { "A red car.", "There is a blue cat in the image.", "x" } do
    list[i] = { image_id = tostring(i), caption = caption }
    file.write(("%s/cap/image/%d.jpg"):format(dir, i), file.read(("%s/world/VG_100K/%d.jpg"):format(dir, 300000 + i)))
  end
  json.write(dir .. "/cap/filter_cap.json", { annotations = list })
end

--- The words of a preference run of the world: "lucid llava ...".
---@param out string
---@param more string|nil     further options
function M.llava(dir, out, more)
  return ("llava --model %s/model --images %s/world --data %s/pairs --steps 6 --rank 2 --alpha 4 --lr 1e-2 --batch 3"
    .. " --seed 7 --threads 1 --save-steps 1 --out %s %s"):format(dir, dir, dir, out, more or "--quiet")
end

--- The words of a supervised run that trains the projector whole.
function M.sft(dir, out, more)
  return ("sft --model %s/model --images %s/world --data %s/talks.json --train projector --steps 6 --lr 1e-2 --batch 4"
    .. " --seed 7 --threads 1 --save-steps 1 --out %s %s"):format(dir, dir, dir, out, more or "--quiet")
end

--- Runs the program: its exit status and what it wrote to stderr.
---@param words string
---@param dir string          where stderr goes meanwhile
---@param before string|nil   of the command line: "timeout 5"
function M.run(words, dir, before)
  local path = dir .. "/stderr"
  local ending = os.execute(("%s %s %s >/dev/null 2>%s"):format(before or "", program, words, path))
  return ending, file.read(path)
end

--- The records of a run's log.
---@param out string
---@return table[]
function M.log_of(out)
  local list = {}
  for record in json.each(out .. "/log.jsonl") do list[#list + 1] = record end
  return list
end

return M
