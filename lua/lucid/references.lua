-- The reference's log-probabilities, kept between runs: what the base says of an answer never changes.
--
--   local reference = references.open(model:base(), folder)       reference:pairs(forest)       reference:save()
--
-- reference/KEY.safetensors in the cache folder holds a tensor an answer, [tokens], by the hash of its picture, prompt
-- and ids; KEY is made of all that the values depend on beside these. What is not there is computed, and kept.
local cache = require "lucid.cache"
local checkpoint = require "lucid.checkpoint"
local features = require "lucid.features"
local file = require "lucid.file"
local filehash = require "lucid.filehash"
local forest = require "lucid.forest"
local json = require "lucid.json"
local logps = require "lucid.logps"
local native = require "lucid.native"
local rng = require "lucid.rng"
local tensor = require "lucid.tensor"

local M = {}
local References = {}
References.__index = References

local ENOUGH = 4096                                     -- new answers that are written before the end
local CHECKED = 4                                       -- answers that are computed again before the file is believed
local CLOSE = { f32 = 1e-5, bf16 = 2e-2, f16 = 2e-2 }   -- how far a token's value may be away

-- All that a value depends on beside its picture and ids.
local function settings(model, folder, dry)
  return { weights = filehash.of_weights(model, folder, dry), config = model.config, vision = features.settings(model),
    dtype = model.dtype, quant = model.quant or "none", device = model.device:match("%a+"), kernels = native.version }
end

-- What the rows of a file are, in one hash: few of them are computed again, so a damaged one has to be known by this.
---@param rows table<string, lucid.Tensor>
local function sum_of(rows)
  local lines = {}
  for name, row in pairs(rows) do lines[#lines + 1] = name .. " " .. cache.tensor_hash(row) end
  table.sort(lines)
  return cache.hash(table.concat(lines, "\n"))
end

local function rows_of(kept)
  local rows = {}
  for _, name in ipairs(kept and kept:names() or {}) do rows[name] = kept:tensor(name) end
  return rows
end

-- The file that was kept; nil: there is none, or its bytes are not those that were written, and it goes.
local function open_kept(path, dry)
  if not file.exists(path) then return nil end
  local readable, kept = pcall(checkpoint, path)
  if readable and native.scope(function() return sum_of(rows_of(kept)) end) == kept:metadata "sum" then return kept end
  if not dry then os.remove(path) end
  io.stderr:write(("lucid: %s is damaged%s: the reference is computed again\n"):format(path, dry and "" or " and is dropped"))
end

--- A model's references in a cache folder.
---@param base lucid.Model      adapters off
---@param folder string
---@param dry boolean|nil       nothing is written, and nothing removed
---@return lucid.References
function M.open(base, folder, dry)
  local parts = settings(base, folder, dry)
  local path = ("%s/reference/%s.safetensors"):format(folder, cache.key(parts))
  return setmetatable({ base = base, path = path, parts = parts, kept = open_kept(path, dry), fresh = {}, new = 0 }, References)
end

--- The reference of a policy that is to be trained: kept where that is asked for and possible, else the base as it is;
--- and why it is not kept, where it was asked for.
---@param policy lucid.Model
---@param opt table             parsed options: reference_cache, cache, reference_free, random_crops, dry_run
---@return lucid.References|lucid.Model reference, string|nil why
function M.of(policy, opt)
  local base, folder = policy:base(), cache.folder(opt.cache)
  if opt.reference_cache == "off" or opt.reference_free then return base end
  if not folder then return base, "there is no cache folder" end
  if opt.random_crops then return base, "random crops are not seen again" end
  if next(policy.beside) then return base, "parts of the base come with the adapter" end
  for _, p in ipairs(policy:parameters()) do
    if p.part ~= "adapter" then return base, ("the %s is trained, which the reference sees"):format(p.part) end
  end
  return M.open(base, folder, opt.dry_run)
end

-- The key of an answer; nil where its picture is no file, so that nothing says what it is.
local function key_of(pair, answer)
  local picture = forest.picture(pair.image)
  if picture ~= nil and type(picture) ~= "string" then return nil end
  return cache.key { forest.image_key(pair.image), table.concat(pair.prompt, ","), table.concat(answer, ",") }
end

local function known(self, key)
  if key == nil then return nil end
  if self.fresh[key] then return self.fresh[key] end
  return self.kept and self.kept:has(key) and self.kept:tensor(key):tolist() or nil
end

-- The values of every answer of some pairs, as the base gives them now: a list, chosen 1, rejected 1, ...
local function live(self, list)
  return native.scope(native.no_grad, function()
    local tokens, first = self.base:token_logps(forest.pairs(list))
    local values, out = tokens:tolist(), {}
    for i = 1, #first - 1 do out[i] = { unpack(values, first[i], first[i + 1] - 1) } end
    return out
  end)
end

--- What lucid.loss takes of the reference for the pairs of a forest.
---@param f table       of lucid.forest.pairs
---@return lucid.PairLogps
function References:pairs(f)
  local rows, missing, places = {}, {}, {}
  for i, pair in ipairs(f.list) do
    local chosen, rejected = key_of(pair, pair.chosen), key_of(pair, pair.rejected)
    rows[2 * i - 1], rows[2 * i] = known(self, chosen) or false, known(self, rejected) or false
    if not (rows[2 * i - 1] and rows[2 * i]) then
      missing[#missing + 1], places[#places + 1] = pair, { i, chosen, rejected }
    end
  end
  if #missing > 0 then
    local values = live(self, missing)
    for k, place in ipairs(places) do
      for side = 1, 2 do
        local row, key = values[2 * k - 2 + side], place[1 + side]
        rows[2 * place[1] - 2 + side] = row
        if key and not known(self, key) then self.fresh[key], self.new = row, self.new + 1 end
      end
    end
  end
  if self.new >= ENOUGH then self:save() end
  local all, first, index = {}, { 1 }, { 0 }
  for i, row in ipairs(rows) do
    for k = 1, #row do all[#all + 1] = row[k] end
    first[i + 1], index[i + 1] = #all + 1, #all
  end
  return logps.of_pairs(tensor(all), first, tensor(index, { dtype = "i32" }))
end

--- Whether both answers of a pair are kept already.
---@param pair lucid.EncodedPair
---@return boolean
function References:has(pair)
  local kept, all = self:count { pair }
  return kept == all
end

--- How many of the answers of pairs are kept already, and how many there are, each counted once.
---@param list lucid.EncodedPair[]
---@return integer kept, integer all
function References:count(list)
  local kept, all, seen = 0, 0, {}
  for _, pair in ipairs(list) do
    for _, answer in ipairs { pair.chosen, pair.rejected } do
      local key = key_of(pair, answer) or tostring(answer)
      if not seen[key] then
        seen[key], all = true, all + 1
        if self.fresh[key] or self.kept and self.kept:has(key) then kept = kept + 1 end
      end
    end
  end
  return kept, all
end

--- Computes a few of the kept answers of pairs again, at random; raises one line when a value is not what it was.
---@param list lucid.EncodedPair[]
---@param seed integer
function References:check(list, seed)
  local candidates = {}
  for _, pair in ipairs(list) do
    for _, answer in ipairs { pair.chosen, pair.rejected } do
      local key = key_of(pair, answer)
      if key and self.kept and self.kept:has(key) then
        candidates[#candidates + 1] = { pair = pair, key = key, answer = answer }
      end
    end
  end
  rng(seed, "references"):shuffle(candidates)
  for i = 1, math.min(CHECKED, #candidates) do
    local c = candidates[i]
    local now = live(self, { c.pair })[c.answer == c.pair.chosen and 1 or 2]
    local kept, most = known(self, c.key), 0
    for k = 1, math.max(#now, #kept) do
      local distance = math.abs((now[k] or math.huge) - (kept[k] or math.huge))
      most = distance == distance and math.max(most, distance) or math.huge
    end
    if most > CLOSE[self.base.dtype] then
      error(("%s: the reference of pair %s is %.3g away from what this model gives (at most %g is accepted): "
        .. "remove the file, or leave it alone with --reference-cache off"):format(self.path, tostring(c.pair.id), most,
          CLOSE[self.base.dtype]), 0)
    end
  end
end

local function write(self)
  file.mkdir((self.path:match("^(.*)/")))
  self.kept = open_kept(self.path)
  native.scope(function()
    local rows = rows_of(self.kept)
    for key, row in pairs(self.fresh) do rows[key] = tensor(row) end
    checkpoint.save(self.path, rows, { settings = json.encode(self.parts), sum = sum_of(rows) })
  end)
  self.kept, self.fresh = checkpoint(self.path), {}
end

--- Writes what is new, beside what the file holds by now. A cache that cannot be written is no reason to stop.
function References:save()
  if self.new == 0 then return end
  self.new = 0
  local ok, reason = pcall(write, self)
  if not ok then io.stderr:write(("lucid: the reference is not kept: %s\n"):format((reason:gsub("^[^:]+%.lua:%d+: ", "")))) end
end

return M
