-- Training runs that can be cut off at any moment and go on: what a recipe's --resume, --save-steps and --keep mean.
-- A resumed run is the uninterrupted one, bit for bit: random numbers are functions of the seed and a place, batches
-- are drawn again up to the step, and the rest is in the checkpoint.
--
--   local run = lucid.resume.open("llava", opt)                 -- refuses a folder that holds another run
--   run:begin { samples = encoded, state = settings.state }     -- refuses to go on with other options or data
--   lucid.train.run { run = run, ... }
local adapter = require "lucid.adapter"
local args = require "lucid.args"
local cache = require "lucid.cache"
local checkpoint = require "lucid.checkpoint"
local checkpoints = require "lucid.checkpoints"
local dist = require "lucid.dist"
local ffi = require "ffi"
local file = require "lucid.file"
local filehash = require "lucid.filehash"
local image = require "lucid.image"
local json = require "lucid.json"
local log = require "lucid.log"
local events = require "lucid.events"
local native = require "lucid.native"
local report = require "lucid.report"
local run_folder = require "lucid.run"

local C = native.C
local M = {}
local Run = {}
Run.__index = Run

M.OPTIONS = { title = "checkpoints",
  { "save-steps", 100, "steps between checkpoints; 0: none but after SIGINT and SIGTERM", { whole = true } },
  { "keep", 2, "checkpoints that stay, the newest ones; the best one always does", { whole = true, min = 1 } },
  { "resume", "", "go on from a checkpoint: its folder, or auto for the newest whole one of --out" },
  { "force-resume", false, "go on although options or data have changed" },
  { "overwrite", false, "replace the run that --out holds" },
}

-- Options on which no number of a run depends.
local FREE = {}
for name in ("out resume force-resume overwrite save-steps keep quiet json threads dry-run cache recompute reference-cache")
  :gmatch("%S+") do FREE[name] = true end
for _, o in ipairs(image.OPTIONS) do FREE[o[1]] = true end

-- ---- what a run depends on ----------------------------------------------------------------------

local function sha256(text)
  local hex = ffi.new("char[65]")
  native.check(C.lc_sha256(text, #text, hex))
  return ffi.string(hex, 64)
end

-- The samples in their order, as they are trained on.
local function hash_of_samples(samples)
  local lines = {}
  for i, s in ipairs(samples) do
    local picture = type(s.image) == "table" and s.image.picture or s.image
    local parts = { tostring(s.id), tostring(s.kind), tostring(picture), tostring(s.score_from) }
    for _, field in ipairs { "prompt", "chosen", "rejected", "ids" } do
      parts[#parts + 1] = s[field] and table.concat(s[field], " ") or ""
    end
    lines[i] = table.concat(parts, "\t")
  end
  return sha256(table.concat(lines, "\n"))
end

-- Reading tens of gigabytes would take its time at every start, where no cache folder keeps what they hash to.
local function hash_of_model(opt) return sha256(table.concat(filehash.sizes(opt), "\n")) end

-- The weights themselves; nil: nothing keeps their hashes, or they are new ones that no file holds.
local function hash_of_weights(model, opt)
  local folder = cache.folder(opt.cache)
  if not (folder and model and next(model.sources)) then return nil end
  return cache.hash(table.concat(filehash.of_weights(model, folder), "\n"))
end

-- What differs between two { options, hashes, versions }: a list of words, empty when a run may go on.
local function changes(was, is)
  local list, names = {}, {}
  for name in pairs(was.options) do names[name] = true end
  for name in pairs(is.options) do names[name] = true end
  for name in pairs(names) do
    local old, new = was.options[name], is.options[name]
    if old ~= new and not FREE[name] then
      list[#list + 1] = ("--%s (%s, now %s)"):format(name, tostring(old), tostring(new))
    end
  end
  for name, hash in pairs(is.hashes) do
    local comparable = name ~= "weights" or was.hashes.weights        -- one run had a cache folder, the other has none
    if comparable and was.hashes[name] ~= hash then list[#list + 1] = "the " .. name end
  end
  if was.versions.lucid ~= is.versions.lucid then
    list[#list + 1] = ("lucid's version (%s, now %s)"):format(tostring(was.versions.lucid), is.versions.lucid)
  end
  table.sort(list)
  return list
end

-- ---- opening ----------------------------------------------------------------------------------------

-- Whether a folder holds something of a training run.
local function holds_run(out)
  return file.exists(out .. "/log.jsonl") or file.exists(out .. "/adapter") or checkpoints.steps(out)[1] ~= nil
end

local function say(line)
  if dist.first() then io.stderr:write("resume: ", line, "\n") end
end

-- The folder of the checkpoint to go on from; nil: from the start.
local function choose(out, resume)
  if resume == "auto" then
    local dir = checkpoints.newest(out, say)
    say(dir and dir .. " is taken" or out .. " has no whole checkpoint; the run begins at its first step")
    return dir
  end
  if file.kind(resume) ~= "folder" then error(resume .. ": there is no such checkpoint", 0) end
  if not file.exists(resume .. "/trainer_state.json") and checkpoints.steps(resume)[1] then
    local dir = checkpoints.newest(resume, say) or error(resume .. ": it has no whole checkpoint", 0)
    say(dir .. " is taken")
    return dir
  end
  local fault = checkpoints.fault(resume)
  if fault then error(("%s: %s; --resume auto takes the newest whole checkpoint"):format(resume, fault), 0) end
  return resume
end

-- Whether a checkpoint is one of a run's own, whatever its path is called.
local function is_own(out, dir)
  local own = ("%s/%s/trainer_state.json"):format(out, dir:match("([^/]+)/*$"))
  return file.exists(own) and C.lc_file_inode(own) == C.lc_file_inode(dir .. "/trainer_state.json")
end

-- Refuses a folder that holds another run, which this one neither goes on with nor replaces.
local function refuse_others(self)
  local opt = self.opt
  local continues = self.own or (opt.resume == "auto" and not self.from)
  if not continues and not opt.overwrite and holds_run(opt.out) then
    error(("%s holds a run already; --resume auto goes on with it, --overwrite replaces it, or give another --out"):format(
      opt.out), 0)
  end
end

---@class lucid.TrainingRun
---@field out string
---@field from string|nil       the checkpoint that it goes on from
---@field step integer          steps that are done already

--- The run of a recipe's options (M.OPTIONS among them): holds its folder where there is one, looks at it, and writes
--- nothing of its own yet.
---@param command string
---@param opt table
---@return lucid.TrainingRun
function M.open(command, opt)
  if opt.resume ~= "" and opt.overwrite then args.usage("--overwrite and --resume exclude each other") end
  if (opt.eval_pairs or 0) > 0 and opt.save_steps == 0 then
    args.usage("--eval-pairs: they are measured with every checkpoint, and --save-steps is 0")
  end
  local self = setmetatable({ command = command, opt = opt, out = opt.out, step = 0, skipped = 0, samples = 0 }, Run)
  if opt.dry_run then return self end
  if dist.first() and file.kind(opt.out) == "folder" then run_folder.hold(opt.out) end
  if opt.resume ~= "" then self.from = choose(opt.out, opt.resume) end
  self.own = self.from and is_own(opt.out, self.from)
  refuse_others(self)
  if self.from then
    self.saved = json.read(self.from .. "/trainer_state.json")
    self.step, self.skipped, self.samples = self.saved.step, self.saved.skipped, self.saved.samples
    self.best = self.saved.best
  end
  return self
end

-- What the run goes on with was trained like: the checkpoint's word, or config.json where there is no checkpoint.
local function before(self)
  if self.saved then return self.saved.config, self.from end
  local path = self.out .. "/config.json"
  if self.opt.resume == "" or not holds_run(self.out) or not file.exists(path) then return end
  local config = json.read(path)
  if config.command == self.command then return config, self.out end      -- else it is a model's own, which sft writes
end

---@class lucid.TrainingFacts
---@field samples table[]        what is trained on, in its order
---@field model lucid.Model|nil   whose weights are known by their content, where there is a cache folder
---@field data table|nil         { name = path } of data files
---@field state table|nil        what the loss remembers between steps: restored in place

-- Turns the links to a step's checkpoint and drops what is too old.
local function settle(self, step)
  checkpoints.link(self.out, "last", step)
  if self.best then checkpoints.link(self.out, "best", self.best.step) end
  checkpoints.drop(self.out, step, self.opt.keep, self.best and self.best.step)
end

--- Compares the run with what it goes on from, and writes config.json. Of several processes the first one writes, when
--- all have seen the folder as it was.
---@param facts lucid.TrainingFacts
function Run:begin(facts)
  local opt = self.opt
  local hashes = { samples = hash_of_samples(facts.samples), model = hash_of_model(opt),
    weights = hash_of_weights(facts.model, opt) }
  for name, path in pairs(facts.data or {}) do
    if file.kind(path) == "file" then hashes[name] = file.hash(path) end
  end
  for name in pairs(opt.given) do               -- --loss ./mine.lua and its like
    local path = opt[name]
    if type(path) == "string" and path:find("%.lua$") and file.kind(path) == "file" then
      hashes["file of --" .. name] = file.hash(path)
    end
  end
  local was, where = before(self)
  local config = run_folder.config(self.command, opt, hashes)
  if was then
    local changed = changes(was, config)
    if changed[1] and not opt.force_resume then
      error(("%s was trained with other settings: %s; give what it had, or --force-resume"):format(where,
        table.concat(changed, ", ")), 0)
    end
    if changed[1] then say("goes on although these have changed: " .. table.concat(changed, ", ")) end
  end
  self.state = facts.state or {}
  for name, value in pairs(self.saved and self.saved.loss_state or {}) do self.state[name] = value end
  self.config = config
  dist.wait()
  if not dist.first() then return end
  if run_folder.hold(self.out) then refuse_others(self) end     -- there was no folder yet: another may have begun in one since
  if opt.overwrite then
    checkpoints.clear(self.out)
    events.clear(self.out)
    for _, name in ipairs { "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter", "log.jsonl" } do
      os.remove(self.out .. "/" .. name)
    end
  end
  checkpoints.tidy(self.out)
  if self.own and opt.resume ~= "auto" then
    local gone = checkpoints.go_back(self.out, self.step)
    if gone[1] then say(("goes back; removed are the checkpoints of later steps, %s"):format(table.concat(gone, ", "))) end
  end
  if self.own then settle(self, self.step) end          -- a kill may have come between a checkpoint and this
  run_folder.open(self.out, self.command, opt, hashes)
end

-- ---- going on ---------------------------------------------------------------------------------------

--- Gives a model and its optimizer the checkpoint's numbers.
---@param model lucid.Model
---@param optimizer table
function Run:restore(model, optimizer)
  if not self.from then return end
  local own = {}
  for _, p in ipairs(model:all_parameters()) do own[p.name] = p.tensor end
  if file.exists(self.from .. "/adapter_config.json") then adapter.assign(adapter.load(self.from), own, self.from) end
  local path = self.from .. "/trained.safetensors"
  if file.exists(path) then
    local saved = checkpoint(path)
    native.scope(function()
      for _, name in ipairs(saved:names()) do
        if not own[name] then error(("%s: the model has no %s"):format(path, name), 0) end
        native.check(C.lc_tensor_copy(own[name], saved:tensor(name)))
      end
    end)
  end
  optimizer:load(checkpoint(self.from .. "/optimizer.safetensors").handle)
  if self.saved.products and not native.take_products(self.saved.products) then
    say("the checkpoint is of another device or cuBLASLt: steps have other bits than they would have had there")
  end
end

--- Says so where a checkpoint leaves nothing to train.
---@param steps integer      that were asked for
function Run:announce(steps)
  if not self.from or self.step < steps then return end
  say(("%d steps are done, %s: nothing is trained"):format(self.step,
    self.step == steps and "as many as were asked for" or ("and %d were asked for"):format(steps)))
end

--- The run's log: a new one, or the old one cut back to the checkpoint and mended. A checkpoint of another folder
--- brings none.
---@return table
function Run:log()
  if not self.own then return log.open(self.out) end
  local record, mended = log.continue(self.out, self.step, self.saved.log)
  if mended then say(mended) end
  return record
end

-- ---- saving -----------------------------------------------------------------------------------------

--- Whether a checkpoint comes after a step: every --save-steps and at the end.
---@param step integer
---@param steps integer
---@return boolean
function Run:due(step, steps)
  local every = self.opt.save_steps
  return every > 0 and (step % every == 0 or step == steps)
end

local function save_parameters(model, dir)
  local whole, layered = {}, false
  for _, p in ipairs(model:parameters()) do
    if p.name:find("%.lora_[AB]%.weight$") then layered = true else whole[p.name] = p.tensor end
  end
  if layered then model:save_adapter(dir) end
  if next(whole) then checkpoint.save(dir .. "/trained.safetensors", whole) end
end

---@class lucid.TrainingPlace
---@field step integer
---@field steps integer
---@field epoch number|nil           epochs that they make
---@field schedule table             name, peak, warmup, steps
---@field log lucid.LogPosition
---@field eval_loss number|nil       of the pairs that were held out

--- Writes the checkpoint of a step, in the place of what is too old.
---@param model table
---@param optimizer table
---@param place lucid.TrainingPlace
function Run:save(model, optimizer, place)
  local better = place.eval_loss and (not self.best or place.eval_loss < self.best.eval_loss)
  if better then self.best = { step = place.step, eval_loss = place.eval_loss } end
  local state = {
    skipped = self.skipped, samples = self.samples, seed = self.opt.seed, loss_state = self.state, best = self.best,
    config = self.config, products = native.products(),
  }
  for name, value in pairs(place) do state[name] = value end
  checkpoints.write(self.out, place.step, function(dir)
    save_parameters(model, dir)
    checkpoint.write(dir .. "/optimizer.safetensors", function(writer) optimizer:save(writer) end)
    json.write(dir .. "/trainer_state.json", state, { indent = 2 })
  end)
  settle(self, place.step)
end

--- Writes report.html: what was asked, and the curves.
function Run:report()
  local page, rows = report { title = ("lucid %s: %s"):format(self.command, self.out) }, {}
  for name in pairs(self.opt.given) do rows[#rows + 1] = { "--" .. name, tostring(self.opt[name]) } end
  table.sort(rows, function(a, b) return a[1] < b[1] end)
  page:heading("Options that were given"):table({ "option", "value" }, rows):heading("Training")
  page:training { self.out }
  page:write(self.out .. "/report.html")
end

--- Ends a run whose result is written: the page, with --json the last step's numbers on standard output, and others may
--- have its folder.
function Run:finish()
  self:report()
  run_folder.release(self.out)
  if not self.opt.json then return end
  local last = json.null
  for record in json.each(self.out .. "/log.jsonl") do last = record end
  run_folder.show(self.opt, { out = self.out, last = last })
end

return M
