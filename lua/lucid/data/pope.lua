-- POPE's question files (Li et al. 2023): JSON lines, an array, or values one after another, each {
-- question_id, image, text, label }; and sampling them from annotations by the benchmark's own
-- rule.
local file = require "lucid.file"
local json = require "lucid.json"
local nouns = require "lucid.nouns"
local record = require "lucid.data.record"
local rng = require "lucid.rng"

local M = {}

M.SETS = { "random", "popular", "adversarial" }

-- ---- reading ---------------------------------------------------------------------------------------

local LABELS = { yes = "yes", no = "no" }

--- Reads a question file: a list of { question_id, image, text, label }, label "yes" or "no". Questions
--- without ids are numbered.
---@param path string
---@param opt table|nil     limit: questions (0: all)
function M.read(path, opt)
  local list, seen = {}, {}
  for value in json.each(path) do
    local number = #list + 1
    local r = record.of(value, path, number, "question")
    local label = r:text("label")
    local id = r:find("question_id") and r:id("question_id") or number
    r:once(seen, id, "question_id")
    list[number] = { question_id = id, image = r:text("image"), text = r:text("text"),
      label = LABELS[label:lower():match("^%s*(.-)%s*$")]
        or r:wrong("label", "is '%s'; yes and no are possible", label) }
    if opt and number == opt.limit then break end
  end
  if #list == 0 then error(path .. ": there are no questions in it", 0) end
  return list
end

--- Where a question's picture is: under the root, whatever folders the file names before it.
---@param root string
---@param name string
function M.picture(root, name)
  local path = root .. "/" .. name
  if file.exists(path) then return path end
  local base = root .. "/" .. name:match("[^/]+$")
  if file.exists(base) then return base end
  error(("pope: there is no picture %s (--images%s)"):format(name, root == "" and ", its folder, is not given" or " " .. root), 0)
end

--- Gives questions the answers of an official answer file: JSON lines { question_id, answer }, matched
--- by id; a file without ids by order.
---@param path string
---@param questions table[]
---@return integer unused     answers that belong to no question
function M.answers(path, questions)
  local by_id, in_order, seen, used = {}, {}, {}, 0
  for value in json.each(path) do
    local r = record.of(value, path, #in_order + 1)
    local text = r:answer("answer", "text")
    in_order[#in_order + 1] = text
    if r:find("question_id") then
      local id = r:id("question_id")
      r:once(seen, id, "question_id")
      by_id[id] = text
    elseif next(by_id) then
      r:fail(" has no 'question_id', which those before it have")
    end
  end
  local ids = next(by_id) ~= nil
  for i, q in ipairs(questions) do
    q.answer = ids and by_id[q.question_id] or not ids and in_order[i] or nil
    if not q.answer then
      error(("%s: there is no answer to question %d"):format(path, q.question_id), 0)
    end
    used = used + 1
  end
  return #in_order - used
end

--- Writes a question file as the official ones are: JSON lines, ids from 1.
function M.lines(list)
  local lines = {}
  for i, q in ipairs(list) do
    lines[i] = ('{"question_id": %d, "image": %s, "text": %s, "label": "%s"}\n'):format(i,
      json.encode(q.image), json.encode(q.text), q.label)
  end
  return table.concat(lines)
end

-- ---- statistics ------------------------------------------------------------------------------------------

local function ranked(counts)
  local list = {}
  for name in pairs(counts) do list[#list + 1] = name end
  table.sort(list, function(a, b)
    if counts[a] ~= counts[b] then return counts[a] > counts[b] end
    return a < b
  end)
  return list
end

--- Names by the number of pictures that hold them, most first; and the numbers.
---@param pictures table[]    { image, names }
function M.frequencies(pictures)
  local counts = {}
  for _, p in ipairs(pictures) do
    for _, name in ipairs(p.names) do counts[name] = (counts[name] or 0) + 1 end
  end
  return ranked(counts), counts
end

--- name -> the names it occurs together with, most often first.
function M.cooccurrence(pictures)
  local counts = {}
  for _, p in ipairs(pictures) do
    for _, a in ipairs(p.names) do
      counts[a] = counts[a] or {}
      for _, b in ipairs(p.names) do
        if a ~= b then counts[a][b] = (counts[a][b] or 0) + 1 end
      end
    end
  end
  local lists = {}
  for name, c in pairs(counts) do lists[name] = ranked(c) end
  return lists
end

-- ---- sampling -----------------------------------------------------------------------------------------------

local POPULAR = 10        -- the popular set asks for the most frequent so many

-- The first of a list that is absent and not yet asked for, among the first so many.
local function first_free(list, taken, among)
  for i = 1, math.min(#list, among or #list) do
    if not taken[list[i]] then return list[i] end
  end
end

local NEGATIVE = {}

function NEGATIVE.random(state)
  local free = {}
  for _, name in ipairs(state.frequent) do
    if not state.taken[name] then free[#free + 1] = name end
  end
  return free[1] and free[state.random:integer(#free)]
end

function NEGATIVE.popular(state)
  return first_free(state.frequent, state.taken, POPULAR) or first_free(state.frequent, state.taken)
end

function NEGATIVE.adversarial(state, present)
  return first_free(state.together[present] or {}, state.taken)
    or first_free(state.frequent, state.taken)
end

---@class lucid.PopeOptions
---@field set string                "random", "popular" or "adversarial"
---@field seed integer|nil
---@field per_picture integer|nil   present (and absent) things asked for, default 3
---@field statistics table[]|nil    pictures that frequency and co-occurrence are counted in; default: these
---@field frequent string[]|nil     or the ranked names themselves
---@field together table|nil        or the co-occurrence lists themselves

--- Samples the questions of one set: per picture three present and three absent things, asked in
--- turn. random: any absent thing; popular: of the ten most frequent, the first absent one;
--- adversarial: the first absent one of those that occur most with the present thing just asked
--- for. Nothing is asked twice. Pictures with too few present or absent things are passed over.
---@param pictures table[]     { image, names }
---@param opt lucid.PopeOptions
---@return table[] questions, integer passed_over
function M.sample(pictures, opt)
  local negative = NEGATIVE[opt.set]
  if not negative then error("pope.sample: there is no set " .. tostring(opt.set), 2) end
  local each = opt.per_picture or 3
  local source = opt.statistics or pictures
  local frequent = opt.frequent or M.frequencies(source)
  local together = opt.together or opt.set == "adversarial" and M.cooccurrence(source) or {}
  local list, passed = {}, 0
  local function ask(picture, name, label)
    list[#list + 1] = { question_id = #list + 1, image = picture.image, label = label,
      text = ("Is there %s %s in the image?"):format(nouns.article(name), name) }
  end
  for i, picture in ipairs(pictures) do
    -- The present things are the same in all sets, as in the official files.
    local present = rng(opt.seed or 0, "pope:present:" .. i):shuffle({ unpack(picture.names) })
    local state = { frequent = frequent, together = together, taken = {},
      random = rng(opt.seed or 0, "pope:absent:" .. i) }
    local absent = #frequent
    for _, name in ipairs(present) do state.taken[name] = true end
    for _, name in ipairs(frequent) do
      if state.taken[name] then absent = absent - 1 end
    end
    if #present < each or absent < each then
      passed = passed + 1
    else
      for k = 1, each do
        ask(picture, present[k], "yes")
        local name = negative(state, present[k])
        state.taken[name] = true
        ask(picture, name, "no")
      end
    end
  end
  return list, passed
end

return M
