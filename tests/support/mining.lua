-- Mining without weights: a model that says what it is told to, a judge that is a language model for all that mining sees
-- of it, the options of recipes/mine.lua, and annotations as plain JSON lines.
local annotation = require "lucid.judge.annotation"
local file = require "lucid.file"
local json = require "lucid.json"
local nouns = require "lucid.nouns"
local program = require "tests.support.program"

local M = {}

--- A closed world: what is not annotated is not there.
M.nouns = nouns.new({ { name = "car" }, { name = "road" }, { name = "sun" }, { name = "cloud" }, { name = "dog" },
  { name = "ball" } }, { closed = true })

--- An annotated thing.
function M.thing(name, colour) return { name = name, attributes = json.array { colour }, box = json.array { 0.1, 0.1, 0.2, 0.2 } } end

--- Four pictures, and what is said of them: something made up twice, nothing, and nothing else.
function M.pictures()
  return {
    { image_id = 11, objects = { M.thing("car", "red") },
      response = "There is a car at the top left in red. There is a road at the top left in blue." },
    { image_id = 12, objects = { M.thing("sun", "red"), M.thing("dog", "green") },
      response = "The sun at the top left is red. The ball at the top left is red." },
    { image_id = 13, objects = { M.thing("sun", "red"), M.thing("cloud", "red") },
      response = "The sun at the top left is red. The cloud at the top left is red." },
    { image_id = 14, objects = {}, response = "The road at the top left is red." },
  }
end

--- Writes DIR/things.jsonl and empty pictures DIR/N.png.
function M.write(dir, pictures)
  local list = {}
  for i, p in ipairs(pictures) do
    file.write(("%s/%d.png"):format(dir, p.image_id), "")
    list[i] = json.encode { image_id = p.image_id, image = p.image_id .. ".png", objects = json.array(p.objects),
      sentences = json.array(p.sentences) } .. "\n"
  end
  file.write(dir .. "/things.jsonl", table.concat(list))
  local categories = {}
  for i, name in ipairs(M.nouns.names) do categories[i] = { name = name } end
  json.write(dir .. "/categories.json", { closed = true, categories = categories })
end

--- A model that gives each picture its response, and answers every question with yes.
function M.model(pictures)
  local model = { kind = "llava", asked = 0 }
  function model.generate_all(self, requests)
    local answers = {}
    for i, r in ipairs(requests) do
      self.asked = self.asked + 1
      local id = tonumber(r.image:match "(%d+)%.png$")
      answers[i] = { text = "Yes, there is." }
      for _, p in ipairs(pictures) do
        if p.image_id == id and not r.prompt:find("?", 1, true) or p.image_id == id and r.prompt:find "describe" then
          answers[i] = { text = p.response }
        end
      end
    end
    return answers
  end
  return model
end

--- The options of recipes/mine.lua with their defaults, but for those that are given.
function M.options(dir, more)
  local opt = { model = dir, images = dir, annotations = dir .. "/things.jsonl", captions = "", out = dir .. "/out", cache = "none",
    device = "cpu", seed = 8, limit = 0, batch = 2, quiet = true, given = {}, max_new_tokens = 64, beams = 1,
    from = "", ["until"] = "", resume = false, overwrite = false, nouns = "",
    min_objects = 0, max_objects = 100, min_texts = 0, skip_bad = false,
    variants = 3, complete = false, omission = 0, omit = 1, prompt_correct = "", prompt_rewrite = "", form = "list",
    questions = "annotations", present = 2, absent = 2, statistics = "", check = true, prompt_questions = "",
    verify = "corrected", min_ratio = 0, max_ratio = 2, balance = 1, duplicates = true, prompt_judge = "",
    judge = "annotation", judge_retries = 2 }
  for name, value in pairs(more or {}) do opt[name] = value end
  local written = {}                  -- apart: a table that grows while it is gone through may hide some of its names
  for name, value in pairs(opt) do written[name], written[name:gsub("_", "-")] = value, value end
  return written
end

--- The lines of a stage's file.
function M.lines(out, name)
  local list = {}
  for r in json.each(("%s/stages/%s.jsonl"):format(out, name)) do list[#list + 1] = r end
  return list
end

--- Every file of a run but config.json: its hash, by name.
function M.files(out)
  local list = {}
  for _, folder in ipairs { "", "/stages" } do
    for _, name in ipairs(file.list(out .. folder)) do
      local path = out .. folder .. "/" .. name
      if name ~= "config.json" and file.kind(path) == "file" then list[folder .. "/" .. name] = file.hash(path) end
    end
  end
  return list
end

--- Runs lucid mine on DIR/model and DIR/world, with the judge that talks: its exit status and what it said.
---@param dir string
---@param out string
---@param more string|nil       further words
---@param before string|nil     what the program is started by
function M.run(dir, out, more, before)
  local words = ("%s %s mine --model %s/model --images %s/world --out %s --judge tests/support/talker.lua --questions judge"
    .. " --omission 1 --verify all --batch 3 --max-new-tokens 40 --temperature 1 --threads 1 --seed 4 --quiet %s 2>%s/stderr"):format(
    before or "", program, dir, dir, out, more or "", dir)
  return os.execute(words), file.read(dir .. "/stderr")
end

--- The annotation judge of the closed world.
function M.judge() return annotation { nouns = M.nouns } end

return M
