-- A row of the bench: POPE's questions of a small LLaVA that takes as many rows a picture as LLaVA-1.5 does.
local base = require "lucid.tinyworld.base"
local model = require "lucid.model"
local models = require "lucid.bench.models"
local photos = require "lucid.bench.photos"
local pope = require "lucid.pope"
local scratch = require "lucid.bench.scratch"

local M = {}

-- Of COCO's three sets: 18 questions a picture, of which a little over ten differ.
local SETS, EACH = { "random", "popular", "adversarial" }, 6
local THINGS = { "car", "tree", "dog", "cat", "house", "boat", "lamp", "table", "cup", "ball" }
M.MOST = 8                      -- tokens of an answer

-- The n-th picture's things in each set: half of them are asked for in all three.
local function thing(set, i) return i <= EACH / 2 and i or EACH / 2 + (set - 1) * 2 + (i - EACH / 2) end

--- Question sets over pictures of a folder, as lucid.pope has them.
---@param pictures string[]      their names
---@return lucid.PopeSet[]
function M.sets(pictures)
  local sets, number = {}, 0
  for s, name in ipairs(SETS) do
    sets[s] = { name = name, path = name, questions = {} }
    for _, picture in ipairs(pictures) do
      for i = 1, EACH do
        number = number + 1
        local word = THINGS[(thing(s, i) - 1) % #THINGS + 1]
        table.insert(sets[s].questions, { question_id = number, image = picture, label = "yes",
          text = ("Is there a %s in the image?"):format(word) })
      end
    end
  end
  return sets
end

--- A model of random weights in a folder that has all that a model folder has.
---@param dir string
---@param o lucid.BenchOptions
---@return lucid.Model
function M.model(dir, o)
  base.write(dir)                        -- its tokenizer
  models.write(dir, o.size(models.SMALL, models.TINY))
  return model.open(dir, { init = true, device = o.device, dtype = o.dtype, seed = 1, template = "tiny_v1" })
end

--- Answers all questions of sets: a trunk a picture, equal questions once. The tower sees the pictures anew.
---@param m lucid.Model
---@param sets lucid.PopeSet[]
---@param images string
---@return table
function M.ask(m, sets, images)
  m:forget_features()
  local silent = { step = function() end, done = function() end }
  return pope.ask(m, sets, { images = images, generate = { max_new_tokens = M.MOST, batch = 128 },
    progress = function() return silent end })
end

local function work(o)
  local dir = scratch.new()
  local m = M.model(dir, o)
  local sets, questions = M.sets(photos.write(dir, o.size(4, 1))), 0
  for _, set in ipairs(sets) do questions = questions + #set.questions end
  return { tokens = questions, calls = 1, run = function() M.ask(m, sets, dir) end,
    close = function() scratch.remove(dir) end }
end

--- Times the rows of yes/no questions.
---@param add fun(row: lucid.BenchRow)
---@param o lucid.BenchOptions
function M.rows(add, o)
  local l = o.size(models.SMALL, models.TINY).language
  add { group = "pope", unit = "questions", about = ("POPE, 18 questions a picture, %d layers of width %d, %s"):format(l.layers,
    l.width, o.dtype), make = function() return work(o) end }
end

return M
