-- Which recipes the parts that were found are enough for: the command line, or what it still needs.
local catalogue = require "lucid.doctor.catalogue"
local data = require "lucid.doctor.data"
local models = require "lucid.doctor.models"

local M = {}

---@class lucid.DoctorRecipe
---@field recipe string
---@field command string|nil                        where nothing is missing
---@field lacks { what: string, from: string }[]    parts that were not found
---@field broken string[]                           paths of parts that are there and not whole

-- ---- models ------------------------------------------------------------------------------------------------------

local function of_kind(parts, kind)
  local list = {}
  for _, p in ipairs(parts) do
    if p.kind == kind then list[#list + 1] = p end
  end
  return list
end

-- The best of several parts of a kind: a whole one, and of decoders one that is as wide as the projection.
local function choose(parts, kind, width)
  local best
  for _, p in ipairs(of_kind(parts, kind)) do
    local fits = not width or p.width == width
    if fits and (not best or (p:is_whole() and not best:is_whole())) then best = p end
  end
  return best
end

-- The parts of one way to have a model: by kind, and the kinds that are missing.
local function gather(parts, way)
  local chosen, missing, bridge = {}, {}, nil
  for kind in way:gmatch "%S+" do
    if kind == "joined" or kind == "qformer" then bridge = choose(parts, kind) end
  end
  for kind in way:gmatch "%S+" do
    chosen[kind] = choose(parts, kind, kind == "llama" and bridge and bridge.width or nil)
    if not chosen[kind] then missing[#missing + 1] = kind end
  end
  return chosen, missing
end

-- LLaVA's own folder may hold its tower already, as lucid export writes it.
local function own_tower(llava)
  if not (llava and llava.found) then return false end
  for _, name in ipairs(llava.found.checkpoint:names()) do
    if name:find "vision_model%.encoder%.layers%.0%." then return true end
  end
  return false
end

---@class lucid.DoctorModel
---@field kind string
---@field parts table<string, lucid.Part>
---@field missing string[]         kinds of parts
---@field any boolean              some part is there
---@field fits boolean|nil         every name and shape is what config.json asks for
---@field main lucid.Part|nil      the folder with config.json

-- The way to a kind of model of which least is missing; of equal ones the one that is begun.
local function best_way(parts, kind)
  local best
  for _, way in ipairs(catalogue.MODELS[kind]) do
    local chosen, missing = gather(parts, way)
    if own_tower(chosen.llava) and missing[1] == "clip" then missing = {} end
    local main = chosen.llava_hf or chosen.llava or chosen.instructblip_hf or chosen.llama
    local any = next(chosen) ~= nil
    if not best or #missing < #best.missing or #missing == #best.missing and any and not best.any then
      best = { kind = kind, parts = chosen, missing = missing, main = main, any = any }
    end
  end
  return best
end

-- Every name and shape of a model that is whole, once.
local function fit(model)
  if #model.missing > 0 then return end
  for _, p in pairs(model.parts) do
    if not p:is_whole() then return end
  end
  model.fits = models.fit(model.parts, model.main)
  if model.fits then model.main:note("every name and shape fits: a model of kind %s", model.kind) end
end

--- The models that the parts make: of each kind the best one.
---@param parts lucid.Part[]
---@return table<string, lucid.DoctorModel>
function M.models(parts)
  local list = {}
  for kind in pairs(catalogue.MODELS) do
    list[kind] = best_way(parts, kind)
    fit(list[kind])
  end
  return list
end

-- ---- command lines -------------------------------------------------------------------------------------------------

local function quoted(path) return path:find "[^%w%._/,%-]" and "'" .. path:gsub("'", "'\\''") .. "'" or path end

local function model_words(model)
  local p = model.parts
  local words = { "--model " .. quoted(model.main.path) }
  local tower, bridge = p.eva or (not own_tower(p.llava) and p.clip), p.joined or p.qformer
  if tower then words[#words + 1] = "--vision " .. quoted(tower.path) end
  if bridge then words[#words + 1] = "--bridge " .. quoted(bridge.path) end
  if p.bert and p.qformer then words[#words + 1] = "--bert " .. quoted(p.bert.path) end
  return table.concat(words, " ")
end

-- What a recipe's data are called on its command line.
local WORDS = {
  hadpo = function(p) return "--data " .. quoted(p.path) end,
  shr = function(p) return "--data " .. quoted(p.path) .. " --judge openai" end,
  vg = function(p) return "--images " .. quoted(p.path) end,
  ccsbu = function(p) return "--captions " .. quoted(p.path) end,
  pope = function(p)
    local files = {}
    for i, name in ipairs(p:entry().files) do files[i] = p:at(name) end
    return "--questions " .. quoted(table.concat(files, ",")) .. " --images " .. quoted(p.root or "")
  end,
  coco = function() return nil end,
}

-- The part of a kind that a recipe takes; HA-DPO's pairs are those of its model.
local function data_part(parts, kind, model)
  if kind ~= "hadpo" then return choose(parts, kind) end
  local mine = {}
  for _, p in ipairs(of_kind(parts, kind)) do
    if p.model == model or p.path:match("[^/]+$"):lower():find(model, 1, true) then mine[#mine + 1] = p end
  end
  return choose(mine, kind)
end

local function lack(result, kind, model)
  local entry = catalogue.PARTS[kind]
  local files = { unpack(entry.files or {}) }
  files[#files + 1] = entry.pictures or entry.weights and "weights" or nil
  result.lacks[#result.lacks + 1] = { what = ("%s (%s)"):format(entry.title, table.concat(files, ", ")),
    from = kind == "hadpo" and catalogue.hadpo_from(model) or entry.from }
end

-- Any whole model, for a recipe that works on all; else the one of which most is there.
local function any_model(models_of)
  local best
  for _, kind in ipairs { "llava", "minigpt4", "instructblip" } do
    local m = models_of[kind]
    if m.fits then return m end
    if m.any and (not best or #m.missing < #best.missing) then best = m end
  end
  return best or models_of.llava
end

local function judge(recipe, parts, models_of)
  local model = recipe.kind and models_of[recipe.kind] or any_model(models_of)
  local result = { recipe = recipe.name, lacks = {}, broken = {} }
  local words, genome = { "lucid " .. recipe.name }, nil
  local function take(p) if not p:is_whole() then result.broken[#result.broken + 1] = p.path end end
  for _, kind in ipairs(model.missing) do lack(result, kind, model.kind) end
  for _, p in pairs(model.parts) do take(p) end
  if #model.missing == 0 then words[2] = model_words(model) end
  for kind in recipe.data:gmatch "%S+" do
    local p = kind == "vg" and genome or data_part(parts, kind, model.kind)
    genome = p and p.genome or genome
    local elsewhere = kind == "coco" and result.root        -- the pictures are another root's
    if p then
      take(p)
      if kind == "pope" then result.root = p.root end
      words[#words + 1] = WORDS[kind](p)
    elseif not elsewhere then lack(result, kind, model.kind) end
  end
  table.sort(result.broken)
  if #result.lacks == 0 and #result.broken == 0 then
    words[#words + 1] = "--out runs/" .. recipe.name
    result.command = table.concat(words, " ")
  end
  result.root = nil
  return result
end

-- Whether some of what a recipe needs, and nothing else that is found, is there.
local function begun(recipe, parts, models_of)
  if recipe.name == "mine" then return false end
  if recipe.kind then return models_of[recipe.kind].any or data_part(parts, "hadpo", recipe.kind) ~= nil end
  return choose(parts, recipe.name) ~= nil
end

--- What the parts are enough for.
---@param parts lucid.Part[]
---@param models_of table<string, lucid.DoctorModel>
---@param asked table<string, boolean>|nil     recipes; nil: those of which a model or the data are there
---@return lucid.DoctorRecipe[]
function M.of(parts, models_of, asked)
  local list = {}
  for _, recipe in ipairs(catalogue.RECIPES) do
    if asked and asked[recipe.name] or not asked and begun(recipe, parts, models_of) then
      list[#list + 1] = judge(recipe, parts, models_of)
    end
  end
  return list
end

-- Of several copies and parts of Visual Genome the one that knows most of a data set's pictures.
local function genome_of(p, genomes)
  local best, most = nil, -1
  for _, genome in ipairs(genomes) do
    local known = 0
    for id in pairs(p.ids) do known = known + (genome.images[id] and 1 or 0) end
    if known > most or known == most and genome:is_whole() and not best:is_whole() then best, most = genome, known end
  end
  return best
end

--- Looks for the pictures that data sets name among those that were found.
---@param parts lucid.Part[]
---@param opt { check: boolean|nil }
function M.pictures(parts, opt)
  local roots, genomes, asked = of_kind(parts, "coco"), {}, false
  for _, p in ipairs(of_kind(parts, "vg")) do
    if p.images then genomes[#genomes + 1], roots[#roots + 1] = p, p end
  end
  for _, p in ipairs(#genomes > 0 and parts or {}) do
    if p.ids then
      p.genome, asked = genome_of(p, genomes), true
      data.against_vg(p, p.genome, opt)
    end
  end
  for _, p in ipairs(of_kind(parts, "pope")) do p.root = data.against_pictures(p, roots, opt) end
  for _, p in ipairs(of_kind(parts, "vg")) do
    data.vg_pictures(p, { check = opt.check and not asked, partly = asked })
  end
end

return M
