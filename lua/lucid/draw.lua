-- How batches of pairs are drawn: next() gives a list of pairs, a function of the seed and of how often it was called.
-- Where a step has several batches (--accumulate), the pairs of the step are drawn together and cut into batches
-- afterwards: eight batches of one pair are the pairs of one batch of eight.
local cycle = require "lucid.cycle"
local microbatch = require "lucid.microbatch"

local M = {}

-- What follows gives functions of a number: that many pairs, or fewer where an epoch ends.

-- So many pairs of each kind a batch: { "desc", "pope", desc = 16, pope = 64 }; it is asked for one batch after another.
local function mixed(encoded, opt)
  local kinds, draw = {}, {}
  for _, p in ipairs(encoded) do
    kinds[p.kind] = kinds[p.kind] or {}
    table.insert(kinds[p.kind], p)
  end
  for _, kind in ipairs(opt.mix) do
    if not kinds[kind] then error("--mix: there are no pairs of the kind " .. kind, 0) end
    draw[kind] = cycle(kinds[kind], opt.seed, kind)
  end
  return function()
    local batch = {}
    for _, kind in ipairs(opt.mix) do
      for _ = 1, opt.mix[kind] do batch[#batch + 1] = draw[kind]() end
    end
    return batch
  end
end

-- Every kind's pairs as often as opt.repeats says.
local function repeated(encoded, repeats)
  local all = {}
  for _, p in ipairs(encoded) do
    for _ = 1, repeats and repeats[p.kind] or 1 do all[#all + 1] = p end
  end
  return all
end

local function shuffled(all, opt)
  local draw, left = cycle(all, opt.seed, "all"), #all
  return function(n)
    local list = {}
    for _ = 1, math.min(n, left) do list[#list + 1] = draw() end
    left = left - #list
    if left == 0 then left = #all end
    return list
  end
end

-- The first of the waiting groups that fits whole into the room; where none does, the first one's beginning.
local function take(queue, room)
  for i, group in ipairs(queue) do
    if #group <= room then return table.remove(queue, i) end
  end
  local head, tail = {}, {}
  for i, p in ipairs(queue[1]) do
    local to = i <= room and head or tail
    to[#to + 1] = p
  end
  queue[1] = tail
  return head
end

-- Pictures are shuffled, not pairs: all pairs of a picture meet in a step, if they fit.
local function by_picture(all, opt)
  local groups = microbatch.by_picture(all)
  local draw, queue = cycle(groups, opt.seed, "pictures"), {}
  return function(n)
    if #queue == 0 then
      for i = 1, #groups do queue[i] = draw() end
    end
    local list = {}
    while #list < n and #queue > 0 do
      for _, p in ipairs(take(queue, n - #list)) do list[#list + 1] = p end
    end
    return list
  end
end

-- The batches of a step, one a call; nil where an epoch's last step has none for that call.
local function batches(draw, size, accumulate)
  local step, at, part = {}, 0, 0
  return function()
    if part == 0 then step, at = draw(size * accumulate), 0 end
    part = (part + 1) % accumulate
    local batch = {}
    for i = at + 1, math.min(at + size, #step) do batch[#batch + 1] = step[i] end
    at = at + #batch
    return batch[1] and batch or nil
  end
end

---@class lucid.DrawOptions
---@field seed integer
---@field batch integer             pairs a batch
---@field accumulate integer|nil    batches a step, default 1
---@field group string|nil          "image": the pairs of a picture meet; else all pairs are shuffled
---@field repeats table|nil         { kind = how often its pairs are seen in an epoch }
---@field mix table|nil             instead: pairs of each kind a batch

--- The draw, a batch a call, and how many pairs an epoch has (nil with a mix, which has no epochs). Whatever the
--- group, an epoch is the same pairs. It ends with a step: of an epoch's last step batches may be missing, which are nil.
---@param encoded lucid.EncodedPair[]
---@param opt lucid.DrawOptions
---@return fun(): lucid.EncodedPair[]|nil, integer|nil
function M.pairs(encoded, opt)
  if opt.mix then return mixed(encoded, opt) end
  local all = repeated(encoded, opt.repeats)
  local draw = (opt.group == "image" and by_picture or shuffled)(all, opt)
  return batches(draw, opt.batch, opt.accumulate or 1), #all
end

return M
