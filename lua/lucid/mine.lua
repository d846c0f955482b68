-- Mining: from a model's own descriptions of annotated pictures to hallucination-aware preference data, in stages. Each
-- stage is a file in mine/ and writes one of JSON lines, OUT/stages/N-NAME.jsonl, a picture a line, that can be read and edited:
--
--   1 select      pictures and what is annotated of them
--   2 describe    the model's own descriptions
--   3 correct     a judge's verdict on every sentence, and the text as it should be
--   4 rewrite     both texts again, in one style
--   5 questions   yes/no questions with a right and a hallucinated answer
--   6 check       the model's answers to them
--   7 gate        what is good enough to train on
--   8 write       desc_data.json, pope_data.json, report.json, report.txt
--
--   lucid.mine.run(opt)                        -- with the options of recipes/mine.lua
--   lucid.mine.run(opt, { judge = judge })     -- and a judge, or a model, of one's own
local args = require "lucid.args"
local cache = require "lucid.cache"
local dist = require "lucid.dist"
local describe = require "lucid.mine.describe"
local file = require "lucid.file"
local judges = require "lucid.judge"
local keys = require "lucid.keys"
local models = require "lucid.model"
local nouns = require "lucid.nouns"
local recipe = require "lucid.recipe"
local report = require "lucid.mine.report"
local run_folder = require "lucid.run"
local generate = require "lucid.generate"
local select_stage = require "lucid.mine.select"
local sources = require "lucid.mine.source"
local stage = require "lucid.mine.stage"

local M = {}

--- The stages, in their order.
M.STAGES = { "select", "describe", "correct", "rewrite", "questions", "check", "gate", "write" }

--- Lets a model describe records' pictures: lucid.mine.describe's `records`.
M.describe = describe.records

--- Opens annotated pictures: lucid.mine.source's `open`.
M.source = sources.open

--- The noun table that options name: --nouns, IMAGES/categories.json, or what the annotations name themselves. nil: there
--- is none; only language models know what is meant then.
---@param opt table               nouns, images, annotations
---@param source fun(): lucid.MineSource
---@return table|nil
function M.nouns(opt, source)
  local beside = opt.images .. "/categories.json"
  if opt.nouns ~= "" then return nouns.read(opt.nouns) end
  if file.exists(beside) then return nouns.read(beside) end
  local categories = opt.annotations ~= "" and source().categories or {}
  return #categories > 0 and nouns.new(categories) or nil
end

local NUMBER = {}
for i, name in ipairs(M.STAGES) do NUMBER[name] = i end

---@class lucid.Mining
---@field opt table         the recipe's options
---@field out string
---@field cache string|nil
---@field state any         of the stage that is at work
local Run = {}
Run.__index = Run

--- A stage's file, or its stamp ("json").
---@param name string
---@param kind string
---@return string
function Run:file(name, kind) return ("%s/stages/%d-%s.%s"):format(self.out, NUMBER[name], name, kind or "jsonl") end

--- Says a line, unless the run is quiet.
---@param ... any
function Run:say(...)
  if not self.opt.quiet and dist.first() then io.stderr:write("mine: ", string.format(...), "\n") end
end

-- ---- what is opened when it is first needed -----------------------------------------------------------

--- The annotated pictures.
---@return table
function Run:source()
  self.opened_source = self.opened_source or sources.open(self.opt, self.cache)
  return self.opened_source
end

--- The noun table, or nil: only language models know what is meant then.
---@return table
function Run:nouns()
  if self.found_nouns == nil then
    self.found_nouns = M.nouns(self.opt, function() return self:source() end) or false
  end
  return self.found_nouns or nil
end

--- The judge.
---@return table
function Run:judge()
  self.opened_judge = self.opened_judge or judges.open(self.opt, { nouns = self:nouns(), quiet = true })
  return self.opened_judge
end

--- What a request of a kind is worded by: --prompt-KIND, or recipes/prompts/KIND.lua.
---@param kind string
---@return function
function Run:prompt(kind)
  local known = self.prompts[kind]
  if not known then
    local path = self.opt["prompt_" .. kind]
    known = recipe.load(path ~= "" and path or "prompts/" .. kind)
    if type(known) ~= "function" then error(("prompt %s: the file returns a %s, not a function"):format(path, type(known)), 0) end
    self.prompts[kind] = known
  end
  return known
end

--- The model that is mined.
---@return table
function Run:model()
  local opt = self.opt
  self.opened_model = self.opened_model or models(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant,
    template = opt.template, adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
  return self.opened_model
end

--- Its descriptions, by the settings of the options.
---@param requests table[]
---@return table[]
function Run:generate(requests)
  local settings = generate.settings(self.opt)
  settings.batch = self.opt.batch
  return self:model():generate_all(requests, settings)
end

-- ---- running -----------------------------------------------------------------------------------------

local function place(option, name, default)
  if name == "" then return default end
  return NUMBER[name] or args.usage(("--%s: '%s' is none of %s"):format(option, name, table.concat(M.STAGES, ", ")))
end

-- Names the noun table that holds; refuses what the options cannot ask for.
local function check(self)
  local opt = self.opt
  if opt.questions == "judge" and opt.judge == "annotation" then
    args.usage("--questions judge: the annotation judge writes none; --questions annotations does, from what is annotated")
  end
  if opt.captions ~= "" and not sources.is_coco(opt) then
    args.usage("--captions: only COCO's annotations (--annotations instances_*.json) have them beside")
  end
  if opt.min_ratio > opt.max_ratio then args.usage("--min-ratio is above --max-ratio") end
  local beside = opt.images .. "/categories.json"
  if opt.nouns == "" and file.exists(beside) then opt.nouns = beside end
  if not self:nouns() and (opt.judge == "annotation" or opt.questions == "annotations") then
    error(("there is no noun table: --nouns names one, or put %s/categories.json there; without one a language model judges (--judge) and asks (--questions judge)"):format(opt.images), 0)
  end
end

local function stage_of(i)
  local found = require("lucid.mine." .. M.STAGES[i])
  found.name = M.STAGES[i]
  return found
end

-- Removes what a killed run was just about to write.
local function tidy(folder)
  file.tidy(folder)
  for _, name in ipairs(file.list(folder)) do
    if name:find "%.part$" then file.remove(folder .. "/" .. name) end
  end
end

local function holds_run(out) return file.list(out .. "/stages") and #file.list(out .. "/stages") > 0 end

-- Says what the judge has counted in this run, requests and what it lost, and what all its answers cost.
local function tell_judge(self)
  local counts, list = self.opened_judge and self.opened_judge.counts or {}, {}
  for _, name in ipairs(keys(counts)) do list[#list + 1] = ("%s %s"):format(tostring(counts[name]), name) end
  if #list > 0 then self:say("the judge, in this run: %s", table.concat(list, ", ")) end
  local spent = self.opened_judge and self.opened_judge.budget
  if spent then self:say("the judge, in all: %s", spent:text()) end
end

-- Makes the run's folder ready: what is made anew goes.
local function begin(self, from)
  file.mkdir(self.out .. "/stages")
  tidy(self.out .. "/stages")
  for i = from, #M.STAGES do stage.clear(self, stage_of(i)) end
  run_folder.open(self.out, "mine", self.opt)
end

-- Does what is left of the stages from one to another.
local function go(self, from, upto)
  for i = 1, from - 1 do stage.refuse(self, stage_of(i)) end         -- before anything is changed
  dist.wait()
  if dist.first() then begin(self, from) end
  dist.wait()
  for i = 1, upto do stage.run(self, stage_of(i)) end
  tell_judge(self)
end

-- The same, while no other program may.
local function go_alone(self, ...)
  local taken = dist.first() and run_folder.hold(self.out)
  local ok, reason = pcall(go, self, ...)
  if taken then run_folder.release(self.out) end
  if not ok then error(reason, 0) end
end

--- Mines, as the options of recipes/mine.lua say: what is there already is not done again.
---@param opt table
---@param own table|nil         model, judge: objects in place of what the options name
---@return table|nil report     nil: --until a stage before the last
function M.run(opt, own)
  local self = setmetatable({ opt = opt, out = opt.out, cache = cache.folder(opt.cache), prompts = {},
    opened_model = own and own.model, opened_judge = own and own.judge }, Run)
  local from, upto = place("from", opt.from, #M.STAGES + 1), place("until", opt["until"], #M.STAGES)
  if upto < from and opt.from ~= "" then args.usage("--until is before --from") end
  if opt.overwrite and (opt.resume or opt.from ~= "") then args.usage("--overwrite excludes --resume and --from") end
  if holds_run(opt.out) and not (opt.resume or opt.overwrite or opt.from ~= "") then
    error(("%s holds a run already; --resume goes on with it, --from STAGE makes that stage and what follows anew, --overwrite all"):format(
      opt.out), 0)
  end
  check(self)
  go_alone(self, opt.overwrite and 1 or from, upto)
  if upto < #M.STAGES then return nil end
  return report.read(opt.out)
end

--- Why there is nothing to train on in what was mined, or nil.
---@param numbers table     of M.run
---@param out string
M.fault = report.fault

--- The counts of M.run as lines of text.
M.text = report.text

--- The pictures that a selection takes, in Lua of one's own: a list of { image_id, image, objects, regions, facts }.
---@param root string     Visual Genome's
---@param opt table|nil   limit, seed, min_objects, max_objects, cache
---@return table[]
function M.records(root, opt)
  opt = opt or {}
  local source, list = sources.open({ images = root }, opt.cache), {}
  for i, id in ipairs((select_stage.choose(source, { min_objects = opt.min_objects or 1, max_objects = opt.max_objects or 100,
    min_texts = 0, limit = opt.limit or 0, seed = opt.seed or 0 }))) do list[i] = source:get(id) end
  return list
end

return M
