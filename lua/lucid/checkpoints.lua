-- A run's checkpoints: OUT/checkpoint-N holds all that the steps after N depend on. It is written under another name,
-- the hashes of its files last, and renamed when the disk has it: there is a complete one or none.
local file = require "lucid.file"
local json = require "lucid.json"

local M = {}

local function path_of(out, step) return ("%s/checkpoint-%d"):format(out, step) end

-- Removes a folder of files; of a link to one, the link alone.
local function remove(dir)
  if os.remove(dir) then return end
  for _, name in ipairs(file.list(dir)) do file.remove(dir .. "/" .. name) end
  file.remove(dir)
end

--- The steps that a run has checkpoints of, complete or not; the newest first.
---@param out string
---@return integer[]
function M.steps(out)
  local steps = {}
  for _, name in ipairs(file.list(out) or {}) do
    local step = name:match("^checkpoint%-(%d+)$")
    if step then steps[#steps + 1] = tonumber(step) end
  end
  table.sort(steps, function(a, b) return a > b end)
  return steps
end

--- What is wrong with a checkpoint; nil: all its files are there, and their bytes are those that were written.
---@param dir string
---@return string|nil
function M.fault(dir)
  local path = dir .. "/manifest.json"
  if not file.exists(path) then return "it has no manifest.json" end
  local ok, manifest = pcall(json.read, path)
  if not ok or type(manifest) ~= "table" or type(manifest.files) ~= "table" or not next(manifest.files) then
    return "its manifest.json cannot be read"
  end
  for name, entry in pairs(manifest.files) do
    local at = dir .. "/" .. name
    if name:find("/", 1, true) then return ("its manifest.json names %s, which is no file of its own"):format(name) end
    if file.kind(at) ~= "file" then return name .. " is missing" end
    if type(entry) ~= "table" or file.size(at) ~= entry.bytes then return name .. " has another size" end
    if file.hash(at) ~= entry.sha256 then return name .. " has another hash" end
  end
end

--- The newest complete checkpoint of a run: its folder, or nil.
---@param out string
---@param note fun(line: string)     hears of those that are passed over
---@return string|nil
function M.newest(out, note)
  for _, step in ipairs(M.steps(out)) do
    local dir = path_of(out, step)
    local fault = M.fault(dir)
    if not fault then return dir end
    note(("%s is passed over: %s"):format(dir, fault))
  end
end

--- Writes a checkpoint; one of the same step is replaced.
---@param out string
---@param step integer
---@param fill fun(dir: string)      writes its files into a folder
function M.write(out, step, fill)
  local dir = path_of(out, step)
  local new = dir .. ".tmp"
  if file.exists(new) then remove(new) end
  file.mkdir(new)
  fill(new)
  local files = {}
  for _, name in ipairs(file.list(new)) do
    files[name] = { bytes = file.size(new .. "/" .. name), sha256 = file.hash(new .. "/" .. name) }
  end
  json.write(new .. "/manifest.json", { files = files }, { indent = 2 })
  if file.exists(dir) then remove(dir) end
  file.rename(new, dir)
end

--- Turns OUT/NAME to the checkpoint of a step, if that is there.
---@param out string
---@param name string
---@param step integer
function M.link(out, name, step)
  if file.exists(path_of(out, step)) then file.link(("checkpoint-%d"):format(step), out .. "/" .. name) end
end

-- Removes a checkpoint. First its name goes: half a checkpoint must not look like one.
local function discard(out, step)
  local gone = path_of(out, step) .. ".tmp"
  if file.exists(gone) then remove(gone) end
  file.rename(path_of(out, step), gone)
  remove(gone)
end

--- Removes all checkpoints up to a step but the newest ones and the best.
---@param out string
---@param step integer         later ones could not be gone on from and are replaced in their turn
---@param keep integer
---@param best integer|nil     a step
function M.drop(out, step, keep, best)
  local kept = 0
  for _, s in ipairs(M.steps(out)) do
    if s <= step then
      kept = kept + 1
      if kept > keep and s ~= best then discard(out, s) end
    end
  end
end

--- Removes the checkpoints behind a step, to which the run goes back: they would be of another life of it.
---@param out string
---@param step integer
---@return integer[]       the steps of those that were there
function M.go_back(out, step)
  local gone = {}
  for _, s in ipairs(M.steps(out)) do
    if s > step then
      discard(out, s)
      gone[#gone + 1] = s
    end
  end
  M.link(out, "last", step)
  return gone
end

--- Removes what writes that were cut off have left.
---@param out string
function M.tidy(out)
  for _, name in ipairs(file.list(out) or {}) do
    if name:find("^checkpoint%-%d+%.tmp$") then remove(out .. "/" .. name) end
  end
  file.tidy(out)
  file.tidy(out .. "/adapter")
end

--- Removes every checkpoint, and the links to them.
---@param out string
function M.clear(out)
  M.tidy(out)
  for _, name in ipairs { "last", "best" } do os.remove(out .. "/" .. name) end      -- also links to nothing
  for _, step in ipairs(M.steps(out)) do remove(path_of(out, step)) end
end

return M
