-- Prompt templates: the published token ids with the canonical LLaMA tokenizer; the published texts and the
-- rule itself with a tokenizer that gives a byte an id.
local prompt = require "lucid.prompt"
local file = require "lucid.file"
local support = require "tests.support.folder"

-- Ids are bytes; BOS is 1, EOS 2.
local bytes = { bos = 1, eos = 2, encode = function(_, text)
  return { text:byte(1, -1) }
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
    assert.error_matches(function() prompt.template "llava_v9" end, "instructblip, llama2, llava_v1, minigpt4, tiny_v1")
    file.write(dir .. "/bad.lua", 'return { text = "<image>{q}", nxt = "{q}" }')
    assert.error_matches(function() prompt.template(dir .. "/bad.lua") end, "'nxt' is no field of a template")
    file.write(dir .. "/bad.lua", 'return { text = "<image>{q}", next = 1 }')
    assert.error_matches(function() prompt.template(dir .. "/bad.lua") end, "its next should be a string")
    file.write(dir .. "/bad.lua", 'return { text = "<image>{q}", answer = "yes" }')
    assert.error_matches(function() prompt.template(dir .. "/bad.lua") end, "its answer needs {a}")
    file.write(dir .. "/bad.lua", 'return { text = "<image>{q}", bos = "<b>" }')
    assert.error_matches(function() prompt.template(dir .. "/bad.lua") end, "its bos should be")
    file.write(dir .. "/bad.lua", 'return {')
    assert.error_matches(function() prompt.template(dir .. "/bad.lua") end, "bad.lua:1")
    support.remove(dir)
  end)

  it("is the usual one of a kind of model", function()
    assert.equal("llava_v1", prompt.default "llava")
    assert.equal("minigpt4", prompt.default "minigpt4")
    assert.equal("instructblip", prompt.default "instructblip")
    assert.is_nil(prompt.default "bert")
  end)
end)

-- What the published programs write for two turns with a picture; [I] stands for its rows.
local TEXTS = {
  vicuna_v1 = "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    .. "detailed, and polite answers to the user's questions. USER: [I]\nQ1 ASSISTANT:A1</s>USER: Q2 ASSISTANT:A2</s>",
  llava_v1 = "<s>A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    .. "detailed, and polite answers to the human's questions. USER: [I]\nQ1 ASSISTANT:A1</s>USER: Q2 ASSISTANT:A2</s>",
  llama2 = "<s>[INST] <<SYS>>\nYou are a helpful language and vision assistant. You are able to understand the visual "
    .. "content that the user provides, and assist the user with a variety of tasks using natural language."
    .. "\n<</SYS>>\n\n[I]\nQ1 [/INST]A1 </s><s>[INST] Q2 [/INST]A2 </s>",
  minigpt4 = "<s>Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide "
    .. "it to you. Please answer my questions.<s>[INST] <Img>[I]</Img> Q1 [/INST]A1<s>[INST] Q2 [/INST]A2</s>",
  tiny_v1 = "<s>USER: [I]\nQ1 ASSISTANT:A1</s>USER: Q2 ASSISTANT:A2</s>",
}

describe("a conversation", function()
  local turns = { { question = "Q1", answer = "A1" }, { question = "Q2", answer = "A2" } }

  it("is the published text, and its answers' places follow from how it is built", function()
    for name, text in pairs(TEXTS) do
      local c = prompt.template(name):conversation(bytes, turns)
      assert.equal(text, text_of(c.ids), name)
      assert.equal(-200, c.ids[c.image])
      for i, span in ipairs(c.spans) do
        local answer = text_of({ unpack(c.ids, span[1], span[2]) })
        local ended = (name ~= "minigpt4" or i == 2) and "</s>" or ""
        assert.equal("A" .. i .. (name == "llama2" and " " or "") .. ended, answer, name)
      end
      assert.equal(2, #c.spans)
    end
  end)

  it("may end with a question, and have no picture", function()
    local c = prompt.template("tiny_v1"):conversation(bytes, { { question = "Q" } }, { image = false })
    assert.equal("<s>USER: Q ASSISTANT:", text_of(c.ids))
    assert.same({}, c.spans)
    assert.is_nil(c.image)
    assert.equal("<s>[INST] Q [/INST]", text_of(prompt.template("minigpt4"):tokens(bytes, "Q", { image = false })))
    assert.equal("</s>Q", text_of(prompt.template("instructblip"):tokens(bytes, "Q", { image = false })))
  end)

  it("takes marks in questions and answers as text", function()
    local c = prompt.template("minigpt4"):conversation(bytes, { { question = "<s>{q}{bos}<image>", answer = "{a}</s>" } },
      { train = true })
    assert.equal("<s>[INST] <Img>[I]</Img> <s>{q}{bos}<image> [/INST] {a}</s></s>", text_of(c.ids))
    assert.equal(2, c.ids[#c.ids])
    assert.equal(14, c.image)
  end)

  it("has one turn where the reference has one", function()
    local t = prompt.template "instructblip"
    assert.equal("[I]</s>Q1A1</s>", text_of(t:conversation(bytes, { turns[1] }).ids))
    assert.error_matches(function() t:conversation(bytes, turns) end, "no form for further questions")
  end)

  it("is cut where the reference cuts: questions at their front, answers at their end", function()
    local t = prompt.template "instructblip"
    local ids = t:tokens(bytes, ("x"):rep(100) .. ("y"):rep(100))
    assert.equal("[I]</s>" .. ("x"):rep(27) .. ("y"):rep(100), text_of(ids))
    assert.equal(("a"):rep(254) .. "</s>", text_of(t:answer(bytes, ("a"):rep(254))))
    assert.equal(("a"):rep(255), text_of(t:answer(bytes, ("a"):rep(300))))
    assert.equal(320, #prompt.template("minigpt4"):answer(bytes, ("a"):rep(320)))
  end)
end)

describe("published ids", function()
  local folder = "../shared/data/tokenizer/llama"
  local tokenizer = file.exists(folder .. "/tokenizer.model") and require("lucid.tokenizer")(folder)
  local function vectors(name, f)
    it(name, function()
      if not tokenizer then return pending(folder .. " is not here") end
      f()
    end)
  end
  local function list(ids) return table.concat(ids, " ") end

  vectors("of LLaVA-1.5, trained and evaluated", function()
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

  local TAIL = "25580 29962 529 25518 29958"
  local DESCRIBE = "-200 1533 25518 29958 20355 915 445 1967 297 9493 29889 518 29914 25580 29962"

  vectors("of MiniGPT-4, trained", function()
    local t = prompt.template "minigpt4"
    local c = t:conversation(tokenizer, { { question = "Describe this image in detail.", answer = "A dog." } }, { train = true })
    assert.equal("1 518 " .. TAIL .. " " .. DESCRIBE .. " 29871 319 11203 29889 2", list(c.ids))
    assert.same({ { #c.ids - 3, #c.ids } }, c.spans)
    assert.equal(8, c.image)
  end)

  vectors("of MiniGPT-4, evaluated, in both manners", function()
    local t = prompt.template "minigpt4"
    local left = "1 25538 278 1494 1967 29901 529 25518 29958 2940 3916 829 25518 15513 887 674 367 2221 304 1074 278 "
      .. "1967 2748 306 3867 372 304 366 29889 3529 1234 590 5155 29889 1 %d " .. TAIL .. " "
    assert.equal(left:format(518) .. DESCRIBE, list(t:tokens(tokenizer, "Describe this image in detail.")))
    local newer = require("lucid.tokenizer")(folder)
    newer.legacy = false
    assert.equal(left:format(29961) .. DESCRIBE, list(t:tokens(newer, "Describe this image in detail.")))
    assert.equal(left:format(29961) .. "-200 1533 25518 29958 1317 727 263 15007 3377 297 278 1967 29973 518 29914 25580 29962",
      list(t:tokens(newer, "Is there a snowboard in the image?")))
  end)

  vectors("of InstructBLIP", function()
    local t = prompt.template "instructblip"
    assert.equal("-200 2 1317 727 263 15007 3377 297 278 1967 29973",
      list(t:tokens(tokenizer, "Is there a snowboard in the image?")))
    assert.equal("-200 2 20355 915 445 1967 297 9493 29889", list(t:tokens(tokenizer, "Describe this image in detail.")))
  end)

  it("of a whole text and of its parts are the same", function()
    for _, legacy in ipairs { true, false } do
      local tk = require("lucid.tokenizer")(tokenizer and folder or "tests/golden/tokenizer")
      tk.legacy = legacy
      local c = prompt.template("vicuna_v1"):conversation(tk, {
        { question = "Is it red?", answer = "No, it's blue." }, { question = "Sure?", answer = "Yes." } }, { image = false })
      local text = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        .. "detailed, and polite answers to the user's questions. USER: Is it red? ASSISTANT: No, it's blue.</s>USER: "
        .. "Sure? ASSISTANT: Yes.</s>"
      assert.equal(list(tk:encode(text, { bos = true, special = true })), list(c.ids))
    end
  end)
end)
