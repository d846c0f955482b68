-- Tokenizers: LLaMA's SentencePiece, with the special strings of a model's folder.
--
--   local tk = lucid.tokenizer("checkpoints/llava")          a folder, or a *.model file
--   tk:encode("A dog.")  tk:encode("<s>A dog.", { special = true })  tk:decode(ids)
--   local s = tk:stream()  io.write(s:push(id))  ...  io.write(s:finish())
local ffi = require "ffi"
local native = require "lucid.native"
local file = require "lucid.file"
local json = require "lucid.json"

local C = native.C
local M = {}

---@class lucid.Tokenizer
---@field bos integer|nil      ids of the special pieces that there are
---@field eos integer|nil
---@field unk integer|nil
---@field pad integer|nil
---@field special table        special string -> { id =, lstrip =, rstrip = }
---@field names table          id -> special string
---@field legacy boolean       every chunk of text begins with a space, not only the first
local Tokenizer = {}
Tokenizer.__index = Tokenizer

local SPACE = "\226\150\129"    -- U+2581, a space in a piece

-- ---- opening -----------------------------------------------------------------------------------

-- A string that is cut out of texts; lstrip, rstrip: it takes the spaces before, behind it along.
local function register(self, content, id, options)
  if type(content) ~= "string" or content == "" or type(id) ~= "number" then return end
  local lstrip, rstrip = options.lstrip == true, options.rstrip == true
  self.special[content] = { id = id, lstrip = lstrip, rstrip = rstrip }
  self.names[id] = content
end

-- "<pad>" or { content = "<pad>" }
local function content_of(value)
  if type(value) == "table" then return value.content end
  return type(value) == "string" and value or nil
end

-- What a folder registers beside the model's own pieces, in Hugging Face's files.
local function read_folder(self, dir)
  local function read(name)
    local path = dir .. "/" .. name
    return file.kind(path) == "file" and json.read(path) or {}
  end
  for content, id in pairs(read "added_tokens.json") do register(self, content, id, {}) end
  for _, t in ipairs(read("tokenizer.json").added_tokens or {}) do
    register(self, t.content, t.id, t)
  end
  local config = read "tokenizer_config.json"
  for id, t in pairs(config.added_tokens_decoder or {}) do
    register(self, t.content, tonumber(id), t)
  end
  for _, name in ipairs { "unk", "bos", "eos", "pad" } do
    local entry = self.special[content_of(config[name .. "_token"])]
    if entry then self[name] = entry.id end
  end
  if config.legacy == false then self.legacy = false end
end

--- Opens a tokenizer.
---@param path string      a folder with tokenizer.model, or a *.model file
---@return lucid.Tokenizer
function M.open(path)
  local handle = C.lc_tokenizer_open(path)
  if handle == nil then native.fail(2) end
  local self = setmetatable({
    handle = ffi.gc(handle, C.lc_tokenizer_close),
    legacy = true, special = {}, names = {},
    pieces = C.lc_tokenizer_pieces(handle),
  }, Tokenizer)
  for i, name in ipairs { "unk", "bos", "eos", "pad" } do
    local id = C.lc_tokenizer_special(handle, i - 1)
    if id >= 0 then
      self[name] = id
      register(self, ffi.string(C.lc_tokenizer_piece(handle, id)), id, {})
    end
  end
  if file.kind(path) == "folder" then read_folder(self, path) end
  self.count = self.pieces
  for id in pairs(self.names) do self.count = math.max(self.count, id + 1) end
  return self
end

-- ---- text to ids -------------------------------------------------------------------------------

local out_ids, out_count = ffi.new("int32_t *[1]"), ffi.new("size_t[1]")
local out_text = ffi.new("char *[1]")

local function encode_chunk(self, text, ids)
  native.check(C.lc_tokenizer_encode(self.handle, text, #text, out_ids, out_count))
  local list, n, at = out_ids[0], tonumber(out_count[0]), #ids
  for i = 0, n - 1 do ids[at + i + 1] = list[i] end
  C.lc_free_bytes(list)
end

-- A chunk behind a special string. Legacy: it gets a leading space as any text does. Newer: the
-- space that SentencePiece puts in front of the first piece is taken off, unless the text begins
-- with one itself.
local function encode_later_chunk(self, text, ids)
  local first = #ids + 1
  encode_chunk(self, text, ids)
  if self.legacy or text:sub(1, 1) == " " then return end
  local piece = self:piece(ids[first])
  if piece == SPACE then
    table.remove(ids, first)
  elseif piece:sub(1, #SPACE) == SPACE then
    ids[first] = self:id(piece:sub(#SPACE + 1)) or self.unk
  end
end

-- The special strings of a text in their order, as an iterator: where each begins and ends, and its
-- entry. Of those that begin at one place it is the longest.
local function specials_in(self, text)
  local at, ahead = 1, {}         -- ahead: content -> its next place, false when there is none
  return function()
    local best, best_end, entry
    for content, e in pairs(self.special) do
      local first = ahead[content]
      if first == nil or (first and first < at) then
        first = text:find(content, at, true) or false
        ahead[content] = first
      end
      local last = first and first + #content - 1
      if first and (not best or first < best or (first == best and last > best_end)) then
        best, best_end, entry = first, last, e
      end
    end
    if best then at = best_end + 1 end
    return best, best_end, entry
  end
end

local function encode_with_specials(self, text, ids)
  local at, strip, later = 1, false, false
  local function chunk(last, strip_end)
    local s = text:sub(at, last)
    if strip then s = s:gsub("^%s+", "") end
    if strip_end then s = s:gsub("%s+$", "") end
    if s ~= "" then (later and encode_later_chunk or encode_chunk)(self, s, ids) end
  end
  for first, last, entry in specials_in(self, text) do
    chunk(first - 1, entry.lstrip)
    ids[#ids + 1] = entry.id
    at, strip, later = last + 1, entry.rstrip, true
  end
  chunk(#text, false)
end

---@class lucid.EncodeOptions
---@field bos boolean|nil       begin with the BOS id
---@field special boolean|nil   special strings in the text become their ids; else they are text

--- The ids of a text. Every byte that is no UTF-8 is read as U+FFFD.
---@param text string
---@param opt lucid.EncodeOptions|nil
---@return integer[]
function Tokenizer:encode(text, opt)
  if type(text) ~= "string" then
    error("encode: a string is expected, not a " .. type(text), 2)
  end
  local ids = {}
  if opt and opt.bos then ids[1] = self.bos end
  if opt and opt.special then
    encode_with_specials(self, text, ids)
  elseif text ~= "" then
    encode_chunk(self, text, ids)
  end
  return ids
end

-- ---- ids to text -------------------------------------------------------------------------------

local function decode_run(self, ids)
  local n = #ids
  local list = ffi.new("int32_t[?]", math.max(n, 1), ids)
  if C.lc_tokenizer_decode(self.handle, list, n, out_text, out_count) < 0 then native.fail(3) end
  local text = ffi.string(out_text[0], out_count[0])
  C.lc_free_bytes(out_text[0])
  return text
end

--- The text of ids, without the space that every text begins with. Special ids are left out, or
--- with { special = true } shown as their strings, each run between them a text of its own.
---@param ids integer[]
---@param opt table|nil
---@return string
function Tokenizer:decode(ids, opt)
  local parts, run = {}, {}
  for i = 1, #ids do
    local name = self.names[ids[i]]
    if not name then
      run[#run + 1] = ids[i]
    elseif opt and opt.special then
      parts[#parts + 1] = decode_run(self, run)
      parts[#parts + 1] = name
      run = {}
    end
  end
  parts[#parts + 1] = decode_run(self, run)
  return table.concat(parts)
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

--- The text that one more id completes; "" while a character of several bytes is not whole.
---@param id integer
---@return string
function Stream:push(id)
  local tk = self.tokenizer
  if tk.names[id] then return "" end
  local piece = tk:piece(id)
  local byte = piece:match("^<0x(%x%x)>$")
  if byte then
    self.held, self.begun = self.held .. string.char(tonumber(byte, 16)), true
    return drain(self, false)
  end
  local before = drain(self, true)
  local text = piece:gsub(SPACE, " ")
  if not self.begun and text:sub(1, 1) == " " then text = text:sub(2) end
  self.begun = true
  return before .. text
end

--- What is still held back.
function Stream:finish() return drain(self, true) end

--- Decodes ids as they come: all that push and finish return, joined, is what decode returns.
---@return lucid.TokenStream
function Tokenizer:stream()
  return setmetatable({ tokenizer = self, held = "", begun = false }, Stream)
end

-- ---- pieces ------------------------------------------------------------------------------------

--- A piece's text, "\226\150\129the".
---@param id integer
function Tokenizer:piece(id)
  if id >= self.pieces and self.names[id] then return self.names[id] end
  local piece = C.lc_tokenizer_piece(self.handle, id)
  if piece == nil then native.fail(2) end
  return ffi.string(piece)
end

--- The id of a piece or special string, or nil.
---@param piece string
function Tokenizer:id(piece)
  if self.special[piece] then return self.special[piece].id end
  local id = C.lc_tokenizer_id(self.handle, piece)
  return id >= 0 and id or nil
end

--- How many ids there are, those of special strings included.
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
  if C.lc_tokenizer_train(corpus, model, opt.pieces, list) < 0 then native.fail(2) end
  return M.open(model)
end

return setmetatable(M, { __call = function(_, ...) return M.open(...) end })
