-- POPE's question files (Li et al. 2023): JSON lines, an array, or values one after another, each {
-- question_id, image, text, label }; answer files; and sampling questions from annotations by the
-- benchmark's own rule.
local file = require "lucid.file"
local json = require "lucid.json"
local nouns = require "lucid.nouns"
local record = require "lucid.data.record"
local rng = require "lucid.rng"

local M = {}

M.SETS = { "random", "popular", "adversarial" }

-- ---- reading ---------------------------------------------------------------------------------------

local LABELS = { yes = "yes", no = "no" }

--- A row's id: a whole number, also one in quotes, or any other text; nil: it has none.
---@param r table     of lucid.data.record
---@return integer|nil
function M.id(r)
  local v = r:find("question_id")
  if v == nil then return nil end
  return record.whole(v) or type(v) == "string" and v:find("%S") and v
    or r:wrong("question_id", "is neither a whole number nor a text")
end

---@class lucid.PopeQuestion
---@field question_id integer|string
---@field image string|nil
---@field text string
---@field label string              "yes" or "no"
---@field answer string|nil

--- Reads a question file. Questions without ids are numbered.
---@param path string
---@param opt table|nil     limit: questions (0: all); answered: the answers are there, so no picture is needed
---@return lucid.PopeQuestion[]
function M.read(path, opt)
  opt = opt or {}
  local list = {}
  for value, number in record.rows(path) do
    local r = record.of(value, path, number, "question")
    local label = r:text("label")
    local image = not (opt.answered and r:find("image") == nil) and r:picture("image") or nil
    list[number] = { question_id = M.id(r) or number, image = image, text = r:text("text"),
      label = LABELS[label:lower():match("^%s*(.-)%s*$")]
        or r:wrong("label", "is '%s'; yes and no are possible", label) }
    if number == opt.limit then break end
  end
  if #list == 0 then error(path .. ": there are no questions in it", 0) end
  return list
end

--- Where a question's picture is: under the root, whatever folders the file names before it.
---@param root string
---@param name string
---@return string
function M.picture(root, name)
  local path = root .. "/" .. name
  if file.exists(path) then return path end
  local base = root .. "/" .. name:match("[^/]+$")
  if file.exists(base) then return base end
  error(("pope: there is no picture %s (--images%s)"):format(name, root == "" and ", its folder, is not given" or " " .. root), 0)
end

-- How much further the answers count than the questions, where one side begins at 0 and the other at 1.
local function shift_of(answers, questions)
  local a, q = answers[1].id, questions[1].question_id
  return #answers == #questions and type(a) == "number" and type(q) == "number" and a - q or 0
end

--- Whether the answers' ids are the questions', line by line, or as much further everywhere.
---@param answers table[]     { id }
---@param questions lucid.PopeQuestion[]
---@return boolean
function M.in_step(answers, questions)
  if #answers < #questions or #answers == 0 then return false end
  local shift = shift_of(answers, questions)
  for i, q in ipairs(questions) do
    local id = answers[i].id
    if (type(id) == "number" and id - shift or id) ~= q.question_id then return false end
  end
  return true
end

local function by_id(answers)
  local list, seen = {}, {}
  for _, a in ipairs(answers) do
    a.record:once(seen, a.id, "question_id")
    list[a.id] = a
  end
  return list
end

--- Gives questions the answers of an answer file: JSON lines { question_id, answer } as the benchmark has it, or with
--- the answer under "text". The benchmark matches by line; so does this where the ids stand in the same order or there
--- are none. Else it is the ids that count.
---@param path string
---@param questions lucid.PopeQuestion[]
---@return integer unused     answers that belong to no question
---@return boolean moved      they stand in another order than the questions, or some are left out
function M.answers(path, questions)
  local answers = {}
  for value, number in record.rows(path) do
    local r = record.of(value, path, number)
    local a = { record = r, text = r:answer("answer", "text"), id = M.id(r) }
    if number > 1 and (a.id == nil) ~= (answers[1].id == nil) then
      r:fail(a.id == nil and " has no 'question_id', which those before it have"
        or " has a 'question_id', which those before it have not")
    end
    answers[number] = a
  end
  local moved = answers[1] ~= nil and answers[1].id ~= nil and not M.in_step(answers, questions)
  local found = moved and by_id(answers) or answers
  for i, q in ipairs(questions) do
    local a = found[moved and q.question_id or i]
    if not a then error(("%s: there is no answer to question %s"):format(path, q.question_id), 0) end
    q.answer = a.text
  end
  return #answers - #questions, moved
end

--- Writes a question file as the official ones are: JSON lines, ids from 1.
---@param list table[]
---@return string
function M.lines(list)
  local lines = {}
  for i, q in ipairs(list) do
    lines[i] = ('{"question_id": %d, "image": %s, "text": %s, "label": "%s"}\n'):format(i,
      json.encode(q.image), json.encode(q.text), q.label)
  end
  return table.concat(lines)
end

-- ---- statistics ------------------------------------------------------------------------------------------

--- The keys of counts, those of the highest first.
---@param counts table<string, integer>
---@return string[]
function M.ranked(counts)
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
---@return string[], table
function M.frequencies(pictures)
  local counts = {}
  for _, p in ipairs(pictures) do
    for _, name in ipairs(p.names) do counts[name] = (counts[name] or 0) + 1 end
  end
  return M.ranked(counts), counts
end

--- name -> the names it occurs together with, most often first.
---@param pictures table[]
---@return table
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
  for name, c in pairs(counts) do lists[name] = M.ranked(c) end
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

-- Whether a picture holds so many things, and lacks as many.
local function enough(there, present, frequent, each)
  local absent = #frequent
  for _, name in ipairs(frequent) do
    if there[name] then absent = absent - 1 end
  end
  return present >= each and absent >= each
end

--- Draws pictures that can be asked about, in their order.
---@param pictures table[]     { image, names }
---@param opt { count: integer, seed: integer|nil, per_picture: integer|nil }    count 0: all of them
---@return table[]
function M.choose(pictures, opt)
  local frequent, fit = M.frequencies(pictures), {}
  for i, p in ipairs(pictures) do
    local there = {}
    for _, name in ipairs(p.names) do there[name] = true end
    if enough(there, #p.names, frequent, opt.per_picture or 3) then fit[#fit + 1] = i end
  end
  if #fit == 0 then
    error(("pope: none of %d pictures holds %d things and lacks %d others"):format(#pictures, opt.per_picture or 3,
      opt.per_picture or 3), 0)
  end
  if opt.count > 0 and opt.count < #fit then
    rng(opt.seed or 0, "pope:pictures"):shuffle(fit)
    for k = #fit, opt.count + 1, -1 do fit[k] = nil end
    table.sort(fit)
  end
  local chosen = {}
  for k, i in ipairs(fit) do chosen[k] = pictures[i] end
  return chosen
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
    for _, name in ipairs(present) do state.taken[name] = true end
    if not enough(state.taken, #present, frequent, each) then
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
