-- Tokenizers: LLaMA's SentencePiece, with the special strings of a model's folder.
--
--   local tk = lucid.tokenizer("checkpoints/llava")          a folder, or a *.model file
--   tk:encode("A dog.")  tk:encode("<s>A dog.", { special = true })  tk:decode(ids)
local ffi = require "ffi"
local native = require "lucid.native"
local file = require "lucid.file"
local json = require "lucid.json"

local C = native.C
local M = {}
local Tokenizer = {}
Tokenizer.__index = Tokenizer

-- Strings that a folder registers beside the model's own pieces: text -> id.
local function registered(dir)
  local added = {}
  local function read(name)
    local path = dir .. "/" .. name
    return file.exists(path) and json.read(path) or {}
  end
  for content, id in pairs(read("added_tokens.json")) do added[content] = id end
  for _, t in ipairs(read("tokenizer.json").added_tokens or {}) do added[t.content] = t.id end
  local config = read("tokenizer_config.json")
  for id, t in pairs(config.added_tokens_decoder or {}) do added[t.content] = tonumber(id) end
  return added, config.legacy
end

--- Opens a tokenizer.
---@param path string      a folder with tokenizer.model, or a *.model file
function M.open(path)
  local handle = ffi.gc(native.check(C.lc_tokenizer_open(path)), C.lc_tokenizer_close)
  local self = setmetatable({ handle = handle, legacy = true, special = {} }, Tokenizer)
  for i, name in ipairs { "unk", "bos", "eos", "pad" } do
    local id = C.lc_tokenizer_special(handle, i - 1)
    if id >= 0 then
      self[name] = id
      self.special[ffi.string(C.lc_tokenizer_piece(handle, id))] = id
    end
  end
  if file.kind(path) == "folder" then
    local added, legacy = registered(path)
    for content, id in pairs(added) do self.special[content] = id end
    if legacy == false then self.legacy = false end
  end
  self.names = {}
  for content, id in pairs(self.special) do self.names[id] = content end
  return self
end

local out_ids, out_count = ffi.new("int32_t *[1]"), ffi.new("size_t[1]")
local out_text = ffi.new("char *[1]")

local function encode_chunk(self, text, ids)
  native.check(C.lc_tokenizer_encode(self.handle, text, #text, out_ids, out_count))
  local list, n = out_ids[0], tonumber(out_count[0])
  for i = 0, n - 1 do ids[#ids + 1] = list[i] end
  C.lc_free_bytes(list)
end

-- A chunk behind a special string. Legacy: it gets a leading space like any text. Newer: the space
-- that SentencePiece puts in front is taken off again, unless the text brings its own.
local function encode_later_chunk(self, text, ids)
  local first = #ids + 1
  encode_chunk(self, text, ids)
  if self.legacy or text:sub(1, 1) == " " or not ids[first] then return end
  local piece = self:piece(ids[first])
  local rest = piece:match("^\226\150\129(.*)$")
  if not rest then return end
  if rest == "" then
    table.remove(ids, first)
  else
    local id = self:id(rest)
    if id then ids[first] = id end
  end
end

-- The first special string in text from a place on: where it begins and ends, and its id; the longest
-- of those that begin there.
local function next_special(self, text, from)
  local best, best_end, best_id
  for content, id in pairs(self.special) do
    local first, last = text:find(content, from, true)
    if first and (not best or first < best or (first == best and last > best_end)) then
      best, best_end, best_id = first, last, id
    end
  end
  return best, best_end, best_id
end

---@class lucid.EncodeOptions
---@field bos boolean|nil       begin with the BOS id
---@field special boolean|nil   special strings in the text become their ids; else they are plain text

--- The ids of a text. Bytes that are no UTF-8 become U+FFFD, as SentencePiece has it.
---@param text string
---@param opt lucid.EncodeOptions|nil
---@return integer[]
function Tokenizer:encode(text, opt)
  if type(text) ~= "string" then
    error("encode: a string is expected, not a " .. type(text), 2)
  end
  local ids = {}
  if opt and opt.bos then ids[1] = self.bos end
  if not (opt and opt.special) then
    if text ~= "" then encode_chunk(self, text, ids) end
    return ids
  end
  local at, later = 1, false
  while at <= #text do
    local first, last, id = next_special(self, text, at)
    local chunk = text:sub(at, (first or #text + 1) - 1)
    if chunk ~= "" then
      if later then encode_later_chunk(self, chunk, ids) else encode_chunk(self, chunk, ids) end
    end
    if not first then break end
    ids[#ids + 1] = id
    at, later = last + 1, true
  end
  return ids
end

local function decode_run(self, ids, from, to)
  local n = to - from + 1
  local list = ffi.new("int32_t[?]", n)
  for i = 0, n - 1 do list[i] = ids[from + i] end
  native.check(C.lc_tokenizer_decode(self.handle, list, n, out_text, out_count))
  local text = ffi.string(out_text[0], out_count[0])
  C.lc_free_bytes(out_text[0])
  return text
end

--- The text of ids. Special ids are left out, or with { special = true } shown as their strings.
---@param ids integer[]
---@param opt table|nil
---@return string
function Tokenizer:decode(ids, opt)
  local parts, from = {}, 1
  for i = 1, #ids + 1 do
    local name = self.names[ids[i]]
    if name or i == #ids + 1 then
      if i > from then parts[#parts + 1] = decode_run(self, ids, from, i - 1) end
      if name and opt and opt.special then parts[#parts + 1] = name end
      from = i + 1
    end
  end
  return table.concat(parts)
end

--- A piece's text, "\226\150\129the"; its id, or nil; how many there are.
function Tokenizer:piece(id)
  local piece = C.lc_tokenizer_piece(self.handle, id)
  if piece == nil then native.fail(2) end
  return ffi.string(piece)
end

function Tokenizer:id(piece)
  local id = C.lc_tokenizer_id(self.handle, piece)
  return id >= 0 and id or nil
end

function Tokenizer:size() return C.lc_tokenizer_pieces(self.handle) end

--- Trains a model: SentencePiece BPE with byte fallback and LLaMA's settings. Every word of opt.words
--- must have become one piece; else an error lists those that did not.
---@param corpus string      a text file, a sentence a line
---@param model string       what is written, *.model
---@param opt table          { pieces, words }
function M.train(corpus, model, opt)
  native.check(C.lc_tokenizer_train(corpus, model, opt.pieces))
  local tk, broken = M.open(model), {}
  for _, word in ipairs(opt.words or {}) do
    if #tk:encode(word) ~= 1 then broken[#broken + 1] = word end
  end
  if #broken > 0 then
    error(("%s: %d words are not one piece: %s; more pieces or a longer corpus would do"):format(model,
      #broken, table.concat(broken, " ")), 2)
  end
  return tk
end

return setmetatable(M, { __call = function(_, ...) return M.open(...) end })
