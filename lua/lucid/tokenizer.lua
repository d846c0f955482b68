-- Tokenizers: LLaMA's SentencePiece and BERT's WordPiece, with the special strings of a model's folder.
--
--   local tk = lucid.tokenizer("checkpoints/llava")          a folder, a *.model file or a vocab.txt
--   tk:encode("A dog.")  tk:encode("<s>A dog.", { special = true })  tk:decode(ids)
--   tk:encode(question, { bos = true, eos = true, max = 128, truncate = "left" })
--   local s = tk:stream()  io.write(s:push(id))  ...  io.write(s:finish())
--
-- Ids are those of transformers' slow LlamaTokenizer, legacy or not, and BertTokenizer.
local ffi = require "ffi"
local native = require "lucid.native"
local options = require "lucid.options"
local file = require "lucid.file"
local json = require "lucid.json"

local C = native.C
local M = {}

---@class lucid.Tokenizer
---@field kind string           "sentencepiece" or "wordpiece"
---@field bos integer|nil       ids of the special pieces that there are; BERT's are [CLS] and [SEP]
---@field eos integer|nil
---@field unk integer|nil
---@field pad integer|nil
---@field special table         registered string -> { id =, special =, lstrip =, rstrip =, single_word = }
---@field names table           id -> registered string
---@field legacy boolean        every chunk of text begins with a space, not only the first
---@field early boolean|nil      with legacy = false: as transformers 4.31 to 4.33 did it
local Tokenizer = {}
Tokenizer.__index = Tokenizer

local SPACE = "\226\150\129"    -- U+2581, a space in a piece

-- ---- opening -----------------------------------------------------------------------------------

---@class lucid.Registered
---@field id integer|nil            default: the piece's own, or the first free one
---@field special boolean|nil       decode leaves it out (the default); false: it is shown
---@field lstrip boolean|nil        it takes the white space before it along
---@field rstrip boolean|nil        ... behind it
---@field single_word boolean|nil   only where spaces stand around it

--- Registers a string that is cut out of texts, and gives its id.
---@param content string
---@param opt lucid.Registered|nil
---@return integer
function Tokenizer:add(content, opt)
  opt = opt or {}
  if type(content) ~= "string" or content == "" then error("add: a string is expected", 2) end
  local id = opt.id or self:id(content) or self.count
  if type(id) ~= "number" or id < 0 or id % 1 ~= 0 then
    error(("add: %s has no whole number for its id"):format(content), 2)
  end
  local old = self.special[content]
  if old and old.id ~= id then self.names[old.id] = nil end
  self.special[content] = {
    id = id, special = opt.special ~= false, lstrip = opt.lstrip == true, rstrip = opt.rstrip == true,
    single_word = opt.single_word == true,
  }
  self.names[id] = content
  self.count = math.max(self.count, id + 1)
  return id
end

-- "<pad>" or { content = "<pad>" }
local function content_of(value)
  if type(value) == "table" then value = value.content end
  return type(value) == "string" and value ~= "" and value or nil
end

-- In the order in which those that no vocabulary has get new ids.
local NAMED = { "bos", "eos", "unk", "sep", "pad", "cls", "mask" }

-- Puts what tokenizer_config.json or special_tokens_map.json names over what was named before:
-- named[name] = "<s>" or { content = "<s>", lstrip = ... }, named.more = a list of them.
local function name_strings(named, map)
  for _, name in ipairs(NAMED) do
    local value = map[name .. "_token"]
    if content_of(value) then named[name] = value end
  end
  for _, value in ipairs(type(map.additional_special_tokens) == "table" and map.additional_special_tokens or {}) do
    if content_of(value) then table.insert(named.more, value) end
  end
end

-- The strings with ids of their own that a folder lists, a list of { content, id, flags }. As in
-- transformers, a list in tokenizer_config.json makes the older files void.
local function listed_strings(read, config, named, dir)
  local list = {}
  local function note(content, id, flags)
    if not content_of(content) or type(id) ~= "number" then return end
    if id % 1 ~= 0 or id < 0 or id >= 2 ^ 31 then error(("%s: the added token %s has the id %s"):format(dir, content, id), 0) end
    list[#list + 1] = { content, id, flags }
  end
  if type(config.added_tokens_decoder) == "table" then
    for id, t in pairs(config.added_tokens_decoder) do
      if type(t) == "table" then note(t.content, tonumber(id), t) end
    end
    return list
  end
  name_strings(named, read "special_tokens_map.json")
  for content, id in pairs(read "added_tokens.json") do note(content, id, {}) end
  local added = read("tokenizer.json").added_tokens
  for _, t in ipairs(type(added) == "table" and added or {}) do
    if type(t) == "table" then note(t.content, t.id, t) end
  end
  return list
end

-- Registers what is listed, then what is only named. Special is what says so or has a name.
local function register_all(self, list, named)
  local order, special, done = {}, {}, {}
  for _, name in ipairs(NAMED) do order[#order + 1] = named[name] end
  for _, value in ipairs(named.more) do order[#order + 1] = value end
  for _, value in ipairs(order) do special[content_of(value)] = true end
  local function register(content, id, flags)
    self:add(content, { id = id, special = flags.special == true or special[content] == true,
      lstrip = flags.lstrip, rstrip = flags.rstrip, single_word = flags.single_word })
    done[content] = true
  end
  for _, entry in ipairs(list) do register(unpack(entry)) end
  for _, value in ipairs(order) do
    local content = content_of(value)
    if not done[content] then register(content, nil, type(value) == "table" and value or {}) end
  end
  for _, name in ipairs(NAMED) do
    local entry = self.special[content_of(named[name])]
    self[name] = entry and entry.id
  end
end

-- What a folder registers beside the model's own pieces, in Hugging Face's files.
local function read_folder(self, dir, named)
  local function read(name)
    local path = dir .. "/" .. name
    return file.kind(path) == "file" and json.read_object(path) or {}
  end
  local config = read "tokenizer_config.json"
  if config.do_lower_case == false and self.kind == "wordpiece" then
    error(("%s: do_lower_case is false; of BERT's tokenizers only uncased ones are known"):format(dir), 0)
  end
  if config.legacy == false then self.legacy = false end
  name_strings(named, config)
  return listed_strings(read, config, named, dir)
end

-- The special pieces of the vocabulary itself, by name.
local function own_names(self)
  local named = { more = {} }
  for i, name in ipairs { "unk", self.kind == "wordpiece" and "cls" or "bos", self.kind == "wordpiece" and "sep" or "eos", "pad" } do
    local id = C.lc_tokenizer_special(self.handle, i - 1)
    if id >= 0 then named[name] = ffi.string(C.lc_tokenizer_piece(self.handle, id)) end
  end
  if self.kind == "wordpiece" and self:id "[MASK]" then named.mask = "[MASK]" end
  return named
end

--- Opens a tokenizer.
---@param path string      a folder with tokenizer.model or vocab.txt, a *.model or a *.txt file
---@return lucid.Tokenizer
function M.open(path)
  local handle = C.lc_tokenizer_open(path)
  if handle == nil then native.fail() end
  local self = setmetatable({
    handle = ffi.gc(handle, C.lc_tokenizer_close),
    kind = C.lc_tokenizer_is_wordpiece(handle) ~= 0 and "wordpiece" or "sentencepiece",
    legacy = true, special = {}, names = {},
    pieces = C.lc_tokenizer_pieces(handle),
  }, Tokenizer)
  self.count = self.pieces
  local named = own_names(self)
  register_all(self, file.kind(path) == "folder" and read_folder(self, path, named) or {}, named)
  if self.kind == "wordpiece" then self.bos, self.eos = self.cls, self.sep end
  return self
end

--- Opens BERT's vocabulary, which a Q-Former reads the question with.
---@param path string      a folder with vocab.txt, or a *.txt file
---@return lucid.Tokenizer
function M.bert(path)
  local self = M.open(path)
  if self.kind ~= "wordpiece" then error(("%s: BERT's vocab.txt is expected"):format(path), 0) end
  return self
end

local PADDING = 64      -- rows that a model may have beyond its tokenizer: llava-hf's are 32064 for 32000 pieces

--- Refuses a tokenizer that belongs to another model.
---@param path string      of the tokenizer, for the message
---@param rows integer     the model's word embeddings
---@param whose string     "the model's vocabulary"
function Tokenizer:check_rows(path, rows, whose)
  if self.pieces <= rows and rows <= self.count + PADDING then return end
  error(("%s: it has %d pieces, but %s has %d: it is another model's; get the one that belongs to these weights"):format(
    path, self.pieces, whose, rows), 0)
end

-- ---- text to ids -------------------------------------------------------------------------------

local out_ids, out_count = ffi.new("int32_t *[1]"), ffi.new("size_t[1]")
local out_text = ffi.new("char *[1]")

local function encode_chunk(self, text, inside, ids)
  native.check(C.lc_tokenizer_encode(self.handle, text, #text, inside and 1 or 0, out_ids, out_count))
  local list, n, at = out_ids[0], tonumber(out_count[0]), #ids
  for i = 0, n - 1 do ids[at + i + 1] = list[i] end
  C.lc_free_bytes(list)
end

-- The registered strings of a text in their order, as an iterator: where each begins and ends. Of those
-- that begin at one place it is the longest.
local function specials_in(self, text)
  local at, ahead = 1, {}         -- ahead: content -> its next place, false when there is none
  return function()
    local best, best_end
    for content in pairs(self.special) do
      local first = ahead[content]
      if first == nil or (first and first < at) then
        first = text:find(content, at, true) or false
        ahead[content] = first
      end
      local last = first and first + #content - 1
      if first and (not best or first < best or (first == best and last > best_end)) then
        best, best_end = first, last
      end
    end
    if best then at = best_end + 1 end
    return best, best_end
  end
end

-- What Python's strip takes away.
local WHITE = {}
for _, c in ipairs {
  "\t", "\n", "\v", "\f", "\r", "\28", "\29", "\30", "\31", " ", "\194\133", "\194\160", "\225\154\128",
  "\226\128\168", "\226\128\169", "\226\128\175", "\226\129\159", "\227\128\128",
} do WHITE[c] = true end
for last = 128, 138 do WHITE["\226\128" .. string.char(last)] = true end

local function strip_left(text)
  local at, n = 1, 1
  while n <= 3 do
    if WHITE[text:sub(at, at + n - 1)] then at, n = at + n, 1 else n = n + 1 end
  end
  return text:sub(at)
end

local function strip_right(text)
  local last, n = #text, 1
  while n <= 3 do
    if WHITE[text:sub(last - n + 1, last)] then last, n = last - n, 1 else n = n + 1 end
  end
  return text:sub(1, last)
end

-- A registered string takes white space from its neighbours; one that needs to be a word of its own and
-- is none becomes part of a neighbour. In transformers' order, from left to right over the parts.
local function settle(self, parts)
  for i, part in ipairs(parts) do
    local entry = self.special[part]
    local left, right = parts[i - 1], parts[i + 1]
    if left == "" then left = nil end
    if right == "" then right = nil end
    if entry then
      if entry.rstrip and right then parts[i + 1] = strip_left(right) end
      if entry.lstrip and left then parts[i - 1] = strip_right(left) end
      if entry.single_word and left and left:sub(-1) ~= " " then
        parts[i - 1], parts[i] = parts[i - 1] .. part, ""
      elseif entry.single_word and right and right:sub(1, 1) ~= " " then
        parts[i + 1], parts[i] = part .. parts[i + 1], ""
      end
    end
  end
end

local function parts_of(self, text)
  local parts, at = {}, 1
  for first, last in specials_in(self, text) do
    if first > at then parts[#parts + 1] = text:sub(at, first - 1) end
    parts[#parts + 1] = text:sub(first, last)
    at = last + 1
  end
  if at <= #text then parts[#parts + 1] = text:sub(at) end
  settle(self, parts)
  return parts
end

-- Transformers 4.31: SentencePiece puts its space in front of every chunk, and those that neither begin the text
-- (a mark says so) nor begin with a space of their own lose it again, off their first piece.
local function encode_early(self, part, ids)
  local from, own, marked = #ids, part:sub(1, 1) == " ", part:sub(1, #SPACE) == SPACE
  encode_chunk(self, marked and part:sub(#SPACE + 1) or part, false, ids)
  if marked or own then return end
  local piece = self:piece(ids[from + 1])
  if piece == SPACE then
    table.remove(ids, from + 1)
  elseif piece:sub(1, #SPACE) == SPACE then
    ids[from + 1] = self:id(piece:sub(#SPACE + 1)) or self.unk
  end
end

-- Legacy: SentencePiece puts a space in front of every chunk. Newer: the one in front of the whole text
-- is written here, and is left out again before a special string.
local function encode_with_specials(self, text, inside, ids)
  local newer = self.kind == "sentencepiece" and not self.legacy
  local from = #ids
  if newer then text = text:gsub(SPACE, " ") end
  if newer and not inside and text ~= "" then text = SPACE .. text end
  for _, part in ipairs(parts_of(self, text)) do
    local entry = self.special[part]
    if entry then
      ids[#ids + 1] = entry.id
    elseif part ~= "" then
      if newer and self.early then encode_early(self, part, ids) else encode_chunk(self, part, newer, ids) end
    end
  end
  local second = newer and not self.early and not inside and self.special[self.names[ids[from + 2]]]
  if second and second.special and ids[from + 1] == self:id(SPACE) then table.remove(ids, from + 1) end
end

-- Cuts ids down so that bos and eos fit, too. The end goes, or with side = "left" the beginning.
local function truncate(ids, most, side)
  local over = #ids - math.max(most, 0)
  if over <= 0 then return ids end
  local from = side == "left" and over or 0
  local kept = {}
  for i = 1, #ids - over do kept[i] = ids[from + i] end
  return kept
end

local ENCODED, DECODED = options "bos eos special inside max truncate", options "special"

--- Most bytes of a text that one id stands for; nil: nothing bounds them, for what has no piece is one id however
--- long it is.
---@return integer|nil
function Tokenizer:longest()
  if not self:id "<0x00>" then return nil end
  if not self.most then
    self.most = 1
    for id = 0, self.pieces - 1 do self.most = math.max(self.most, #self:piece(id)) end
  end
  return self.most
end

---@class lucid.EncodeOptions
---@field bos boolean|nil       begin with the BOS id
---@field eos boolean|nil       end with the EOS id
---@field special boolean|nil   registered strings in the text become their ids; else they are text
---@field inside boolean|nil    the text goes on behind a special id
---@field max integer|nil       most ids, BOS and EOS included
---@field truncate string|nil   the side that is cut off when there are more: "right" (default), "left"

--- The ids of a text. What is no UTF-8 is read as U+FFFD.
---@param text string
---@param opt lucid.EncodeOptions|nil
---@return integer[]
function Tokenizer:encode(text, opt)
  if type(text) ~= "string" then
    error("encode: a string is expected, not a " .. type(text), 2)
  end
  ENCODED:check("encode", opt)
  opt = opt or {}
  local ids = {}
  if opt.special then
    encode_with_specials(self, text, opt.inside, ids)
  elseif text ~= "" then
    encode_chunk(self, text, opt.inside and not self.legacy, ids)
  end
  if opt.max then
    ids = truncate(ids, opt.max - (opt.bos and 1 or 0) - (opt.eos and 1 or 0), opt.truncate)
  end
  if opt.bos then table.insert(ids, 1, self.bos) end
  if opt.eos then ids[#ids + 1] = self.eos end
  return ids
end

-- ---- ids to text -------------------------------------------------------------------------------

local function decode_run(self, ids)
  local n = #ids
  for i = 1, n do
    if type(ids[i]) ~= "number" then native.raise(("decode: id %d is a %s, not a number"):format(i, type(ids[i]))) end
  end
  local list = ffi.new("int32_t[?]", math.max(n, 1), ids)
  if C.lc_tokenizer_decode(self.handle, list, n, out_text, out_count) < 0 then native.fail() end
  local text = ffi.string(out_text[0], out_count[0])
  C.lc_free_bytes(out_text[0])
  return text
end

-- The texts of the runs between registered strings, with those strings that are wanted in between.
local function decoded_parts(self, ids, wanted)
  local parts, run = {}, {}
  local function finish(last)
    local text = #run > 0 and decode_run(self, run) or ""
    if text ~= "" or (last and #run > 0) then parts[#parts + 1] = text end
    run = {}
  end
  for i = 1, #ids do
    local name = self.names[ids[i]]
    if not name then
      run[#run + 1] = ids[i]
    elseif wanted(self.special[name]) then
      finish()
      parts[#parts + 1] = name
    end
  end
  finish(true)
  return parts
end

-- BERT's pieces are words, and special strings are words among them.
local function join_words(parts)
  local text = table.concat(parts, " "):gsub(" ##", "")
  return (text:gsub("^%s+", ""):gsub("%s+$", ""))
end

--- The text of ids, without the space that every text begins with. Special ids are left out, and other
--- registered strings stand between spaces, as in transformers. With { special = true } all are shown,
--- and each run between them is a text of its own.
---@param ids integer[]
---@param opt table|nil
---@return string
function Tokenizer:decode(ids, opt)
  DECODED:check("decode", opt)
  local all = opt and opt.special
  local parts = decoded_parts(self, ids, function(entry) return all or not entry.special end)
  if self.kind == "wordpiece" then return join_words(parts) end
  return table.concat(parts, all and "" or " ")
end

-- ---- one id after the other --------------------------------------------------------------------

local BAD = "\239\191\189"      -- U+FFFD

-- The length of the UTF-8 character that text begins with; 0 when more bytes may complete it, nil
-- when none can.
local function character(text)
  local a, b = text:byte(1, 2)
  if a < 0x80 then return 1 end
  if a < 0xC2 or a > 0xF4 then return nil end
  local n = a < 0xE0 and 2 or a < 0xF0 and 3 or 4
  local low = a == 0xE0 and 0xA0 or a == 0xF0 and 0x90 or 0x80
  local high = a == 0xED and 0x9F or a == 0xF4 and 0x8F or 0xBF
  if b and (b < low or b > high) then return nil end
  for i = 3, math.min(n, #text) do
    local c = text:byte(i)
    if c < 0x80 or c > 0xBF then return nil end
  end
  return #text >= n and n or 0
end

---@class lucid.TokenStream
local Stream = {}
Stream.__index = Stream

-- Whole characters leave the held bytes; what can be none becomes U+FFFD, as in decode.
local function drain(self, ended)
  local out = {}
  while self.held ~= "" do
    local n = character(self.held)
    if n == 0 and not ended then break end
    out[#out + 1] = n and n > 0 and self.held:sub(1, n) or BAD
    self.held = self.held:sub(n and n > 0 and n + 1 or 2)
  end
  return table.concat(out)
end

-- A registered string that is shown: a part of its own between spaces, as in decode.
local function push_name(self, name)
  local before = drain(self, true)
  local text = before .. ((self.said or before ~= "") and " " or "") .. name
  self.begun, self.gap, self.said = false, true, true
  return text
end

-- Text behind such a string begins with a space.
local function spaced(self, text)
  if text == "" then return "" end
  if self.gap then text = " " .. text end
  self.gap, self.said = false, true
  return text
end

local function push_word(self, piece)
  local text = self.begun and (piece:match "^##(.*)" or " " .. piece) or piece
  self.begun = true
  return text
end

--- The text that one more id completes; "" while a character of several bytes is not whole.
---@param id integer
---@return string
function Stream:push(id)
  local tk = self.tokenizer
  local name = tk.names[id]
  if name and tk.special[name].special then return "" end
  if tk.kind == "wordpiece" then return push_word(self, name or tk:piece(id)) end
  if name then return push_name(self, name) end
  local piece = tk:piece(id)
  local byte = piece:match("^<0x(%x%x)>$")
  if byte then
    self.held, self.begun = self.held .. string.char(tonumber(byte, 16)), true
    return spaced(self, drain(self, false))
  end
  local before = drain(self, true)
  local text = piece:gsub(SPACE, " ")
  if not self.begun and text:sub(1, 1) == " " then text = text:sub(2) end
  self.begun = true
  return spaced(self, before .. text)
end

--- What is still held back.
---@return string
function Stream:finish() return spaced(self, drain(self, true)) end

--- Decodes ids as they come: all that push and finish return, joined, is what decode returns.
---@return lucid.TokenStream
function Tokenizer:stream()
  return setmetatable({ tokenizer = self, held = "", begun = false }, Stream)
end

-- ---- pieces ------------------------------------------------------------------------------------

--- A piece's text, "\226\150\129the".
---@param id integer
---@return string
function Tokenizer:piece(id)
  if id >= self.pieces and self.names[id] then return self.names[id] end
  local piece = C.lc_tokenizer_piece(self.handle, id)
  if piece == nil then native.fail() end
  return ffi.string(piece)
end

--- The id of a piece or special string, or nil.
---@param piece string
---@return integer|nil
function Tokenizer:id(piece)
  if self.special[piece] then return self.special[piece].id end
  local id = C.lc_tokenizer_id(self.handle, piece)
  return id >= 0 and id or nil
end

--- Whether an id stands for something; a model may have more rows than its tokenizer has pieces.
---@param id integer
---@return boolean
function Tokenizer:has(id) return id >= 0 and id < self.pieces or self.names[id] ~= nil end

--- How many ids there are, those of special strings included.
---@return integer
function Tokenizer:size() return self.count end

-- ---- training ----------------------------------------------------------------------------------

--- Trains a model: SentencePiece BPE with byte fallback and LLaMA's settings. Every word of
--- opt.words becomes one piece; if that many pieces cannot hold them, an error lists the words.
---@param corpus string      a text file, a sentence a line
---@param model string       what is written, *.model
---@param opt table          { pieces, words }
---@return lucid.Tokenizer
function M.train(corpus, model, opt)
  local words = {}
  for i, word in ipairs(opt.words or {}) do words[i] = word .. "\n" end
  local list = table.concat(words)
  if C.lc_tokenizer_train(corpus, model, opt.pieces, list) < 0 then native.fail() end
  return M.open(model)
end

return setmetatable(M, { __call = function(_, ...) return M.open(...) end })
