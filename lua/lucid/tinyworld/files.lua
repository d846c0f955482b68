-- The tiny world on disk, in the published formats: every split is a Visual Genome root (pictures,
-- image_data.json, region_descriptions.json, objects.json) with a noun table; beside it LLaVA's
-- conversations, POPE's question files and SHR's lists, whatever the split is for.
--
--   sft    stereotyped pictures, described and asked about by a careful and by a habitual annotator
--   clean  more of these, by the careful one alone: how far training has come
--   wild   pictures in which partners are often missing: what is mined
--   eval   more of these, seen by nobody: what is measured
local image = require "lucid.image"
local json = require "lucid.json"
local captions = require "lucid.tinyworld.captions"
local draw = require "lucid.tinyworld.draw"
local jsonl = require "lucid.data.jsonl"
local native = require "lucid.native"
local file = require "lucid.file"
local pope = require "lucid.data.pope"
local world = require "lucid.tinyworld.world"

local M = {}

--- How many pictures, how often a trigger brings its partner, the first image id, what is written.
M.SPLITS = {
  sft = { count = 5000, partner = 0.75, first_id = 1, annotators = { "clean", "biased" } },
  clean = { count = 200, partner = 0.75, first_id = 100001, annotators = { "clean" } },
  wild = { count = 500, partner = 0.30, first_id = 200001 },
  eval = { count = 500, partner = 0.30, first_id = 300001, benchmarks = true },
}
M.ORDER = { "sft", "clean", "wild", "eval" }

M.QUESTIONS = 6               -- yes/no questions a picture
local QUALITY = 95            -- of JPEG: full chroma
local FOLDER = "VG_100K"
local URL = "https://example.org/tiny-world/"

--- The scenes of a split: a function of the seed and the split's numbers alone.
---@param split string
---@param seed integer
---@param count integer
---@return table[]
function M.scenes(split, seed, count)
  local s = M.SPLITS[split] or error("tiny world: there is no split " .. tostring(split), 2)
  local list = {}
  for i = 1, count or s.count do
    list[i] = world.scene(world.rng(seed, split, "scene", i), s.partner)
  end
  return list
end

local function picture_name(id, format) return ("%s/%d.%s"):format(FOLDER, id, format) end

-- ---- Visual Genome --------------------------------------------------------------------------------------

local function draw_pictures(dir, split, seed, scenes, format, progress)
  native.check(native.C.lc_make_folder(dir .. "/" .. FOLDER))
  local first_id = M.SPLITS[split].first_id
  for i, scene in ipairs(scenes) do
    native.scope(function()
      local picture = draw.picture(scene, seed, world.stream(split, "noise", i))
      image.save(picture, dir .. "/" .. picture_name(first_id + i - 1, format), { quality = QUALITY })
    end)
    if progress then progress(i, #scenes) end
  end
end

local function annotate(dir, split, scenes, format)
  local images, regions, objects = json.array {}, json.array {}, json.array {}
  local number = 0
  for i, scene in ipairs(scenes) do
    local id = M.SPLITS[split].first_id + i - 1
    images[i] = { image_id = id, url = URL .. picture_name(id, format), width = world.SIDE,
      height = world.SIDE }
    local phrases, things = json.array {}, json.array {}
    for k, o in ipairs(scene.objects) do
      number = number + 1
      local x, y, w, h = world.box(o)
      phrases[k] = { region_id = number, image_id = id, x = x, y = y, width = w, height = h,
        phrase = ("a %s %s"):format(o.colour, o.name) }
      things[k] = { object_id = number, x = x, y = y, w = w, h = h, names = { o.name },
        attributes = { o.colour } }
    end
    regions[i] = { id = id, regions = phrases }
    objects[i] = { image_id = id, objects = things }
  end
  json.write(dir .. "/image_data.json", images)
  json.write(dir .. "/region_descriptions.json", regions)
  json.write(dir .. "/objects.json", objects)
end

--- The noun table of the world: closed, for its pictures hold nothing else.
---@return table
function M.categories()
  local list, colours = {}, {}
  for i, name in ipairs(world.NAMES) do list[i] = { name = name, synonyms = json.array {} } end
  for i, colour in ipairs(world.COLOURS) do colours[i] = colour.name end
  return { closed = true, colours = colours, categories = list }
end

-- ---- conversations ----------------------------------------------------------------------------------------

local function converse(dir, split, seed, scenes, format, annotator)
  local described, asked = json.array {}, json.array {}
  local opt = { biased = annotator == "biased" }
  for i, scene in ipairs(scenes) do
    local id = M.SPLITS[split].first_id + i - 1
    local name = picture_name(id, format)
    local r = world.rng(seed, split, "caption", i)
    local instruction = captions.INSTRUCTIONS[r:integer(#captions.INSTRUCTIONS)]
    described[i] = jsonl.conversation(("d%d"):format(id), name, instruction,
      (captions.describe(scene, r, opt)))
    r = world.rng(seed, split, "questions", i)
    for k, q in ipairs(captions.questions(scene, r, M.QUESTIONS, opt)) do
      asked[#asked + 1] = jsonl.conversation(("q%d_%d"):format(id, k), name, q.question, q.answer)
    end
  end
  json.write(("%s/captions_%s.json"):format(dir, annotator), described)
  json.write(("%s/questions_%s.json"):format(dir, annotator), asked)
end

-- ---- benchmarks ---------------------------------------------------------------------------------------------

--- What POPE's sampling and mining look at: { image, names } of every scene.
---@param split string
---@param scenes table[]
---@param format string
---@return table[]
function M.contents(split, scenes, format)
  local list = {}
  for i, scene in ipairs(scenes) do
    local names = {}
    for k, o in ipairs(scene.objects) do names[k] = o.name end
    list[i] = { image = picture_name(M.SPLITS[split].first_id + i - 1, format or "jpg"), names = names }
  end
  return list
end

local function write_pope(dir, split, seed, scenes, format, statistics)
  native.check(native.C.lc_make_folder(dir .. "/pope"))
  for _, set in ipairs(pope.SETS) do
    local list = pope.sample(M.contents(split, scenes, format),
      { set = set, seed = seed, statistics = statistics })
    file.write(("%s/pope/coco_pope_%s.json"):format(dir, set), pope.lines(list))
  end
end

local function write_shr(dir, split, scenes)
  native.check(native.C.lc_make_folder(dir .. "/shr"))
  local images, lines = {}, {}
  for i, scene in ipairs(scenes) do
    local id = M.SPLITS[split].first_id + i - 1
    local _, sentences = captions.describe(scene, nil, { style = 1 })
    images[i] = { image_id = id }
    lines[i] = json.encode { [tostring(id)] = sentences } .. "\n"
  end
  json.write(dir .. "/shr/val_images_final.json", images)
  file.write(dir .. "/shr/shr_factual_part1.jsonl", table.concat(lines))
end

---@class lucid.TinySplit
---@field dir string            the root to write
---@field split string          "sft", "clean", "wild" or "eval"
---@field seed integer
---@field count integer|nil     pictures
---@field format string|nil     "jpg" (default) or "png"
---@field seen integer|nil      eval: how many sft pictures POPE's statistics come from
---@field progress fun(done: integer, total: integer)|nil

--- Writes one split.
---@param opt lucid.TinySplit
function M.write(opt)
  local s = M.SPLITS[opt.split]
  local format = opt.format or "jpg"
  local scenes = M.scenes(opt.split, opt.seed, opt.count)
  draw_pictures(opt.dir, opt.split, opt.seed, scenes, format, opt.progress)
  annotate(opt.dir, opt.split, scenes, format)
  json.write(opt.dir .. "/categories.json", M.categories())
  for _, annotator in ipairs(s.annotators or {}) do
    converse(opt.dir, opt.split, opt.seed, scenes, format, annotator)
  end
  if s.benchmarks then
    local seen = M.contents("sft", M.scenes("sft", opt.seed, opt.seen), format)
    write_pope(opt.dir, opt.split, opt.seed, scenes, format, seen)
    write_shr(opt.dir, opt.split, scenes)
  end
end

--- Which thing is in which cell, from a picture's annotated objects: a list of { cell, name,
--- colour, position }, cells counted from 1 in reading order.
---@param objects table[]    { name, attributes, box }, as lucid.data.vg gives them
---@return table[]
function M.cells(objects)
  local list = {}
  for i, o in ipairs(objects) do
    local column = math.floor((o.box[1] + o.box[3]) / 2 * world.CELLS) + 1
    local row = math.floor((o.box[2] + o.box[4]) / 2 * world.CELLS) + 1
    list[i] = { cell = (row - 1) * world.CELLS + column, name = o.name, colour = o.attributes[1],
      position = world.position(row, column) }
  end
  return list
end

return M
