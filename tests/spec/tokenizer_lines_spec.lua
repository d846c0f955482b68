-- Twenty thousand lines, each compared with transformers' slow tokenizers (tests/golden/tokenizer/lines):
-- code, scripts, emoji, combining marks, control characters, bytes that are no text, special strings.
local lucid = require "lucid"
local native = require "lucid.native"
local file = require "lucid.file"
local json = require "lucid.json"
local ffi = require "ffi"

local C = native.C
local HERE = "tests/golden/tokenizer/lines/"
local SHARED = "../shared/data/tokenizer/"
local golden, source = json.read(HERE .. "lines.json"), json.read(HERE .. "texts.json")
local era = json.read(HERE .. "era.json")       -- the same lines by transformers 4.31

-- ---- the lines: as in make.py ---------------------------------------------------------------------

local function bytes_of(list)
  local out = {}
  for i, b in ipairs(list) do out[i] = string.char(b) end
  return table.concat(out)
end

local texts = {}
for i, t in ipairs(source.texts) do texts[i] = type(t) == "table" and bytes_of(t) or t end

local function utf8(c)
  local function low(shift) return string.char(0x80 + math.floor(c / 2 ^ shift) % 64) end
  if c < 0x80 then return string.char(c) end
  if c < 0x800 then return string.char(0xC0 + math.floor(c / 64)) .. low(0) end
  if c < 0x10000 then return string.char(0xE0 + math.floor(c / 4096)) .. low(6) .. low(0) end
  return string.char(0xF0 + math.floor(c / 2 ^ 18)) .. low(12) .. low(6) .. low(0)
end

local function generator(seed)
  local state = seed
  local function below(n)
    state = (state * 1664525 + 1013904223) % 2 ^ 32
    return math.floor(state / 65536) % n
  end
  local function text() return texts[1 + below(#texts)] end
  local function repeated(n, f)
    local out = {}
    for i = 1, n do out[i] = f() end
    return out
  end
  local function characters()
    local block = source.blocks[1 + below(#source.blocks)]
    local function one() return utf8(block[1] + below(block[2] - block[1] + 1)) end
    return table.concat(repeated(1 + below(6), one))
  end
  local function part()
    local kind = below(100)
    if kind < 60 then return text() end
    if kind < 85 then return characters() end
    if kind < 92 then return bytes_of(repeated(1 + below(4), function() return below(256) end)) end
    local times = 2 + below(20)
    return text():rep(times)
  end
  local function line()
    return table.concat(repeated(1 + below(10), function()
      local p = part()
      return below(3) > 0 and p .. " " or p
    end))
  end
  local function ids(size)
    return repeated(1 + below(12), function() return below(2) == 1 and below(260) or below(size) end)
  end
  return line, ids
end

-- ---- the comparison -------------------------------------------------------------------------------

local hex = ffi.new("char[65]")
local function digest(values, first)
  local text = table.concat(values, "\n", first, first + golden.block - 1) .. "\n"
  native.check(C.lc_sha256(text, #text, hex))
  return ffi.string(hex, 16)
end

local next_line = generator(1)
local lines = {}
for i = 1, golden.count do lines[i] = next_line() end

local function compare(key, values, by)
  by = by or golden
  for _, sample in ipairs(by.samples) do
    assert.equal(sample[key], values[sample.line], ("%s, line %d: %q"):format(key, sample.line, lines[sample.line]))
  end
  for b, expected in ipairs(by.results[key]) do
    if digest(values, (b - 1) * golden.block + 1) ~= expected then
      error(("%s: block %d differs; '%s --show %s %d' has its lines"):format(key, b,
        by == era and "make_era.py" or "make.py", key, b), 0)
    end
  end
end

local function list(ids) return table.concat(ids, " ") end

local function compare_llama(path, key)
  local older, newer = lucid.tokenizer(path), lucid.tokenizer(path)
  newer.legacy = false
  for _, tk in ipairs { older, newer } do
    tk.pad = tk:add "[PAD]"
    tk:add "<image>"
    tk:add("<clean>", { lstrip = true, rstrip = true })
    tk:add("<word>", { single_word = true })
    tk:add("<plain>", { special = false })
  end
  local _, any = generator(3)
  local out = { legacy = {}, newer = {}, legacy_text = {}, newer_text = {}, any_text = {} }
  for i, line in ipairs(lines) do
    local a, b = older:encode(line, { special = true }), newer:encode(line, { special = true })
    out.legacy[i], out.newer[i] = list(a), list(b)
    out.legacy_text[i], out.newer_text[i] = older:decode(a), newer:decode(b)
    out.any_text[i] = older:decode(any(older.pieces))
  end
  for name, values in pairs(out) do compare(key .. "_" .. name, values) end
end

local function compare_bert(path, key)
  local tk = lucid.tokenizer(path)
  tk:add "[DEC]"
  local out = { ids = {}, cut = {}, text = {} }
  for i, line in ipairs(lines) do
    local ids = tk:encode(line, { special = true, bos = true, eos = true })
    out.ids[i], out.text[i] = list(ids), tk:decode(ids)
    out.cut[i] = list(tk:encode(line, { special = true, bos = true, eos = true, max = 3 + (i - 1) % 9,
      truncate = i % 2 == 0 and "left" or "right" }))
  end
  for name, values in pairs(out) do compare(key .. "_" .. name, values) end
end

local function encoded(tk, opt)
  local out = {}
  for i, line in ipairs(lines) do out[i] = list(tk:encode(line, opt)) end
  return out
end

-- As a folder's files leave it, legacy and not, and as InstructBLIP's code changes it.
local function compare_era_llama(path, key)
  local special = { special = true }
  local stock, newer, blip = lucid.tokenizer(path), lucid.tokenizer(path), lucid.tokenizer(path)
  newer.legacy, newer.early = false, true
  blip.special, blip.names = {}, {}
  for _, content in ipairs { "</s>", "[PAD]" } do blip:add(content, { lstrip = true, rstrip = true }) end
  compare(key .. "legacy", encoded(stock, special), era)
  compare(key .. "newer", encoded(newer, special), era)
  compare(key .. "blip", encoded(blip, special), era)
end

local function compare_era_bert(path, key)
  local tk = lucid.tokenizer(path)
  tk:add "[DEC]"
  compare(key .. "bert", encoded(tk, { special = true, bos = true, eos = true }), era)
end

describe("twenty thousand lines", function()
  it("are the ones that the goldens are of", function()
    for b, expected in ipairs(golden.lines) do
      assert.equal(expected, digest(lines, (b - 1) * golden.block + 1), "block " .. b)
    end
  end)

  for _, row in ipairs {
    { "the slow LlamaTokenizer's", "small", "tests/golden/tokenizer/tokenizer.model", compare_llama, "own_llama" },
    { "BertTokenizer's", "small", HERE .. "vocab.txt", compare_bert, "own_bert" },
    { "the slow LlamaTokenizer's", "LLaMA's", SHARED .. "llama/tokenizer.model", compare_llama, "llama" },
    { "BertTokenizer's", "bert-base-uncased's", SHARED .. "bert/bert-base-uncased-vocab.txt", compare_bert, "bert" },
    { "transformers 4.31's LlamaTokenizer's", "small", "tests/golden/tokenizer/tokenizer.model", compare_era_llama, "own_" },
    { "transformers 4.31's BertTokenizer's", "small", HERE .. "vocab.txt", compare_era_bert, "own_" },
    { "transformers 4.31's LlamaTokenizer's", "LLaMA's", SHARED .. "llama/tokenizer.model", compare_era_llama, "" },
    { "transformers 4.31's BertTokenizer's", "bert-base-uncased's", SHARED .. "bert/bert-base-uncased-vocab.txt",
      compare_era_bert, "" },
  } do
    local whose, vocabulary, path, f, key = unpack(row)
    it(("have %s tokens, with the vocabulary: %s"):format(whose, vocabulary), function()
      if not file.exists(path) then return pending(path .. " is not here") end
      f(path, key)
    end)
  end
end)
