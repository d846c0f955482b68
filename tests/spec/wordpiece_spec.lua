-- BERT's tokenizer: the steps from text to pieces, one by one, on a vocabulary small enough to read.
-- Twenty thousand lines against BertTokenizer are in tokenizer_lines_spec.lua.
local lucid = require "lucid"
local file = require "lucid.file"
local support = require "tests.support.folder"

local BERT = "../shared/data/tokenizer/bert/bert-base-uncased-vocab.txt"
local PIECES = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", "a", "##a", "cafe", "strasse",
  "straße", "日", "本", "!", ",", "'", "$", "don", "t", "i", "¿", "w", "##w", "x" }

local folder, tk
setup(function()
  folder = support.folder()
  file.write(folder .. "/vocab.txt", table.concat(PIECES, "\n") .. "\n")
  tk = lucid.tokenizer(folder)
end)
teardown(function() support.remove(folder) end)

local function pieces(text, opt)
  local out = {}
  for i, id in ipairs(tk:encode(text, opt)) do out[i] = tk:piece(id) end
  return table.concat(out, " ")
end

describe("a WordPiece tokenizer", function()
  it("is a folder with vocab.txt, or a .txt file", function()
    assert.equal("wordpiece", tk.kind)
    assert.equal(#PIECES, tk:size())
    assert.same({ 0, 1, 2, 3 }, { tk.pad, tk.unk, tk.bos, tk.eos })
    assert.equal(#PIECES, lucid.tokenizer(folder .. "/vocab.txt"):size())
    for i, piece in ipairs(PIECES) do assert.equal(i - 1, tk:id(piece)) end
    assert.is_nil(tk:id "none")
    assert.error_matches(function() tk:piece(#PIECES) end, "there is no id 26; 0 to 25 is possible")
  end)

  it("reads a megabyte of accents on one letter as fast as any text, and in Unicode's order", function()
    local start = os.clock()
    assert.equal("cafe a", pieces("cafe" .. ("\204\129\204\167"):rep(250000) .. " a"))
    assert.is_true(os.clock() - start < 5, os.clock() - start)
    -- Tone marks stay: 224 comes behind 216, whichever is written first.
    local low, high = "\240\157\133\165", "\227\128\174"
    file.write(folder .. "/tones.txt", ("[UNK]\na%s%s\n"):format(low, high))
    local tones = lucid.tokenizer(folder .. "/tones.txt")
    assert.same({ 1, 1 }, tones:encode(("a%s%s a%s\204\129%s"):format(low, high, high, low)))
  end)

  it("takes the longest pieces; a word that leaves a rest is unknown as a whole", function()
    assert.equal("un ##aff ##able", pieces "unaffable")
    assert.equal("[UNK] a", pieces "unaffables a")
    assert.equal("", pieces "")
    assert.equal("", pieces " \n\t\227\128\128\226\128\168")
  end)

  it("makes lower case and takes accents off, composed or not", function()
    assert.equal("cafe cafe cafe", pieces "CAFÉ Cafe\204\129 c\204\163afe")
    assert.equal("i", pieces "İ")
    assert.equal("straße strasse", pieces "Straße STRASSE")
  end)

  it("sets punctuation and Chinese characters apart", function()
    assert.equal("don ' t ! ! $ a", pieces "Don't!!$a")
    assert.equal("¿ a , 日 本 a", pieces "¿a,日本a")
  end)

  it("drops control characters and what is no UTF-8", function()
    assert.equal("un ##a", pieces "u\1\0n\194\173\226\128\139\239\191\189a")
    assert.equal("cafe a", pieces "ca\255f\226\130e \240\159\142 a")
    assert.equal("a a", pieces "a\226\130 a")
  end)

  it("calls words of more than 100 characters unknown", function()
    assert.equal(100, #tk:encode(("w"):rep(100)))
    assert.equal(100, #tk:encode(("w\204\129"):rep(100)))
    assert.same({ tk.unk }, tk:encode(("w"):rep(101)))
  end)

  it("puts [CLS] and [SEP] around, and cuts either side off", function()
    assert.equal("[CLS] un ##a x [SEP]", pieces("una x", { bos = true, eos = true }))
    assert.equal("[CLS] un [SEP]", pieces("una x", { bos = true, eos = true, max = 3 }))
    assert.equal("[CLS] x [SEP]", pieces("una x", { bos = true, eos = true, max = 3, truncate = "left" }))
    assert.equal("[CLS] [SEP]", pieces("una x", { bos = true, eos = true, max = 0 }))
  end)

  it("cuts special strings out when asked", function()
    assert.equal("a [MASK] a [SEP]", pieces("a[MASK]a [SEP]", { special = true }))
    assert.is_nil(pieces("a[MASK]a"):find("[MASK]", 1, true))
    local own = lucid.tokenizer(folder)
    assert.equal(#PIECES, own:add "[DEC]")
    assert.same({ #PIECES, 8 }, own:encode("[DEC]a", { special = true }))
    assert.equal("[DEC] a", own:decode({ #PIECES, 8 }, { special = true }))
  end)

  it("gives words back, at once and id by id", function()
    local ids = tk:encode("Unaffable, a 日本!", { bos = true, eos = true })
    assert.equal("unaffable , a 日 本 !", tk:decode(ids))
    assert.equal("[CLS] unaffable , a 日 本 ! [SEP]", tk:decode(ids, { special = true }))
    local s, out = tk:stream(), {}
    for i, id in ipairs(ids) do out[i] = s:push(id) end
    assert.equal("unaffable , a 日 本 !", table.concat(out) .. s:finish())
    assert.equal("", tk:decode {})
    assert.error_matches(function() tk:decode { 8, 99 } end, "id 2 is 99")
  end)

  it("gives bert-base-uncased's ids", function()
    if not file.exists(BERT) then return pending(BERT .. " is not here") end
    local bert = lucid.tokenizer(BERT)
    assert.equal(30522, bert:size())
    assert.same({ 101, 102, 100, 0, 103 }, { bert.bos, bert.eos, bert.unk, bert.pad, bert:id "[MASK]" })
    assert.equal(30522, bert:add "[DEC]")
    assert.same({ 101, 7592, 1010, 2088, 999, 14477, 20961, 3468, 102 },
      bert:encode("Hello, Wörld! unaffable", { bos = true, eos = true }))
  end)
end)

describe("a bad vocabulary", function()
  local function refused(bytes, pattern, name)
    local path = folder .. "/" .. (name or "bad.txt")
    file.write(path, bytes)
    local ok, message = pcall(lucid.tokenizer, path)
    assert.is_false(ok)
    assert.is_truthy(message:find(path, 1, true), message)
    assert.is_nil(message:find "\n", message)
    assert.matches(pattern, message)
  end

  it("is refused in one line", function()
    refused("", "no %[UNK%] among its 0 lines")
    refused("a\nb\n", "no %[UNK%] among its 2 lines")
    refused("[UNK]\n\0\n", "NUL")
    refused("[UNK]\n\255\n", "not UTF%-8")
  end)

  it("of a cased model is refused, too", function()
    file.write(folder .. "/tokenizer_config.json", [[{ "do_lower_case": false }]])
    local ok, message = pcall(lucid.tokenizer, folder)
    file.remove(folder .. "/tokenizer_config.json")
    assert.is_false(ok)
    assert.matches("do_lower_case", message)
  end)

  it("may end its lines in any way, and say a piece twice", function()
    file.write(folder .. "/dos.txt", "[UNK]\r\na\rb\n\na")
    local own = lucid.tokenizer(folder .. "/dos.txt")
    assert.equal(5, own:size())
    assert.same({ 4, 2, 0 }, own:encode "a b c")
    assert.is_nil(own.bos)
  end)
end)
