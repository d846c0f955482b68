-- Whether folders of data are whole: every record is read as the recipes read it, and the pictures that the records
-- name are there.
local catalogue = require "lucid.doctor.catalogue"
local ccsbu = require "lucid.data.ccsbu"
local file = require "lucid.file"
local hadpo = require "lucid.data.hadpo"
local image = require "lucid.image"
local json = require "lucid.json"
local native = require "lucid.native"
local pope = require "lucid.data.pope"
local shr = require "lucid.data.shr"
local vg = require "lucid.data.vg"

local M = {}

local SHOWN = 3               -- names of pictures in a message

-- ---- pictures ------------------------------------------------------------------------------------------------------

local function decode(path)
  native.scope(function() image.load(path) end)
end

--- Looks for pictures: which are not there, and which are there and empty, or cannot be decoded where that is asked
--- for.
---@param paths string[]
---@param check boolean|nil      decode every one
---@return string[] missing, { path: string, reason: string }[] bad
function M.pictures(paths, check)
  local missing, bad = {}, {}
  for _, path in ipairs(paths) do
    if file.kind(path) ~= "file" then missing[#missing + 1] = path
    elseif file.size(path) == 0 then bad[#bad + 1] = { path = path, reason = "it has 0 bytes" }
    elseif check then
      local ok, reason = pcall(decode, path)
      if not ok then bad[#bad + 1] = { path = path, reason = reason } end
    end
  end
  return missing, bad
end

local function short(root, path) return path:sub(1, #root + 1) == root .. "/" and path:sub(#root + 2) or path end

-- "12 of 500 pictures (VG_100K/1.jpg, VG_100K/2.jpg, VG_100K/3.jpg, ...)"
local function counted(root, missing, all)
  local names = {}
  for i = 1, math.min(SHOWN, #missing) do names[i] = short(root, missing[i]) end
  local more = #missing > SHOWN and ", ..." or ""
  return ("%d of %d pictures (%s%s)"):format(#missing, all, table.concat(names, ", "), more)
end

-- Notes what became of pictures; missing ones as missing or, where others tell what is needed, as worth knowing.
local function tell_pictures(part, root, paths, opt)
  local missing, bad = M.pictures(paths, opt.check)
  local good = #paths - #missing - #bad
  if good > 0 then part:has("%d pictures", good) end
  for i = 1, math.min(SHOWN, #bad) do part:spoils(short(root, bad[i].path), bad[i].reason) end
  if #bad > SHOWN then part:spoils("pictures", ("%d more are empty or damaged"):format(#bad - SHOWN)) end
  if #missing == 0 then return end
  if opt.partly then part:note("not there: %s", counted(root, missing, #paths))
  else part:lacks(counted(root, missing, #paths), opt.from) end
end

-- ---- Visual Genome and COCO -----------------------------------------------------------------------------

local function require_files(part)
  local all = true
  for _, name in ipairs(part:entry().files) do
    if file.kind(part:at(name)) ~= "file" then
      part:lacks(name)
      all = false
    end
  end
  return all
end

local function regions_of(part, cache)
  return part:try("region_descriptions.json", function() return vg.regions(part.path, part.images, cache) end)
end

--- Reads Visual Genome's lists and finds where their pictures are.
---@param part lucid.Part
---@param opt { cache: string|nil }
function M.vg(part, opt)
  require_files(part)
  for i, name in ipairs { "VG_100K", "VG_100K_2" } do
    if file.kind(part:at(name)) == "folder" then part.folders = (part.folders or 0) + 1
    else part.absent = ("%s: images, part %d"):format(part:entry().from:match "^[^:]+", i) end
  end
  if not part.folders then part:lacks("VG_100K/, VG_100K_2/") end
  part.images = part:try("image_data.json", function() return (vg.images(part.path)) end)
  if not part.images then return end
  local ids = 0
  for _ in pairs(part.images) do ids = ids + 1 end
  part:has("image_data.json, %d pictures", ids)
  part.regions = regions_of(part, opt.cache)
  if part.regions then part:has "region_descriptions.json" end
  for _, name in ipairs(part:entry().more) do
    local objects = part:try(name, function() return vg.objects(part.path, part.images, opt.cache, name) end)
    if objects then part:has("%s", name) end
  end
end

--- Looks for Visual Genome's pictures: all of them, or, where data sets tell which are needed, theirs alone with
--- --check.
---@param part lucid.Part
---@param opt { check: boolean|nil, partly: boolean }
function M.vg_pictures(part, opt)
  if not part.images or not part.folders then return end
  local paths = {}
  for _, picture in pairs(part.images) do paths[#paths + 1] = picture.path end
  table.sort(paths)
  tell_pictures(part, part.path, paths, { check = opt.check, partly = opt.partly, from = part.absent })
end

--- Counts COCO's pictures.
---@param part lucid.Part
function M.coco(part)
  local n = 0
  for _, name in ipairs(file.list(part.path) or {}) do
    if name:find "^COCO_val2014_%d+%.jpg$" then n = n + 1 end
  end
  if n == 0 then part:lacks "COCO_val2014_*.jpg" else part:has("%d pictures", n) end
end

-- ---- lists of records -----------------------------------------------------------------------------------

-- The kind of model that pairs are for, by the form of their files: an object of descriptions is LLaVA's, "rejected" in
-- questions InstructBLIP's.
local function pair_model(descriptions, questions)
  local _, key = json.each(descriptions)()
  if type(key) == "string" then return "llava" end
  return json.each(questions)().rejected and "instructblip" or "minigpt4"
end

--- Reads HA-DPO's pairs.
---@param part lucid.Part
function M.hadpo(part)
  require_files(part)
  local ids, counts = {}, {}
  for name, read in pairs { ["desc_data.json"] = hadpo.descriptions, ["pope_data.json"] = hadpo.questions } do
    local list = part:try(name, read)
    if list and #list == 0 then part:spoils(name, "there are no records in it") end
    for _, record in ipairs(list or {}) do ids[record.image_id] = true end
    counts[name] = list and #list
  end
  if not part:is_whole() then return end
  part:has("desc_data.json, %d pictures", counts["desc_data.json"])
  part:has("pope_data.json, %d questions", counts["pope_data.json"])
  part.model, part.ids = pair_model(part:at "desc_data.json", part:at "pope_data.json"), ids
  part:note("in the form of %s", catalogue.hadpo_from(part.model):match "[^/]+$")
end

--- Reads POPE's question files.
---@param part lucid.Part
function M.pope(part)
  require_files(part)
  part.names = {}
  for _, name in ipairs(part:entry().files) do
    local list = part:try(name, pope.read)
    if list then part:has("%s, %d questions", name, #list) end
    for _, question in ipairs(list or {}) do part.names[question.image] = true end
    local known = catalogue.COMMON[name]
    if list and file.size(part:at(name)) == known.bytes and file.hash(part:at(name)) == known.sha256 then
      part:note("%s is %s, by its SHA-256", name, known.what)
    end
  end
end

--- Reads SHR's lists.
---@param part lucid.Part
function M.shr(part)
  require_files(part)
  part.ids = part:try("val_images_final.json", function(path)
    local ids = {}
    for _, id in ipairs(shr.ids(path)) do ids[id] = true end
    return ids
  end)
  if part.ids then
    local n = 0
    for _ in pairs(part.ids) do n = n + 1 end
    part:has("val_images_final.json, %d pictures", n)
  end
  for _, name in ipairs { "shr_factual_part1.jsonl", "shr_factual_part2.jsonl" } do
    if part:try(name, shr.facts) then part:has("%s", name) end
  end
end

--- Reads CC-SBU's captions, and looks for their pictures.
---@param part lucid.Part
---@param opt { check: boolean|nil }
function M.ccsbu(part, opt)
  require_files(part)
  local list, missing
  part:try("filter_cap.json", function() list, missing = ccsbu.read(part.path, { skip_missing = true }) end)
  if not list then return end
  part:has("filter_cap.json, %d captions", #list + missing)
  local paths = {}
  for i, caption in ipairs(list) do paths[i] = caption.image end
  tell_pictures(part, part.path, paths, opt)
  if missing > 0 then part:lacks(("%d pictures in image/"):format(missing)) end
end

-- ---- lists against pictures -----------------------------------------------------------------------------

--- Looks for the pictures that a data set is about among Visual Genome's.
---@param part lucid.Part        with ids
---@param genome lucid.Part      Visual Genome's, with images
---@param opt { check: boolean|nil }
function M.against_vg(part, genome, opt)
  local paths, unknown = {}, 0
  for id in pairs(part.ids) do
    local picture = genome.images[id]
    if picture then paths[#paths + 1] = picture.path else unknown = unknown + 1 end
  end
  table.sort(paths)
  if unknown > 0 then
    part:spoils("pictures", ("%d ids are not in %s"):format(unknown, genome:at "image_data.json"))
  end
  tell_pictures(part, genome.path, paths, { check = opt.check, from = genome:entry().from })
end

--- Looks for the pictures that POPE's questions name; the root that has them.
---@param part lucid.Part
---@param roots lucid.Part[]     COCO's folder, Visual Genome's root
---@param opt { check: boolean|nil }
---@return string|nil root
function M.against_pictures(part, roots, opt)
  local best, best_paths, fewest = nil, nil, math.huge
  for _, root in ipairs(roots) do
    local paths, away = {}, 0
    for name in pairs(part.names) do
      local ok, path = pcall(pope.picture, root.path, name)
      paths[#paths + 1] = ok and path or root:at(name:match "[^/]+$")
      if not ok then away = away + 1 end
    end
    if away < fewest then best, best_paths, fewest = root, paths, away end
  end
  if not best or fewest == #best_paths then return nil end
  table.sort(best_paths)
  tell_pictures(part, best.path, best_paths, { check = opt.check, from = catalogue.PARTS.coco.from })
  return best.path
end

return M
