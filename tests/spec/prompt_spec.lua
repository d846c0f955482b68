-- Prompt templates: the published token ids with the canonical LLaMA tokenizer, and the rule itself
-- with a tokenizer that gives a character an id.
local prompt = require "lucid.prompt"
local file = require "lucid.file"
local support = require "tests.support.folder"

-- Ids are bytes; BOS is 1, EOS 2.
local bytes = { eos = 2, encode = function(_, text, opt)
  local ids = { opt and opt.bos and 1 or nil }
  for i = 1, #text do ids[#ids + 1] = text:byte(i) end
  return ids
end }

local function text_of(ids)
  local out = {}
  for i, id in ipairs(ids) do out[i] = id == 1 and "<s>" or id == 2 and "</s>" or id == -200 and "[I]" or string.char(id) end
  return table.concat(out)
end

describe("a template", function()
  it("is cut at the picture; BOS stands before the left side only", function()
    local t = prompt.template "tiny_v1"
    assert.equal("<s>USER: [I]\nIs 100% {q} <image> it? ASSISTANT:", text_of(t:tokens(bytes, "Is 100% {q} <image> it?")))
    assert.equal("A.</s>", text_of(t:answer(bytes, "A.")))
  end)

  it("without a picture has no place for it", function()
    assert.equal("<s>USER: Hm? ASSISTANT:", text_of(prompt.template("tiny_v1"):tokens(bytes, "Hm?", { image = false })))
  end)

  it("goes on after an answer", function()
    local t = prompt.template "llava_v1"
    local history = { 1, 65, 2 }
    assert.equal("<s>A</s>USER: More? ASSISTANT:", text_of(t:continue(bytes, history, "More?")))
    assert.equal(3, #history)
  end)

  it("of LLaVA is trained as a user and evaluated as a human", function()
    local t = prompt.template "llava_v1"
    local train, eval = text_of(t:tokens(bytes, "Q", { train = true })), text_of(t:tokens(bytes, "Q"))
    assert.is_truthy(train:find("<s>A chat between a curious user and", 1, true))
    assert.is_truthy(train:find("to the user's questions. USER: [I]\nQ ASSISTANT:", 1, true))
    assert.is_truthy(eval:find("<s>A chat between a curious human and", 1, true))
    assert.is_truthy(eval:find("to the human's questions. USER: [I]\nQ ASSISTANT:", 1, true))
  end)

  it("may be a file of one's own, and is refused when it lacks something", function()
    local dir = support.folder()
    file.write(dir .. "/mine.lua", 'return { text = "<image>{q}!" }')
    assert.equal("<s>[I]Q!", text_of(prompt.template(dir .. "/mine.lua"):tokens(bytes, "Q")))
    file.write(dir .. "/bad.lua", 'return { text = "{q}!" }')
    assert.has_error(function() prompt.template(dir .. "/bad.lua") end,
      ("template '%s/bad.lua': its text needs <image> and {q}"):format(dir))
    assert.has_error(function() prompt.template "llava_v9" end)
    support.remove(dir)
  end)

  it("gives the published ids", function()
    local folder = "../shared/data/tokenizer/llama"
    if not file.exists(folder .. "/tokenizer.model") then return pending("no ../shared/data") end
    local tokenizer = require("lucid.tokenizer")(folder)
    local t = prompt.template "llava_v1"
    local left = { 1, 319, 13563, 1546, 263, 12758, 5199, 322, 385, 23116, 21082, 20255, 29889, 450, 20255, 4076,
      8444, 29892, 13173, 29892, 322, 1248, 568, 6089, 304, 278, 5199, 29915, 29879, 5155, 29889, 3148, 1001,
      29901, 29871, -200 }
    local function with(right, person)
      local ids = {}
      for i, id in ipairs(left) do ids[i] = id == 5199 and person or id end
      for _, id in ipairs(right) do ids[#ids + 1] = id end
      return ids
    end
    assert.same(with({ 29871, 13, 3624, 727, 263, 15007, 3377, 297, 278, 1967, 29973, 319, 1799, 9047, 13566, 29901 }, 5199),
      t:tokens(tokenizer, "Is there a snowboard in the image?"))
    assert.same(with({ 29871, 13, 4002, 29581, 445, 1967, 297, 9493, 29889, 319, 1799, 9047, 13566, 29901 }, 1404),
      t:tokens(tokenizer, "Describe this image in detail.", { train = true }))
    assert.same({ 319, 11203, 29889, 2 }, t:answer(tokenizer, "A dog."))
  end)
end)
