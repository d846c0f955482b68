-- Tokenizers: the ids of sentencepiece and transformers (tests/golden/tokenizer), LLaMA's own model,
-- decoding id by id, damaged models, training.
local lucid = require "lucid"
local native = require "lucid.native"
local file = require "lucid.file"
local json = require "lucid.json"
local support = require "tests.support.folder"

local C = native.C
local HERE = "tests/golden/tokenizer/"
local LLAMA = "../shared/data/tokenizer/llama/tokenizer.model"
local SPACE = "\226\150\129"
local golden = json.read(HERE .. "golden.json")
local tk = lucid.tokenizer(HERE)

local function text_of(bytes)
  local out = {}
  for i, b in ipairs(bytes) do out[i] = string.char(b) end
  return table.concat(out)
end

local function list(ids) return table.concat(ids, " ") end

local function streamed(tokenizer, ids)
  local s, out = tokenizer:stream(), {}
  for i, id in ipairs(ids) do out[i] = s:push(id) end
  out[#out + 1] = s:finish()
  return table.concat(out)
end

describe("a tokenizer", function()
  it("knows its pieces and special ids", function()
    assert.equal(golden.pieces, C.lc_tokenizer_pieces(tk.handle))
    assert.equal(golden.pieces + 3, tk:size())
    assert.same(golden.special_ids, { bos = tk.bos, eos = tk.eos, unk = tk.unk, pad = tk.pad })
    assert.equal("<0x0A>", tk:piece(13))
    assert.equal(13, tk:id "<0x0A>")
    assert.equal("<image>", tk:piece(golden.pieces))
    assert.equal(golden.pieces, tk:id "<image>")
    assert.is_nil(tk:id "no such piece")
    assert.error_matches(function() tk:piece(golden.pieces + 3) end, "there is no id " .. golden.pieces + 3)
    assert.error_matches(function() tk:piece(-1) end, "there is no id %-1")
    for id = 0, golden.pieces - 1 do assert.equal(id, tk:id(tk:piece(id))) end
  end)

  -- Long texts go to the library in parts. The hash is that of the ids that sentencepiece 0.2.3 gives for the text.
  it("gives sentencepiece's ids for long texts", function()
    local letters = { "a", "e", "th", "ing", "The", SPACE, "é", "字", "😀", "\n", "\t", ".", "1", "<s>", "  ", "   ",
      " ", " ", " ", " " }
    local r, parts = lucid.rng(5, "text"), {}
    for i = 1, 100000 do parts[i] = letters[r:integer(#letters)] end
    local text = table.concat(parts)
    if file.exists(LLAMA) then
      local ids = lucid.tokenizer(LLAMA):encode(text)
      assert.equal(103608, #ids)
      assert.equal("7eeb39134a6e426134e609cc55554ce98b97519764bc20a3c39e8669a9c941e8", lucid.cache.hash(list(ids)))
    end
    local tail                                            -- behind words of other lengths it is cut elsewhere
    for _, n in ipairs { 1, 50, 4000, 9000 } do
      local word = ("x"):rep(n)
      local first, ids = tk:encode(word), tk:encode(word .. " " .. text)
      assert.equal(list(first), table.concat(ids, " ", 1, #first))
      local hash = lucid.cache.hash(table.concat(ids, " ", #first + 1))
      tail = tail or hash
      assert.equal(tail, hash)
    end
  end)

  it("gives sentencepiece's ids, also for what is no UTF-8", function()
    for _, g in ipairs(golden.encoded) do
      local text = text_of(g.bytes)
      assert.equal(list(g.ids), list(tk:encode(text)), ("%q"):format(text))
    end
  end)

  it("begins with BOS when asked, and takes special strings as text unless asked", function()
    assert.equal(list { 1, unpack(tk:encode "A dog.") }, list(tk:encode("A dog.", { bos = true })))
    assert.same({ 1 }, tk:encode("", { bos = true }))
    assert.is_true(#tk:encode "<s>" > 1)
    assert.same({ 1 }, tk:encode("<s>", { special = true }))
    assert.error_matches(function() tk:encode(12) end, "a string is expected")
  end)

  it("cuts special strings out as transformers does, in both manners", function()
    local newer = lucid.tokenizer(HERE)
    newer.legacy = false
    for _, g in ipairs(golden.special) do
      assert.equal(list(g.ids), list(tk:encode(g.text, { special = true })), g.text)
      assert.equal(list(g.newer), list(newer:encode(g.text, { special = true })), g.text)
    end
  end)

  it("takes the longest of the special strings at a place", function()
    local own = lucid.tokenizer(HERE .. "tokenizer.model")
    assert.is_nil(own.special["<image>"])
    own.special["ab"] = { id = 7 }
    own.special["abc"] = { id = 8 }
    own.special["bcd"] = { id = 9 }
    assert.same({ 8, 9, 7 }, own:encode("abcbcdab", { special = true }))
  end)

  it("decodes as sentencepiece does; special ids are shown or left out", function()
    for _, g in ipairs(golden.decoded) do
      assert.equal(text_of(g.bytes), tk:decode(g.ids), list(g.ids))
      assert.equal(text_of(g.bytes), streamed(tk, g.ids), list(g.ids))
    end
    local text = "<s>A dog.</s>B<image>"
    assert.equal(text, tk:decode(tk:encode(text, { special = true }), { special = true }))
    assert.equal("A dog. B", tk:decode(tk:encode(text, { special = true })))
    assert.error_matches(function() tk:decode { 300, -200 } end, "id 2 is %-200")
  end)

  it("gives texts back as they were", function()
    for _, text in ipairs { "A  dog\n\n\tand ", "日本語 🎉", "a\0b", " two", "x" .. (" "):rep(17) .. "y" } do
      assert.equal(text, tk:decode(tk:encode(text)))
      assert.equal(text, streamed(tk, tk:encode(text)))
    end
  end)

  it("holds incomplete characters back while streaming", function()
    local s = tk:stream()
    assert.equal("", s:push(3 + 0xF0))
    assert.equal("", s:push(3 + 0x9F))
    assert.equal("", s:push(3 + 0x8E))
    assert.equal("🎉", s:push(3 + 0x89))
    assert.equal("", s:push(2))
    assert.equal("", s:push(3 + 0xC3))
    assert.equal("\239\191\189A", s:push(3 + 0x41))
    assert.equal("", s:push(3 + 0xE2))
    assert.equal("\239\191\189", s:finish())
    assert.equal("", s:finish())
  end)

  it("streams what decode gives, for any ids", function()
    for case = 0, 1999 do
      local ids = {}
      for i = 1, 1 + case % 11 do
        local u = C.lc_uniform(3, case, 2 * i)
        local below = C.lc_uniform(3, case, 2 * i + 1) < 0.6 and 256 or golden.pieces
        ids[i] = below == 256 and 3 + math.floor(u * 256) or math.floor(u * below)
      end
      assert.equal(tk:decode(ids), streamed(tk, ids), list(ids))
    end
  end)

  it("reads older folders, too", function()
    local folder = support.folder()
    file.write(folder .. "/tokenizer.model", file.read(HERE .. "tokenizer.model"))
    file.write(folder .. "/added_tokens.json", [[{ "<image>": 400, "<pad>": 401 }]])
    file.write(folder .. "/tokenizer_config.json", [[{ "pad_token": { "content": "<pad>" }, "legacy": false }]])
    local older = lucid.tokenizer(folder)
    assert.equal(402, older:size())
    assert.equal(401, older.pad)
    assert.is_false(older.legacy)
    assert.same({ 401 }, older:encode("<pad>", { special = true }))
    assert.same({ older:id(SPACE), 400 }, older:encode("<image>", { special = true }))   -- registered, not special
    older.legacy = true
    assert.same({ 400 }, older:encode("<image>", { special = true }))
    assert.equal("a <image> b", older:decode(older:encode("a<image>b<pad>", { special = true })))
    assert.equal("a <image> b", streamed(older, older:encode("a<image>b<pad>", { special = true })))
    for _, id in ipairs { "1.5", "-1", "1e12" } do          -- found by tests/fuzz
      file.write(folder .. "/added_tokens.json", ('{ "<image>": %s }'):format(id))
      local ok, message = pcall(lucid.tokenizer, folder)
      assert.is_false(ok, id)
      assert.matches(folder .. ": the added token <image> has the id ", message, 1, true)
    end
    support.remove(folder)
  end)
end)

describe("a folder", function()
  local folders = json.read(HERE .. "folders/folders.json")
  for name, g in pairs(folders) do
    it("is read as transformers reads it: " .. name, function()
      local folder = support.folder()
      file.write(folder .. "/tokenizer.model", file.read(HERE .. "tokenizer.model"))
      for path, value in pairs(g.files) do file.write(folder .. "/" .. path, json.encode(value)) end
      local own = lucid.tokenizer(folder)
      support.remove(folder)
      for _, key in ipairs { "bos", "eos", "unk", "pad" } do
        local id = g.names[key]
        assert.equal(id ~= json.null and id or nil, own[key], key)
      end
      for _, t in ipairs(g.texts) do
        local ids = own:encode(t.text, { special = true })
        assert.equal(list(t.ids), list(ids), t.text)
        local shown = {}
        for _, id in ipairs(ids) do
          local entry = own.special[own.names[id]]
          if not (entry and entry.special) then shown[#shown + 1] = id end
        end
        assert.equal(list(t.shown), list(shown), t.text)
      end
    end)
  end
end)

describe("a bad model", function()
  local folder
  before_each(function() folder = support.folder() end)
  after_each(function() support.remove(folder) end)

  local function refused(bytes, pattern)
    local path = folder .. "/bad.model"
    file.write(path, bytes)
    local ok, message = pcall(lucid.tokenizer, path)
    assert.is_false(ok)
    assert.is_truthy(message:find(path, 1, true), message)
    assert.is_nil(message:find "\n", message)
    assert.matches(pattern or "SentencePiece", message)
  end

  it("is refused in one line", function()
    refused ""
    refused("<html>", "HTML page, not a tokenizer")
    refused("version https://git-lfs.github.com/spec/v1\n", "LFS pointer")
    local model = file.read(HERE .. "tokenizer.model")
    refused(model:sub(1, 2000))
    refused((model:gsub("<unk>", "<umk>", 1):gsub("\24\2", "\24\1", 1)))       -- no piece of kind unknown
    refused((model:gsub("<0x41>", "<0xGG>", 1)))
    refused((model:gsub("<0x41>", "<0x42>", 1)))
    local image = model:find("\10\4" .. SPACE .. "t", 1, true)                  -- its score: \21 and 4 bytes
    local at = model:find("\21", image + 6, true)
    refused(model:sub(1, at) .. "\0\0\192\127" .. model:sub(at + 5), "score")
    refused(model:sub(1, image + 4) .. "\255" .. model:sub(image + 6), "UTF%-8")   -- of the piece
    refused(model:sub(1, image + 4) .. "\0" .. model:sub(image + 6), "NUL")
  end)

  it("never crashes, whatever byte is changed", function()
    local model = file.read(HERE .. "tokenizer.model")
    local path = folder .. "/bad.model"
    for case = 1, 300 do
      local at = 1 + math.floor(C.lc_uniform(5, case, 0) * #model)
      local byte = string.char(math.floor(C.lc_uniform(5, case, 1) * 256))
      file.write(path, model:sub(1, at - 1) .. byte .. model:sub(at + 1))
      local ok, t = pcall(lucid.tokenizer, path)
      if ok then t:decode(t:encode "A dog. 日本 \255") end
    end
  end)

  it("is missed by name", function()
    assert.error_matches(function() lucid.tokenizer(folder .. "/none.model") end, "none.model")
    assert.error_matches(function() lucid.tokenizer(folder) end, "no tokenizer.model in this folder")
  end)
end)

-- The library follows what a table's trie says, and has room for so many matches at a place.
describe("a model of hostile tables", function()
  local folder
  before_each(function() folder = support.folder() end)
  after_each(function() support.remove(folder) end)

  local function varint(n) return n < 128 and string.char(n) or string.char(128 + n % 128) .. varint(math.floor(n / 128)) end
  local function field(number, bytes) return string.char(number * 8 + 2) .. varint(#bytes) .. bytes end
  local function word(n) return string.char(n % 256, math.floor(n / 2 ^ 8) % 256, math.floor(n / 2 ^ 16) % 256, math.floor(n / 2 ^ 24)) end
  local VALUE, ENDS, OFFSET = 2 ^ 31, 2 ^ 8, 2 ^ 10

  -- A table that puts y in the place of x: the root's letters are the second half's nodes; x has its value at node 377.
  local function rules(changes, texts)
    local nodes = {}
    for i = 0, 511 do nodes[i] = i % 256 + (i % 2 == 0 and 1 or -1) end       -- another letter's: nothing leads here
    nodes[0], nodes[376], nodes[377] = 256 * OFFSET, 1 * OFFSET + ENDS + ("x"):byte(), VALUE
    for i, node in pairs(changes or {}) do nodes[i] = node end
    for i = 0, 511 do nodes[i] = word(nodes[i]) end
    return word(2048) .. nodes[0] .. table.concat(nodes) .. (texts or "y\0")
  end

  local function opened(added)
    file.write(folder .. "/tokenizer.model", file.read(HERE .. "tokenizer.model") .. added)
    return pcall(lucid.tokenizer, folder .. "/tokenizer.model")
  end

  it("is refused when a table leads elsewhere, and taken when it does not", function()
    local ok, own = opened(field(3, field(2, rules())))
    assert.is_true(ok, own)
    assert.equal(list(own:encode("yay")), list(own:encode("xax")))
    local x = ENDS + ("x"):byte()
    for what, bad in pairs {
      ["beyond the trie"] = rules { [0] = 2 ^ 32 - 2 ^ 31 - OFFSET }, ["beyond the texts"] = rules { [377] = VALUE + 2 },
      ["no value"] = rules { [377] = 5 }, ["a value for a root"] = rules { [0] = VALUE },
      ["a circle"] = rules { [376] = 120 * OFFSET + x, [256] = VALUE }, ["no end"] = rules({}, "y"),
      ["long"] = rules({}, ("y"):rep(2000) .. "\0"), ["cut"] = rules():sub(1, 1000), ["no blocks"] = word(12) .. ("\0"):rep(20),
    } do
      for number = 3, 5, 2 do
        local good, reason = opened(field(number, field(2, bad)))
        assert.is_false(good, what)
        assert.matches("tokenizer.model: not a SentencePiece model, or its table of characters", reason)
      end
    end
  end)

  it("is refused when more than 64 pieces that are taken whole begin one another", function()
    local function pieces(n)
      local out = {}
      for i = 1, n do out[i] = field(1, field(1, ("\240\159\166\138"):rep(i)) .. "\24\4") end
      return table.concat(out)
    end
    local ok, own = opened(pieces(64))
    assert.is_true(ok, own)
    assert.is_true(#own:encode(("\240\159\166\138"):rep(200)) < 10)
    local good, reason = opened(pieces(65))
    assert.is_false(good)
    assert.matches("or its whole pieces are none", reason)
  end)
end)

describe("training", function()
  local folder
  before_each(function() folder = support.folder() end)
  after_each(function() support.remove(folder) end)

  local WORDS = { "guitar", "Yes", "snowboard", "xylophone", "dog", "in" }

  local function corpus()
    local lines = {}
    for i = 1, 200 do lines[i] = ("The dog number %d runs in the house. Yes, the big dog! There, here."):format(i) end
    lines[201] = "A guitar, a snowboard and a xylophone."
    file.write(folder .. "/corpus.txt", table.concat(lines, "\n") .. "\n")
    return folder .. "/corpus.txt"
  end

  it("makes every given word one piece, rare ones too", function()
    local own = lucid.tokenizer.train(corpus(), folder .. "/a.model", { pieces = 340, words = WORDS })
    assert.is_true(own:size() <= 340)
    for _, word in ipairs(WORDS) do
      assert.equal(1, #own:encode(word), word)
      assert.equal(SPACE .. word, own:piece(own:encode(word)[1]))
    end
    assert.same({ 1, 2, 0 }, { own.bos, own.eos, own.unk })
    assert.equal(4, #own:encode("123"))                             -- a space, and digits stand alone
    local text = "The snowboard, é\n  zebra 99 "
    assert.equal(text, own:decode(own:encode(text)))
    assert.same({ "a.model", "corpus.txt" }, file.list(folder))
  end)

  it("gives the same bytes for the same corpus", function()
    lucid.tokenizer.train(corpus(), folder .. "/a.model", { pieces = 340, words = WORDS })
    lucid.tokenizer.train(corpus(), folder .. "/b.model", { pieces = 340, words = WORDS })
    assert.equal(file.hash(folder .. "/a.model"), file.hash(folder .. "/b.model"))
  end)

  it("lists the words that do not fit, and writes nothing", function()
    local ok, message = pcall(lucid.tokenizer.train, corpus(), folder .. "/a.model", { pieces = 300, words = WORDS })
    assert.is_false(ok)
    assert.matches("300 pieces", message)
    assert.matches("xylophone", message)
    assert.same({ "corpus.txt" }, file.list(folder))
  end)

  it("names a corpus that is missing or empty", function()
    local function try() lucid.tokenizer.train(folder .. "/corpus.txt", folder .. "/a.model", { pieces = 300 }) end
    assert.error_matches(try, "corpus.txt")
    file.write(folder .. "/corpus.txt", "\n\n")
    assert.error_matches(try, "^[^\n]*train[^\n]*$")
  end)
end)

describe("LLaMA's tokenizer", function()
  local llama = file.exists(LLAMA) and lucid.tokenizer(LLAMA)
  local function vectors(name, f)
    it(name, function()
      if not llama then return pending(LLAMA .. " is not here") end
      f()
    end)
  end

  local function ids(text, opt) return list(llama:encode(text, opt)) end

  vectors("gives the published ids", function()
    assert.equal(32000, llama:size())
    assert.equal("1 319 13563 1546 263 12758 5199 322 385 23116 21082 20255 29889 450 20255 4076 8444 29892 13173 29892 "
      .. "322 1248 568 6089 304 278 5199 29915 29879 5155 29889 3148 1001 29901 29871",
      ids("A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
        .. "detailed, and polite answers to the human's questions. USER: ", { bos = true }))
    assert.equal("29871 13 3624 727 263 15007 3377 297 278 1967 29973 319 1799 9047 13566 29901",
      ids "\nIs there a snowboard in the image? ASSISTANT:")
    assert.equal("29871 13 4002 29581 445 1967 297 9493 29889 319 1799 9047 13566 29901",
      ids "\nDescribe this image in detail. ASSISTANT:")
    assert.equal("319 11203 29889 2", ids("A dog.</s>", { special = true }))
    assert.equal("20355 915 445 1967 297 9493 29889", ids "Describe this image in detail.")
    assert.equal("835", ids "###")
    assert.equal("3869", ids "Yes")
    assert.equal("1939", ids "No")
    assert.equal(2046, llama:id(SPACE .. "$$"))
    assert.equal(3997, llama:id "$$")
  end)

  vectors("of MiniGPT-4's prompt, before and after transformers' change", function()
    local text = "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide "
      .. "it to you. Please answer my questions.<s>[INST] <Img>"
    local tail = "25580 29962 529 25518 29958"
    assert.equal("1 518 " .. tail, ids("<s>[INST] <Img>", { special = true }))
    llama.legacy = false
    local newer = ids(text, { special = true, bos = true })
    llama.legacy = true
    assert.equal("1 25538 278 1494 1967 29901 529 25518 29958 2940 3916 829 25518 15513 887 674 367 2221 304 1074 278 1967 "
      .. "2748 306 3867 372 304 366 29889 3529 1234 590 5155 29889 1 29961 " .. tail,
      newer)
    assert.equal((newer:gsub("1 29961", "1 518")), ids(text, { special = true, bos = true }))
    assert.equal("1533 25518 29958 20355 915 445 1967 297 9493 29889 518 29914 25580 29962",
      ids "</Img> Describe this image in detail. [/INST]")
  end)

  vectors("takes a megabyte, and bytes of any kind", function()
    local text = {}
    for i = 1, 200000 do text[i] = string.char(math.floor(C.lc_uniform(9, 0, i) * 256)) end
    text = table.concat(text)
    local back = llama:decode(llama:encode(text))
    assert.equal(llama:decode(llama:encode(back)), back)
    assert.is_true(#llama:encode(("word "):rep(200000)) >= 200000)
  end)
end)
