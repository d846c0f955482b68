-- What is missing or wrong in downloaded folders, before a run finds out: models and their parts, HA-DPO's pairs,
-- Visual Genome, COCO, the questions of POPE and the lists of SHR.
--   local found = lucid.doctor({ "models", "data" }, { ["for"] = { llava = true, shr = true } })
--   print(lucid.doctor.text(found))      found.missing, found.wrong: how many things
-- doctor/catalogue.lua has the published files; find.lua recognises folders, models.lua and data.lua look into them,
-- and recipes.lua says what they are enough for.
local cache = require "lucid.cache"
local catalogue = require "lucid.doctor.catalogue"
local data = require "lucid.doctor.data"
local file = require "lucid.file"
local filehash = require "lucid.filehash"
local find = require "lucid.doctor.find"
local json = require "lucid.json"
local models = require "lucid.doctor.models"
local recipes = require "lucid.doctor.recipes"

local M = {}

local LOOK = { bert = models.small_files, adapter = models.adapter, eva = models.file, joined = models.file,
  qformer = models.file }

-- SHA-256 of a part's weights; one that is published and other than here is a fault.
local function hash(part, folder)
  local paths = {}
  for _, name in ipairs(part.files or {}) do
    local path = part.path:match "[^/]+$" == name and part.path or part:at(name)
    if file.kind(path) == "file" then paths[#paths + 1] = path end
  end
  part.hashes = filehash.of(paths, folder)
  for path, digits in pairs(part.hashes) do
    local name = path:match "[^/]+$"
    local known = catalogue.KNOWN[name]
    if known and known.sha256 and known.sha256 ~= digits then
      part:spoils(name, ("its SHA-256 is %s, and the published file's %s; get it again"):format(digits, known.sha256))
    elseif known and known.sha256 then part:note("%s has the published SHA-256", name) end
  end
end

---@class lucid.DoctorOptions
---@field for table<string, boolean>|nil      recipes that are to work; nil: those that the folders are begun for
---@field check boolean|nil                   read every byte of weights and decode every picture that is needed
---@field hash boolean|nil                    SHA-256 of every file of weights
---@field cache string|nil                    as the option --cache
---@field progress fun(done: integer, total: integer)|nil   called after each part

---@class lucid.Diagnosis
---@field parts lucid.Part[]
---@field strangers string[]                  what is no part, in words
---@field recipes lucid.DoctorRecipe[]
---@field missing integer                     things that are missing
---@field wrong integer                       things that are there and of no use

--- Looks at folders and files.
---@param paths string[]
---@param opt lucid.DoctorOptions|nil
---@return lucid.Diagnosis
function M.look(paths, opt)
  opt = opt or {}
  local folder, found = cache.folder(opt.cache), find.find(paths)
  for i, part in ipairs(found.parts) do
    local look = LOOK[part.kind] or data[part.kind] or models.folder
    look(part, { cache = folder, check = opt.check })
    if opt.check then models.read_whole(part) end
    if opt.hash then hash(part, folder) end
    if opt.progress then opt.progress(i, #found.parts) end
  end
  recipes.pictures(found.parts, { check = opt.check })
  local made = recipes.models(found.parts)
  found.recipes = recipes.of(found.parts, made, opt["for"])
  found.missing, found.wrong = 0, 0
  for _, part in ipairs(found.parts) do
    found.missing, found.wrong = found.missing + #part.missing, found.wrong + #part.wrong
  end
  for _, recipe in ipairs(found.recipes) do found.missing = found.missing + #recipe.lacks end
  return found
end

-- ---- for people ---------------------------------------------------------------------------------------------------

local function add(lines, label, form, ...) lines[#lines + 1] = ("  %-8s %s"):format(label, form:format(...)) end

--- What was found, as lines for people.
---@param found lucid.Diagnosis
---@return string
function M.text(found)
  local lines = {}
  for _, part in ipairs(found.parts) do
    local entry = part:entry()
    lines[#lines + 1] = part.path
    add(lines, "is", "%s; for %s", entry.title, (entry.recipes:gsub(" ", ", ")))
    if #part.there > 0 then add(lines, "there", "%s", table.concat(part.there, "; ")) end
    for _, m in ipairs(part.missing) do add(lines, "missing", "%s, from %s", m.file, m.from) end
    for _, w in ipairs(part.wrong) do add(lines, "wrong", "%s: %s", w.file, w.reason) end
    for _, note in ipairs(part.notes) do add(lines, "note", "%s", note) end
    for path, digits in pairs(part.hashes) do add(lines, "sha256", "%s  %s", digits, path) end
  end
  for _, stranger in ipairs(found.strangers) do lines[#lines + 1] = stranger end
  for _, recipe in ipairs(found.recipes) do
    lines[#lines + 1] = "lucid " .. recipe.recipe
    if recipe.command then add(lines, "ready", "%s", recipe.command) end
    for _, lack in ipairs(recipe.lacks) do add(lines, "missing", "%s, from %s", lack.what, lack.from) end
    for _, path in ipairs(recipe.broken) do add(lines, "broken", "%s", path) end
  end
  return table.concat(lines, "\n")
end

--- The same as a table for JSON.
---@param found lucid.Diagnosis
---@return table
function M.plain(found)
  local parts, list = json.array {}, json.array {}
  for i, p in ipairs(found.parts) do
    parts[i] = { path = p.path, part = p.kind, title = p:entry().title, from = p:entry().from,
      there = json.array(p.there), missing = json.array(p.missing), wrong = json.array(p.wrong),
      notes = json.array(p.notes), sha256 = p.hashes }
  end
  for i, r in ipairs(found.recipes) do
    list[i] = { recipe = r.recipe, command = r.command, missing = json.array(r.lacks),
      not_whole = json.array(r.broken) }
  end
  return { parts = parts, strangers = json.array(found.strangers), recipes = list, missing = found.missing,
    wrong = found.wrong }
end

return setmetatable(M, { __call = function(_, ...) return M.look(...) end })
