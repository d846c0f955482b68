-- Stage 1: pictures that are annotated neither too little nor too much, in random order, with their annotations.
local file = require "lucid.file"
local rng = require "lucid.rng"

local M = {
  from = {},
  options = { "images", "annotations", "captions", "seed", "limit", "min-objects", "max-objects", "min-texts", "skip-bad" },
}

-- Why a picture is passed over, by the numbers of its annotations; nil: it stays.
local function verdict(objects, texts, opt)
  local n = objects or texts
  if n < opt.min_objects then return "too few objects" end
  if n > opt.max_objects then return "too many objects" end
  if texts < opt.min_texts then return "too few texts" end
end

-- The first so many pictures of a shuffled list whose files are there.
local function present(ids, missing, opt, counts)
  local limit, list = opt.limit > 0 and opt.limit or #ids, {}
  for _, id in ipairs(ids) do
    if #list == limit then break end
    if not missing[id] then
      list[#list + 1] = id
    elseif opt.skip_bad then
      counts["no such file"] = (counts["no such file"] or 0) + 1
    else
      error(("picture %d: there is no %s. Get it, or pass --skip-bad"):format(id, missing[id]), 0)
    end
  end
  return list
end

--- The ids that are selected, in their order, and by reason how many are not.
---@param source lucid.MineSource
---@param opt table      min_objects, max_objects, min_texts, limit, seed, skip_bad
---@return integer[] ids, table<string, integer> passed
function M.choose(source, opt)
  local kept, missing, counts = {}, {}, {}
  for _, id in ipairs(source.ids) do
    local objects, texts, path = source:size(id)
    local reason = verdict(objects, texts, opt)
    if reason then
      counts[reason] = (counts[reason] or 0) + 1
    else
      kept[#kept + 1] = id
      if not file.exists(path) then missing[id] = path end
    end
  end
  rng(opt.seed, "mine:select"):shuffle(kept)
  return present(kept, missing, opt, counts), counts
end

--- What the stage keeps between its parts of the pictures.
---@param run lucid.Mining
---@return table
function M.begin(run)
  local source = run:source()
  local ids, left_out = M.choose(source, run.opt)
  if #ids == 0 then
    error(("%s: no picture there has %d to %d annotated things and %d texts (--min-objects, --max-objects, --min-texts)"):format(
      source.files[1], run.opt.min_objects, run.opt.max_objects, run.opt.min_texts), 0)
  end
  run.total = #ids
  return { ids = ids, facts = { pictures = #source.ids, passed_over = left_out, annotations_passed_over = source:passed() } }
end

--- The inputs of the stage: the ids of the pictures.
---@param run lucid.Mining
---@return function
function M.each(run)
  local i = 0
  return function()
    i = i + 1
    return run.state.ids[i] and { image_id = run.state.ids[i] } or nil
  end
end

--- One line of each input, in the same order.
---@param run lucid.Mining
---@param inputs table[]
---@return table[]
function M.work(run, inputs)
  local list = {}
  for i, input in ipairs(inputs) do list[i] = run:source():get(input.image_id) end
  return list
end

--- What the stamp of the stage says of it.
---@param run lucid.Mining
---@return table
function M.facts(run) return run.state.facts end

return M
