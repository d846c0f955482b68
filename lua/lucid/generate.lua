-- Generation: requests become prompts, answers grow from them together. One answer a request, greedy or sampled,
-- or the best of a search (lucid.beam).
--
--   local answers = generate.all(model, { { image = "cat.jpg", prompt = "Is there a cat?" } }, { beams = 5 })
--   answers[1].text, answers[1].ids, answers[1].logps, answers[1].score, answers[1].reason
--
-- The options have the names and meanings of transformers' generate. Where its versions differ, length_norm says
-- which one is meant: "full", 4.35 and before, or "new".
local ffi = require "ffi"
local native = require "lucid.native"
local answer = require "lucid.answer"
local beam = require "lucid.beam"
local dist = require "lucid.dist"
local forest = require "lucid.forest"
local options = require "lucid.options"

local C = native.C
local M = {}

---@class lucid.GenerateOptions
---@field max_new_tokens integer|nil     most tokens of an answer, default 256
---@field max_length integer|nil         the same with what is counted of the prompt, where max_new_tokens is not given
---@field min_new_tokens integer|nil     no end before so many tokens
---@field min_length integer|nil         the same with what is counted of the prompt
---@field beams integer|nil              more than 1: beam search
---@field length_norm string|nil         "new" (default): a hypothesis is measured by its own tokens; "full": with the prompt's
---@field length_penalty number|nil      power of the length that a hypothesis' sum is divided by, default 1
---@field early_stopping boolean|string|nil   when a search has enough hypotheses: false (default), true, "never"
---@field repetition_penalty number|nil  default 1
---@field temperature number|nil         0 (the default) is greedy
---@field top_k integer|nil              0: all
---@field top_p number|nil               default 1
---@field seed integer|nil
---@field answers integer|nil            answers to each request: sampled ones, or the best of the search
---@field stop string[]|nil              the answer ends before any of these texts (a "full" search only cuts them off)
---@field stop_ids integer[][]|nil       and before any of these sequences of ids (in a "full" search: of the first beam)
---@field clean table|nil                what becomes of a text at last: it is trimmed; ended = true: with "</s>" behind an
---   answer that has ended; after = what stands behind the last of these; strip = without any of these characters at its
---   ends. What on_text is told is as it was made
---@field counted string|nil             what counts as the prompt: "prompt", its ids, the picture as one; "bos": one
---   begin id, as transformers has it beside embeddings. Default: as the model's own programs have it
---@field enough function|nil            text -> true: the rest of the answer is not needed; not with beams
---@field on_text function|nil           called with a request's number and each new piece of its text; not with beams
---@field batch integer|nil              requests whose answers grow together, default 64
---@field together boolean|nil           a batch ends where the picture changes, so that none is prefilled twice; it may be larger
---@field progress function|nil          called with the number of finished requests

---@field train boolean|nil             prompts have the training form
local FIELDS = options("max_new_tokens max_length min_new_tokens min_length beams length_norm length_penalty early_stopping "
  .. "repetition_penalty temperature top_k top_p seed answers stop stop_ids clean counted enough on_text batch together progress train")

---@class lucid.Answer
---@field text string
---@field ids integer[]       without the id that ended it
---@field logps number[]      of these ids: the model's own; a search's are those after the repetition penalty
---@field score number        the sum of all log-probabilities, that of the end included; a search's is divided by the length
---@field reason string       what ended it: "eos", "stop", "length" or "enough"
---@field answers lucid.Answer[]|nil   all of them, where more than one was asked for; the first is this one

-- ---- settings ------------------------------------------------------------------------------------

--- The names of these settings among recipes' options, for lucid.args.
M.OPTIONS = "max-new-tokens max-length min-new-tokens min-length beams length-norm length-penalty repetition-penalty "
  .. "temperature top-k top-p stop"

-- A limit that takes the place of another.
local INSTEAD = { max_length = "max_new_tokens", min_length = "min_new_tokens" }
local NONE = { max_length = 0, min_length = 0, min_new_tokens = 0, top_k = 0 }

--- The settings that a recipe's parsed options ask for.
---@param opt table
---@param published lucid.GenerateOptions|nil    what holds where an option was not given
---@return lucid.GenerateOptions
function M.settings(opt, published)
  local settings = {}
  for name, value in pairs(published or {}) do settings[name] = value end
  for name in M.OPTIONS:gmatch "%S+" do
    local field = name:gsub("%-", "_")
    local value = opt[field]
    if name == "stop" then
      if value and value ~= "" then settings.stop = { value, unpack(settings.stop or {}) } end
    elseif opt.given[name] or not published then
      if value ~= NONE[field] then
        settings[field] = value
        local other = INSTEAD[field]
        if other and not opt.given[other:gsub("_", "-")] then settings[other] = nil end
      end
    end
  end
  settings.seed = opt.seed
  return settings
end

-- What the programs of each kind of model hand over: LLaVA's the prompt's ids, the others' embeddings.
local COUNTED = { llava = "prompt", minigpt4 = "bos", instructblip = "bos" }

-- Of these kinds what stands behind the tokenizer's own pieces is never chosen: InstructBLIP's [PAD] has a row
-- that nothing has trained.
local PIECES_ALONE = { instructblip = true }

local CHOICES = {
  length_norm = { full = true, new = true }, counted = { prompt = true, bos = true },
  early_stopping = { [false] = true, [true] = true, never = true },
}

local function check_choice(s, name)
  if CHOICES[name][s[name]] then return end
  local names = {}
  for choice in pairs(CHOICES[name]) do names[#names + 1] = tostring(choice) end
  table.sort(names)
  error(("generate: %s is '%s'; known are %s"):format(name, tostring(s[name]), table.concat(names, ", ")), 0)
end

local function check_number(s, name, least)
  local value = s[name]
  if type(value) ~= "number" or value ~= value or value < least or (name ~= "temperature" and value % 1 ~= 0) then
    error(("generate: %s is %s; %s, %g or more"):format(name, tostring(value),
      name == "temperature" and "a number" or "a whole number", least), 0)
  end
end

-- The ids that end an answer: the tokenizer's and those that the folder names.
local function end_ids(model)
  local list, seen = {}, {}
  local function add(id)
    if type(id) == "number" and not seen[id] then
      seen[id] = true
      list[#list + 1] = id
    end
  end
  add(model.tokenizer.eos)
  for _, config in ipairs { model.generation or {}, model.config, model.config.text_config or {} } do
    local named = config.eos_token_id
    for _, id in ipairs(type(named) == "table" and named or { named }) do add(id) end
    if named ~= nil then break end
  end
  return list, seen
end

local function no_empty(list)
  local kept = {}
  for _, entry in ipairs(list or {}) do
    if #entry > 0 then kept[#kept + 1] = entry end
  end
  return kept
end

--- The options with their defaults, and what follows from the model: ends, is_end, words.
---@param model table
---@param opt lucid.GenerateOptions
---@return lucid.GenerateOptions
function M.complete(model, opt)
  FIELDS:check("generate", opt)
  local s = { length_norm = "new", length_penalty = 1, early_stopping = false, repetition_penalty = 1, temperature = 0,
    top_k = 0, top_p = 1, seed = 0, beams = 1, answers = 1, counted = COUNTED[model.kind] }
  for name, value in pairs(opt) do s[name] = value end
  check_choice(s, "length_norm")
  check_choice(s, "counted")
  check_choice(s, "early_stopping")
  check_number(s, "beams", 1)
  check_number(s, "answers", 1)
  if s.max_new_tokens then check_number(s, "max_new_tokens", 1) end
  check_number(s, "temperature", 0)
  if s.beams > 1 and s.temperature > 0 then
    error("generate: a search does not sample; give beams or a temperature", 0)
  end
  if s.beams == 1 and s.temperature == 0 and s.answers > 1 or s.beams > 1 and s.answers > s.beams then
    error(("generate: %d answers; greedy there is one, and a search has as many as beams"):format(s.answers), 0)
  end
  s.stop, s.stop_ids = no_empty(s.stop), no_empty(s.stop_ids)
  s.ends, s.is_end = end_ids(model)
  s.words = PIECES_ALONE[model.kind] and model.tokenizer.pieces
  return s
end

-- ---- prompts -------------------------------------------------------------------------------------

---@class lucid.PreparedRequest
---@field sequence lucid.Sequence   for lucid.forest.of
---@field length integer            what limits and norms count of the prompt
---@field counted integer[]         ids that the repetition penalty counts
---@field most integer              tokens of the answer
---@field least integer

-- Ids in place of the picture's, where the folder has one (Hugging Face's LLaVA).
local function picture_id(config) return config.image_token_index or config.image_token_id end

local function begin_id(model)
  for _, config in ipairs { model.generation or {}, model.config, model.config.text_config or {} } do
    if type(config.bos_token_id) == "number" then return config.bos_token_id end
  end
  return 1
end

local function counted_ids(model, ids, s)
  if s.counted == "bos" then return { begin_id(model) } end
  local list = {}
  for i = 1, #ids do
    local id = ids[i]
    if id == forest.IMAGE then id = picture_id(model.config) end
    list[#list + 1] = id
  end
  return list
end

local function prepare(model, ids, image, s)
  local length = s.counted == "bos" and 1 or #ids
  local most = s.max_new_tokens or s.max_length and s.max_length - length or 256
  if most < 1 then
    error(("generate: max_length is %d, and the prompt counts %d; nothing is left for an answer"):format(
      s.max_length or most, length), 0)
  end
  return {
    sequence = { image = image, ids = ids, score_from = #ids + 1 },
    length = length, counted = counted_ids(model, ids, s), most = most,
    least = math.max(s.min_new_tokens or (s.min_length or 0) - length, 0),
  }
end

local function request_ids(model, r, s)
  if r.ids then return r.ids, r.image end
  if type(r.prompt) ~= "string" then native.raise("generate: a request needs a prompt, a text, or ids") end
  local ids = model.template:tokens(model.tokenizer, r.prompt, { train = s.train, image = r.image ~= nil })
  return ids, model:picture(r.image, r.prompt)
end

local function id_list(ids) return ffi.new("int32_t[?]", math.max(#ids, 1), ids), #ids end

-- What a leaf's penalty and limits go by.
local function set_leaf(g, leaf, item, stream)
  native.check(C.lc_generator_seen(g, leaf, id_list(item.counted)))
  native.check(C.lc_generator_least(g, leaf, item.least))
  native.check(C.lc_generator_stream(g, leaf, stream))
end

-- A generator whose leaves are the prompts' ends, and how many pictures it has run.
local function open(model, items, s)
  local sequences, most = {}, 1
  for i, item in ipairs(items) do
    sequences[i], most = item.sequence, math.max(most, item.most)
  end
  local f = forest.of(sequences)
  local b = model:batch(f)
  local g = ffi.gc(native.check(C.lc_generator_new(model.handle, b, most, model.adapters)), C.lc_generator_free)
  native.check(C.lc_generator_sampling(g, s.temperature, s.top_k, s.top_p, s.seed))
  native.check(C.lc_generator_penalty(g, s.repetition_penalty))
  native.check(C.lc_generator_ends(g, id_list(s.ends)))
  if s.words then native.check(C.lc_generator_words(g, s.words)) end
  for i, item in ipairs(items) do
    item.most = math.min(item.most, tonumber(C.lc_generator_room(g, i - 1)))
    set_leaf(g, i - 1, item, item.stream)
  end
  return g, f:pictures()
end

-- Gives the keys and values back at once; the collector does not see how large they are.
local function close(g) C.lc_generator_free(ffi.gc(g, nil)) end

-- Steps a generator until all its answers are over.
local function grow(g, answers)
  local n = #answers
  local tokens, logps = ffi.new("int32_t[?]", n), ffi.new("float[?]", n)
  local open_ones = n
  for i, a in ipairs(answers) do
    if a.reason then
      C.lc_generator_end(g, i - 1)
      open_ones = open_ones - 1
    end
  end
  while open_ones > 0 do
    native.check(C.lc_generator_step(g, tokens, logps))
    for i, a in ipairs(answers) do
      if not a.reason and a:push(tokens[i - 1], logps[i - 1]) then
        open_ones = open_ones - 1
        if not a.stays then C.lc_generator_end(g, i - 1) end
      end
    end
  end
end

-- ---- batches -------------------------------------------------------------------------------------

-- The same request again and again, each with random numbers of its own: the prompt runs once.
local function batch_items(model, requests, from, to, s)
  local items, copies = {}, s.beams == 1 and s.answers or 1
  for i = from, to do
    local ids, image = request_ids(model, requests[i], s)
    for k = 1, copies do
      local item = prepare(model, ids, image, s)
      item.stream = (requests[i].stream or i - 1) + (k - 1) * 2 ^ 32
      items[#items + 1] = item
    end
  end
  return items, copies
end

local function sampled(model, g, items, from, copies, s)
  local answers = {}
  for i, item in ipairs(items) do
    local number = from + math.floor((i - 1) / copies)
    answers[i] = answer.new(model.tokenizer, item.most, s, s.on_text and copies == 1 and function(piece) s.on_text(number, piece) end)
  end
  grow(g, answers)
  for i, a in ipairs(answers) do answers[i] = a:answer() end
  return answers
end

local function searched(model, g, items, s)
  local tokenizer = model.tokenizer
  local stops = {
    text = #s.stop > 0 and function(ids) return answer.has_stop(tokenizer, ids, s) end,
    ids = function(ids) return answer.ending(ids, s.stop_ids) ~= nil end,
  }
  local lists, answers = beam.search(g, items, s, stops), {}
  for _, list in ipairs(lists) do
    for k = 1, s.answers do
      local a = list[k] or list[#list]
      a.text = answer.clean(answer.text_of(tokenizer, a.ids, s), s.clean, a.reason == "eos")
      answers[#answers + 1] = a
    end
  end
  return answers
end

-- The answers to requests [from, to], s.answers to each one after the other, and what they cost.
local function batch(model, requests, from, to, s)
  local seen = model.seen.runs
  local items, copies = batch_items(model, requests, from, to, s)
  local g, prefills = open(model, items, s)
  local answers = s.beams > 1 and searched(model, g, items, s) or sampled(model, g, items, from, copies, s)
  close(g)
  return { answers = answers, prefills = prefills, tower = model.seen.runs - seen }
end

-- Where the batch that begins at from ends.
local function batch_end(requests, from, s)
  local to = math.min(from + (s.batch or 64) - 1, #requests)
  if not s.together or to == #requests or requests[to].image == nil then return to end
  local image, cut = requests[to].image, to
  if requests[to + 1].image ~= image then return to end
  while cut >= from and requests[cut].image == image do cut = cut - 1 end
  if cut >= from then return cut end
  while to < #requests and requests[to + 1].image == image do to = to + 1 end
  return to
end

--- Raises where a model has no tokenizer.
---@param model lucid.Model
function M.check_model(model)
  if not model.tokenizer then error(model.dir .. ": there is no tokenizer.model; put the model's own there", 0) end
end

--- Answers many requests { image=, prompt= (a question) or ids= }, in order. An answer does not depend on
--- the others of its batch; sampled ones depend on the request's place, or its own number `stream`. The processes of a
--- job take batches as they come free, and all get all answers.
---@param model table
---@param requests table[]
---@param opt lucid.GenerateOptions|nil
---@return lucid.Answer[]
---@return { prefills: integer, tower: integer } counts      how often the rows of a picture went through the language model,
---   and how many pictures through the tower
function M.all(model, requests, opt)
  M.check_model(model)
  local s = M.complete(model, opt or {})
  local ends, counts, out = {}, { prefills = 0, tower = 0 }, {}
  while (ends[#ends] or 0) < #requests do ends[#ends + 1] = batch_end(requests, (ends[#ends] or 0) + 1, s) end
  local batches = dist.hand_out(#ends, function(i)
    return native.scope(function() return native.no_grad(batch, model, requests, (ends[i - 1] or 0) + 1, ends[i], s) end)
  end, s.progress and function(i) s.progress(ends[i]) end)
  model.seen:sync()
  for _, b in ipairs(batches) do
    counts.prefills, counts.tower = counts.prefills + b.prefills, counts.tower + b.tower
    for first = 1, #b.answers, s.answers do
      local a = b.answers[first]
      if s.answers > 1 then a.answers = { unpack(b.answers, first, first + s.answers - 1) } end
      out[#out + 1] = a
    end
  end
  return out, counts
end

-- ---- one path that goes on -----------------------------------------------------------------------

---@class lucid.Path
---@field run integer[]      the ids whose keys and values are kept
local Path = {}
Path.__index = Path

--- A path of ids that answers follow, for a conversation: what has run once is kept.
---@param model table
---@param opt lucid.GenerateOptions|nil
---@return lucid.Path
function M.path(model, opt)
  M.check_model(model)
  local s = M.complete(model, opt or {})
  if s.beams > 1 or s.answers > 1 then error("generate: a path has one answer at a time, without beams", 0) end
  return setmetatable({ model = model, s = s, run = {}, turn = 0 }, Path)
end

-- How many of the ids have run already; nil when they are no continuation of what has.
local function common(self, ids, image)
  if not self.g or self.image ~= image or #self.run >= #ids then return nil end
  for i, id in ipairs(self.run) do
    if ids[i] ~= id then return nil end
  end
  return #self.run
end

-- A generator that stands behind the item's ids: g, of whose path they are a continuation, or a new one.
local function go_on(self, item, g, kept)
  if not kept then
    if g then close(g) end
    return open(self.model, { item }, self.s)
  end
  native.check(C.lc_generator_continue(g, 0, id_list { unpack(item.sequence.ids, kept + 1) }))
  item.most = math.min(item.most, tonumber(C.lc_generator_room(g, 0)))
  set_leaf(g, 0, item, item.stream)
  return g
end

--- The answer that follows ids.
---@param ids integer[]
---@param image any
---@param say function|nil    called with each new piece of the text
---@return lucid.Answer
function Path:answer(ids, image, say)
  local item = prepare(self.model, ids, image, self.s)
  item.stream, self.turn = self.turn, self.turn + 1
  local g, kept, a = self.g, common(self, ids, image), nil
  self.g = nil                                          -- what fails leaves nothing behind
  native.scope(function()
    native.no_grad(function()
      g = go_on(self, item, g, kept)
      a = answer.new(self.model.tokenizer, item.most, self.s, say)
      a.stays = true
      grow(g, { a })
    end)
  end)
  if #a.ids > 0 or a.ended_by then self.g = g end
  self.image, self.run = image, { unpack(ids) }
  local ran = #a.ids - (a.ended_by and 0 or 1)          -- the token chosen last has not run
  for i = 1, ran do self.run[#self.run + 1] = a.ids[i] end
  return a:answer()
end

return M
