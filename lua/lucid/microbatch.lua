-- A step's batch of pairs in parts that fit in memory, none of them computed twice.
local forest = require "lucid.forest"

local M = {}

---@class lucid.Microbatch : lucid.EncodedPair[]
---@field counts integer[]|nil    how often each pair stands in the batch; nil: once
---@field whole lucid.WholeBatch|nil    the batch that it is a part of, where that is not the step's

--- The pairs of each picture together, in the order in which pictures come first; a pair without a picture is alone.
---@param pairs_list lucid.EncodedPair[]
---@return lucid.EncodedPair[][]
function M.by_picture(pairs_list)
  local groups, of = {}, {}
  for _, p in ipairs(pairs_list) do
    local key = forest.picture(p.image) or p              -- a path's text, a tensor's identity
    if not of[key] then
      of[key] = {}
      groups[#groups + 1] = of[key]
    end
    table.insert(of[key], p)
  end
  return groups
end

--- How processes share a batch (lucid.dist.share): what has a picture in common stays together where it is shared.
---@param group string         "image", "pair" or "none"
---@param image_rows integer   token rows of a picture
---@return lucid.ShareOptions
function M.sharing(group, image_rows)
  return {
    key = group == "image" and function(sample) return forest.picture(sample.image) end or nil,
    tokens = function(sample, first)
      local n = first and sample.image ~= nil and image_rows or 0
      for _, field in ipairs { "prompt", "chosen", "rejected", "ids" } do n = n + #(sample[field] or "") end
      return n
    end,
  }
end

local function text_of(pair)
  local function ids(list) return table.concat(list, ",") end
  return table.concat({ pair.kind or "", forest.image_key(pair.image), ids(pair.prompt), ids(pair.chosen),
    ids(pair.rejected), pair.reference_prompt and ids(pair.reference_prompt) or "",
    pair.caption and tostring(pair.caption) or "" }, "|")
end

-- Each pair once, and how often it stood there, by pair; nil where every one stands once.
local function merged(list)
  local out, counts, first = {}, {}, {}
  for _, p in ipairs(list) do
    local key = text_of(p)
    if not first[key] then first[key], out[#out + 1] = p, p end
    counts[first[key]] = (counts[first[key]] or 0) + 1
  end
  return out, #out < #list and counts or nil
end

-- Tokens that a pair adds behind the one before it: its prompt as far as it is another one, and both answers.
local function added(pair, before, group, image_rows)
  local prompt, shared = pair.prompt, 0
  if before and group == "image" and forest.image_key(before.image) == forest.image_key(pair.image) then
    while shared < #prompt and prompt[shared + 1] == before.prompt[shared + 1] do shared = shared + 1 end
  end
  local n = #prompt - shared
  for i = shared + 1, #prompt do
    if prompt[i] == forest.IMAGE then n = n + image_rows - 1 end
  end
  return (group == "none" and 2 or 1) * n + #pair.chosen + #pair.rejected
end

---@class lucid.SplitOptions
---@field group string                   "image", "pair" or "none": what pairs share, as forest.pairs has it
---@field tokens_per_step integer|nil    most tokens of a part, where one pair has not more; 0 or nil: any

local function alone(list)
  local groups = {}
  for i, p in ipairs(list) do groups[i] = { p } end
  return groups
end

--- A step's batches as parts, none of more pairs than the batches have on average. Where pictures are shared, the pairs
--- of one stay together if they fit, and a pair that stands there twice is computed once.
---@param batches lucid.EncodedPair[][]
---@param opt lucid.SplitOptions
---@param image_rows integer             token rows of a picture
---@return lucid.Microbatch[]
function M.split(batches, opt, image_rows)
  local list, counts, together = {}, nil, opt.group == "image"
  for _, batch in ipairs(batches) do
    for _, p in ipairs(batch) do list[#list + 1] = p end
  end
  local most = math.ceil(#list / #batches)
  local budget = (opt.tokens_per_step or 0) > 0 and opt.tokens_per_step or math.huge
  if together then list, counts = merged(list) end
  local cut = #batches > 1 or budget < math.huge          -- else the order is as good as any other
  local groups = together and cut and M.by_picture(list) or alone(list)
  local parts, part, tokens = {}, nil, 0
  local function begin()
    part, tokens = { counts = counts and {} }, 0
    parts[#parts + 1] = part
  end
  for _, group in ipairs(groups) do
    local size, before = 0, nil
    for _, p in ipairs(group) do size, before = size + added(p, before, opt.group, image_rows), p end
    local fits = size <= budget and #group <= most
    if part and fits and (tokens + size > budget or #part + #group > most) then part = nil end
    for _, p in ipairs(group) do
      local more = added(p, part and part[#part], opt.group, image_rows)
      if not part or #part == most or (tokens + more > budget and #part > 0) then
        begin()
        more = added(p, nil, opt.group, image_rows)
      end
      part[#part + 1] = p
      if counts then part.counts[#part] = counts[p] end
      tokens = tokens + more
    end
  end
  return parts
end

return M
