-- POPE as a run: sets of questions, their answers, made here or elsewhere, and what an earlier run said.
--
--   local sets = pope.sets { "coco_pope_random.json", "coco_pope_popular.json" }      { name, path, questions }
--   local counts = pope.ask(model, sets, { images = "val2014", generate = settings })
local annotated = require "lucid.data.pictures"
local cache = require "lucid.cache"
local data = require "lucid.data.pope"
local file = require "lucid.file"
local filehash = require "lucid.filehash"
local json = require "lucid.json"
local record = require "lucid.data.record"

local M = {}

---@class lucid.PopeSet
---@field name string
---@field path string
---@field questions lucid.PopeQuestion[]

-- ---- sets ------------------------------------------------------------------------------------------

--- The paths of an option: separated by commas.
---@param text string
---@return string[]
function M.paths(text)
  local list = {}
  for path in text:gmatch("[^,]+") do list[#list + 1] = path end
  return list
end

--- What a question file's set is called: coco_pope_random.json is "random".
---@param path string
---@return string
function M.name(path) return (path:match("[^/]*$"):gsub("%.%w+$", ""):gsub("^coco_pope_", "")) end

-- What results.json holds beside sets.
local RESERVED = { config = true, versions = true, hashes = true, generation = true }

--- What is wrong with the names of question files, or nil.
---@param paths string[]
---@return string|nil
function M.fault(paths)
  local named = {}
  if #paths == 0 then return "it names no file" end
  for _, path in ipairs(paths) do
    local name = M.name(path)
    if named[name] then return ("%s and %s are both named %s"):format(named[name], path, name) end
    if RESERVED[name] then return ("%s is named as a part of the results is; rename it"):format(path) end
    named[name] = path
  end
end

--- Reads question files.
---@param paths string[]
---@param opt table|nil     of lucid.data.pope.read
---@return lucid.PopeSet[]
function M.sets(paths, opt)
  local list = {}
  for i, path in ipairs(paths) do
    list[i] = { name = M.name(path), path = path, questions = data.read(path, opt) }
  end
  return list
end

--- The hashes of files, by the names of their sets.
---@param sets lucid.PopeSet[]
---@param paths string[]|nil     default: the question files
---@return table
function M.file_hashes(sets, paths)
  local hashes = {}
  for i, set in ipairs(sets) do hashes[set.name] = file.hash(paths and paths[i] or set.path) end
  return hashes
end

--- Samples the three sets of questions about annotated pictures and writes them as the official files are.
---@param annotations string    a file of lucid.data.pictures
---@param dir string
---@param opt { seed: integer, pictures: integer, per_picture: integer }    pictures: how many are asked about; 0: all
---@param tell fun(text: string)
---@return string[] paths
function M.write(annotations, dir, opt, tell)
  local pictures = annotated.read(annotations)
  local chosen = data.choose(pictures, { seed = opt.seed, count = opt.pictures, per_picture = opt.per_picture })
  local paths = {}
  file.mkdir(dir)
  for i, set in ipairs(data.SETS) do
    local questions = data.sample(chosen, { set = set, seed = opt.seed, per_picture = opt.per_picture, statistics = pictures })
    paths[i] = ("%s/coco_pope_%s.json"):format(dir, set)
    file.write(paths[i], data.lines(questions))
  end
  tell(("%s: questions about %d of %d pictures are in %s"):format(annotations, #chosen, #pictures, table.concat(paths, ", ")))
  return paths
end

-- ---- answers made elsewhere ------------------------------------------------------------------------

--- Gives the questions of each set the answers of its file.
---@param sets lucid.PopeSet[]
---@param paths string[]
---@param tell fun(text: string)     told what is no error
function M.answers(sets, paths, tell)
  for i, set in ipairs(sets) do
    local unused, moved = data.answers(paths[i], set.questions)
    if unused > 0 then tell(("%s: %d answers are to questions that are not in %s"):format(paths[i], unused, set.path)) end
    if moved then tell(("%s: matched by question_id, for its lines are not those of %s"):format(paths[i], set.path)) end
  end
end

-- ---- asking ----------------------------------------------------------------------------------------

-- Distinct (picture, question) pairs of all sets, those of one picture side by side; each question knows its own.
local function requests_of(sets, images)
  local requests, by_key, path_of, pictures = {}, {}, {}, 0
  for _, set in ipairs(sets) do
    for _, q in ipairs(set.questions) do
      local path = path_of[q.image]
      if not path then
        path = data.picture(images, q.image)
        path_of[q.image], pictures = path, pictures + 1
      end
      local key = path .. "\n" .. q.text
      if not by_key[key] then
        by_key[key] = { image = path, prompt = q.text, questions = {} }
        requests[#requests + 1] = by_key[key]
      end
      table.insert(by_key[key].questions, q)
    end
  end
  table.sort(requests, function(a, b)
    if a.image ~= b.image then return a.image < b.image end
    return a.prompt < b.prompt
  end)
  return requests, pictures
end

--- What ends an answer early: that a metric's reading is decided. nil where it cannot tell, or where more than the ends of a
--- text is taken away at last, which may then stand behind what was decided.
---@param metric lucid.Metric
---@param settings lucid.GenerateOptions
---@return function
function M.enough(metric, settings)
  local clean = settings.clean or {}
  return not clean.after and not clean.strip and metric.decided or nil
end

--- Lets a model answer all questions of all sets: each picture is read once for all of them, and no question about it
--- is asked twice.
---@param model table
---@param sets lucid.PopeSet[]
---@param opt { images: string, generate: lucid.GenerateOptions, progress: table|nil }    progress: makes a bar of a total
---@return table<string, table> counts      as metrics: questions, asked, tokens (of their answers), images, prefills (a picture's
---   rows in the language model; where the bridge reads the question once a question), tower (pictures that it has seen)
function M.ask(model, sets, opt)
  local requests, pictures = requests_of(sets, opt.images)
  local settings = { together = true }
  for name, value in pairs(opt.generate) do settings[name] = value end
  local bar, before = opt.progress(#requests), 0
  settings.progress = function(done) bar:step(done, { count = done - before }) before = done end
  local answers, counts = model:generate_all(requests, settings)
  bar:done()
  local questions, tokens = 0, 0
  for i, r in ipairs(requests) do
    tokens = tokens + #answers[i].ids
    for _, q in ipairs(r.questions) do q.answer, questions = answers[i].text, questions + 1 end
  end
  return { questions = { value = questions }, asked = { value = #requests }, tokens = { value = tokens },
    images = { value = pictures }, prefills = { value = counts.prefills }, tower = { value = counts.tower } }
end

--- Hashes of what answers depend on: weights, adapter, prompt, processor, decoding.
---@param model lucid.Model
---@param settings lucid.GenerateOptions
---@param folder string|nil     the cache folder, where the hashes of weights are kept
---@return table
function M.hashes(model, settings, folder)
  local adapter = filehash.of_adapter(model)
  return { weights = cache.key(filehash.of_weights(model, folder)), adapter = adapter and cache.key(adapter),
    prompt = cache.key(model.template.form), processor = model.processing and cache.key(model.processing),
    decoding = cache.key(settings) }
end

-- ---- an earlier run --------------------------------------------------------------------------------

local function base(path) return path:match("[^/]*$") end

-- The answers of a run's samples.jsonl or of an answer file.
local function earlier_answers(path)
  local list = {}
  for value, number in record.rows(path) do
    local r = record.of(value, path, number)
    local own = r:find("answer") ~= nil                -- else the answer is "text"
    list[number] = { set = r:find("set"), image = r:find("image"), text = r:find(own and "question" or "prompt", own and "text" or nil),
      answer = r:answer("answer", "text"), id = data.id(r) or number }
  end
  return list
end

local function by_id(answers)
  local lists = {}
  for _, a in ipairs(answers) do
    lists[a.id] = lists[a.id] or {}
    table.insert(lists[a.id], a)
  end
  return lists
end

-- The earlier answer to a question: its id, its picture and its text, as far as the file has them.
local function match(candidates, q, set, path)
  local found
  for _, a in ipairs(candidates or {}) do
    if (a.image == nil or q.image == nil or base(a.image) == base(q.image)) and (a.text == nil or a.text == q.text) then
      if a.set == set.name then return a end
      if found and found.answer ~= a.answer then
        error(("%s: there are two answers to question %s of %s"):format(path, q.question_id, set.path), 0)
      end
      found = found or a
    end
  end
  return found
end

--- Gives questions the answers of an earlier run: they are matched by picture, text and id, or line by line where the ids
--- stand in the same order.
---@param path string        a run's folder, its samples.jsonl, or an answer file
---@param sets lucid.PopeSet[]
---@param tell fun(text: string)     told what is no error
function M.earlier(path, sets, tell)
  if file.kind(path) == "folder" then path = path .. "/samples.jsonl" end
  local answers, used, matched = earlier_answers(path), {}, 0
  local in_step = #sets == 1 and data.in_step(answers, sets[1].questions)
  local candidates, count = by_id(answers), #answers
  for _, set in ipairs(sets) do
    for i, q in ipairs(set.questions) do
      local a = match(in_step and { answers[i] } or candidates[q.question_id], q, set, path)
      if a then
        q.earlier, matched = a.answer, matched + (used[a] and 0 or 1)
        used[a] = true
      end
    end
  end
  if matched == 0 then error(("%s: none of its %d answers is to a question that is asked here"):format(path, count), 0) end
  if matched < count then
    tell(("%s: %d answers are to questions that are not asked here"):format(path, count - matched))
  end
end

-- ---- results ---------------------------------------------------------------------------------------

--- Scores each set, also against the earlier run whose answers the questions have.
---@param sets lucid.PopeSet[]
---@param metric lucid.Metric
---@param opt table     { bootstrap, seed, compare = text, not empty where there is an earlier run }
---@return table<string, table> results      by the sets' names
function M.score(sets, metric, opt)
  local results = {}
  for _, set in ipairs(sets) do
    results[set.name] = metric.score(set.questions, opt)
    for name, m in pairs(opt.compare ~= "" and metric.compare(set.questions, opt) or {}) do results[set.name][name] = m end
  end
  return results
end

--- All questions with their answers, as samples.jsonl has them.
---@param sets lucid.PopeSet[]
---@return table[]
function M.samples(sets)
  local list = {}
  for _, set in ipairs(sets) do
    for _, q in ipairs(set.questions) do
      q.set = set.name
      list[#list + 1] = q
    end
  end
  return list
end

--- What --json prints of what results.json holds: each set in the metric's own shape; a single one at the top.
---@param all table
---@param sets lucid.PopeSet[]
---@param metric lucid.Metric
---@return table
function M.shape(all, sets, metric)
  for _, set in ipairs(metric.shape and sets or {}) do
    local shaped = metric.shape(all[set.name])
    all[set.name] = #sets > 1 and shaped or nil
    for name, value in pairs(#sets == 1 and shaped or {}) do all[name] = value end
  end
  return all
end

--- The official answer file of a set: JSON lines { question, answer, question_id }.
---@param set lucid.PopeSet
---@return string
function M.answer_lines(set)
  local lines = {}
  for i, q in ipairs(set.questions) do
    lines[i] = json.encode { question = q.text, answer = q.answer, question_id = q.question_id } .. "\n"
  end
  return table.concat(lines)
end

return M
