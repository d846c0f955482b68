-- One stage of mining, done so that it can be cut off at any moment: its file grows by whole records, and a stamp beside
-- it says what it was made from and with. A stage that is whole is not done again; one that was cut off goes on at its
-- next record; one whose earlier files have changed, by hand or anew, is done again.
--
-- A stage is a table:
--   from       names of the stages whose files it reads: the first is gone through, a batch at a time
--   options    names of the options that its records depend on
--   work       function(run, inputs) -> a record for each input
--   begin      function(run) -> state: what has to be known of whole files first; run.state while it works
--   each       function(run) -> iterator of inputs; default: what is not left out of the first file
--   facts      function(run) -> what its stamp keeps beside the counts, for the report
--   weights    whether its records depend on the model
--   asks       whether it asks a judge
--   finish     in place of work: function(run) makes files at once; outputs names them
local cache = require "lucid.cache"
local dist = require "lucid.dist"
local file = require "lucid.file"
local filehash = require "lucid.filehash"
local json = require "lucid.json"
local keys = require "lucid.keys"
local lines = require "lucid.mine.lines"
local native = require "lucid.native"
local progress = require "lucid.progress"

local M = {}

-- ---- stamps -----------------------------------------------------------------------------------------

--- A stage's stamp, or nil.
---@param run lucid.Mining
---@param name string
---@return table|nil
function M.stamp(run, name)
  local path = run:file(name, "json")
  return file.exists(path) and json.read_object(path) or nil
end

-- What the records depend on, by name: the options, the files that they name, and the program.
local function settings_of(run, stage)
  local list = { version = native.version }
  for _, name in ipairs(stage.options) do
    local value = run.opt[name]
    if value ~= nil then list["--" .. name] = value end
    if type(value) == "string" and value ~= "" and file.kind(value) == "file" then
      list["the file of --" .. name] = file.size(value) < 2 ^ 26 and file.hash(value) or ("%d bytes"):format(file.size(value))
    end
  end
  for _, name in ipairs { "adapter", "judge-adapter" } do
    local path = list["--" .. name]
    if path and path ~= "" then list["the files of --" .. name] = cache.hash(table.concat(filehash.of_adapter_files(path, run.cache), "\n")) end
  end
  if stage.weights then list["the model's files"] = cache.hash(table.concat(filehash.sizes(run.opt), "\n")) end
  return list
end

local function differences(was, is)
  local both, list = {}, {}
  for name in pairs(was) do both[name] = true end
  for name in pairs(is) do both[name] = true end
  for _, name in ipairs(keys(both)) do
    if was[name] ~= is[name] then
      local shown = name:find "^%-%-" or name == "version"
      list[#list + 1] = shown and ("%s (%s, now %s)"):format(name, tostring(was[name]), tostring(is[name])) or name
    end
  end
  return list
end

local function hashes_of(run, stage)
  local list = {}
  for _, name in ipairs(stage.from) do list[name] = file.hash(run:file(name)) end
  return list
end

-- Whether what a stage has made is still all there.
local function complete(run, stage, stamp)
  for _, path in ipairs(stage.outputs and stage.outputs(run) or { run:file(stage.name) }) do
    if not file.exists(path) then return false end
  end
  return stamp.state == "whole"
end

-- ---- what is there already ------------------------------------------------------------------------------

-- The first of a stage's files that is not what it was made from; nil: all are.
local function changed_input(run, stage, stamp)
  for _, name in ipairs(stage.from) do
    local path = run:file(name)
    if not file.exists(path) or file.hash(path) ~= stamp.inputs[name] then return path end
  end
end

--- Raises what speaks against going on with a stage: other settings than it was made with.
---@param run lucid.Mining
---@param stage table
function M.refuse(run, stage)
  local stamp = M.stamp(run, stage.name)
  if not stamp or changed_input(run, stage, stamp) then return end
  local changed = differences(stamp.settings, settings_of(run, stage))
  if #changed > 0 then
    error(("%s: stage %s was made with other settings: %s; give what it had, or --from %s makes it and what follows anew"):format(
      run.out, stage.name, table.concat(changed, ", "), stage.name), 0)
  end
end

-- "whole", "begun" or "new": what there is of a stage.
local function look(run, stage)
  local stamp = M.stamp(run, stage.name)
  if not stamp then return "new" end
  local path = changed_input(run, stage, stamp)
  if path then
    run:say("%s: %s has changed since; it is made anew", stage.name, path)
    return "new"
  end
  M.refuse(run, stage)
  if complete(run, stage, stamp) then
    if stamp.hash and stamp.hash ~= file.hash(run:file(stage.name)) then
      run:say("%s: %s was edited; it is taken as it is", stage.name, run:file(stage.name))
    end
    return "whole"
  end
  return file.exists(run:file(stage.name)) and "begun" or "new"
end

-- ---- working ---------------------------------------------------------------------------------------

-- Goes over what is done already; the number of records.
local function skip(path, each)
  local done = 0
  for r in lines.each(path) do
    done = done + 1
    local input = each()
    if not input or input.image_id ~= r.image_id then
      error(("%s: line %d is of picture %s, where %s is next; a stage that is not whole cannot be edited, --from makes it anew"):format(
        path, done, tostring(r.image_id), input and tostring(input.image_id) or "no picture"), 0)
    end
  end
  return done
end

local function take(each, n)
  local list = {}
  while #list < n do
    local input = each()
    if not input then break end
    list[#list + 1] = input
  end
  return list
end

-- How many inputs a stage will see, where that is known.
local function expected(run, stage)
  local stamp = stage.from[1] and M.stamp(run, stage.from[1])
  if run.total then return run.total end
  if not stamp then return 0 end
  local n = stamp.records
  for _, count in pairs(stamp.left_out) do n = n - count end
  return n
end

-- How many inputs are worked on before their records are written. A batch file is one file for all that is asked; of
-- several processes each has a few batches of its own.
local function inputs_at_once(run, stage)
  if stage.asks and (run.opt.batch_file or "") ~= "" then return math.huge end
  local shared = stage.weights and dist.size() > 1
  return run.opt.batch * (shared and 4 * dist.size() or 1)
end

local function grow(run, stage)
  local path = run:file(stage.name)
  local each = stage.each and stage.each(run) or lines.kept(run:file(stage.from[1]))
  local done = skip(path, each)
  if stage.weights then dist.wait() end    -- nothing is added before all processes know what is there
  local bar = progress { total = math.max(expected(run, stage), done, 1), from = done, label = stage.name, unit = "pictures",
    quiet = run.opt.quiet or not dist.first() }
  local size = inputs_at_once(run, stage)
  while true do
    local inputs = take(each, size)
    if #inputs == 0 then break end
    local list = stage.work(run, inputs)
    if dist.first() then lines.append(path, list) end
    done = done + #inputs
    bar:step(done, { count = #inputs })
  end
  bar:done()
end

-- What a whole file holds: records, and by reason those that are left out.
local function count(path)
  local records, left_out = 0, {}
  for r in lines.each(path) do
    records = records + 1
    if r.left_out then left_out[r.left_out] = (left_out[r.left_out] or 0) + 1 end
  end
  return records, left_out
end

-- Makes a stage's files ready to be worked on.
local function prepare(run, stage, state, stamp)
  local path = run:file(stage.name)
  if state == "new" then                -- in this order: no stamp is ever beside records that it does not speak of
    M.clear(run, stage)
    if stage.work then file.write(path, "") end
    json.write(run:file(stage.name, "json"), stamp, { indent = 2 })
  end
  if stage.work then lines.cut(path) end
end

local function work(run, stage)
  run.total = nil
  run.state = stage.begin and stage.begin(run) or nil
  if stage.finish then return stage.finish(run) end
  local ok, reason = pcall(grow, run, stage)
  if not ok then
    run:say("stage %s is not whole; the same command with --resume goes on from there", stage.name)
    error(reason, 0)
  end
end

-- Says of a stage that it is whole.
local function close(run, stage, stamp)
  if stage.work then
    stamp.records, stamp.left_out = count(run:file(stage.name))
    stamp.hash = file.hash(run:file(stage.name))
  end
  stamp.facts = stage.facts and stage.facts(run) or nil
  stamp.state = "whole"
  json.write(run:file(stage.name, "json"), stamp, { indent = 2 })
end

--- Does what is left to do of a stage. Of several processes the first one writes; the others share the model's answers
--- (lucid.generate), and wait where there is no model.
---@param run lucid.Mining
---@param stage table
function M.run(run, stage)
  local state = look(run, stage)
  dist.wait()                              -- all have seen what is there
  if state == "whole" then return end
  local stamp = { stage = stage.name, inputs = hashes_of(run, stage), settings = settings_of(run, stage), state = "begun" }
  if dist.first() then prepare(run, stage, state, stamp) end
  dist.wait()
  if stage.weights then
    work(run, stage)
  elseif dist.first() then
    work(run, stage)
  end
  if dist.first() then close(run, stage, stamp) end
  dist.wait()
end

--- Removes what a stage has made.
---@param run lucid.Mining
---@param stage table
function M.clear(run, stage)
  for _, kind in ipairs { "json", "jsonl" } do
    if file.exists(run:file(stage.name, kind)) then file.remove(run:file(stage.name, kind)) end
  end
end

return M
