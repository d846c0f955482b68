-- Prompt templates: the texts that the published models were trained and evaluated with, as data. A
-- further one is a further entry here, or a file of one's own that returns such a table, named by
-- --template ./mine.lua. lucid.prompt turns them into ids.
--
--   text        a first question. {q}: the question; <image>: the picture; <s>, </s>: these ids
--   train_text  the same in training, where the reference words it otherwise
--   alone       a first question without a picture; default: text without "<image>\n"
--   next        a further question, behind an answer and its end token; absent: there is none
--   answer      an answer, before its end token; default "{a}"
--   bos         the id that a text begins with, "<s>" (default) or "</s>". It stands at {bos}, else in front
--   ended       false: where a further question follows, an answer has no end token
--   question_max, answer_max   most ids of the part with the question (its end is kept), of an answer with
--               its end token (its beginning is kept)
--   model       the kind of model that has this template unless its folder names another
--
-- Behind <image> and {bos} a text begins anew; behind <s> and </s> it goes on.

local function system(person)
  return ("A chat between a curious %s and an artificial intelligence assistant. The assistant gives "
    .. "helpful, detailed, and polite answers to the %s's questions."):format(person, person)
end

return {
  -- The tiny world's: no system sentence.
  tiny_v1 = {
    text = "USER: <image>\n{q} ASSISTANT:",
    next = "USER: {q} ASSISTANT:",
  },

  -- LLaVA-1.5 as HA-DPO has it: it is trained as a "user" and evaluated as a "human".
  llava_v1 = {
    model = "llava",
    text = system("human") .. " USER: <image>\n{q} ASSISTANT:",
    train_text = system("user") .. " USER: <image>\n{q} ASSISTANT:",
    next = "USER: {q} ASSISTANT:",
  },

  -- LLaVA-1.5 and Vicuna 1.1 as their own programs have it.
  vicuna_v1 = {
    text = system("user") .. " USER: <image>\n{q} ASSISTANT:",
    next = "USER: {q} ASSISTANT:",
  },

  -- LLaVA on Llama 2 chat.
  llama2 = {
    text = "[INST] <<SYS>>\nYou are a helpful language and vision assistant. You are able to understand the visual "
      .. "content that the user provides, and assist the user with a variety of tasks using natural language."
      .. "\n<</SYS>>\n\n<image>\n{q} [/INST]",
    next = "<s>[INST] {q} [/INST]",
    answer = "{a} ",
  },

  -- MiniGPT-4 on Llama 2 chat: evaluated with a system sentence and a second <s>, trained with neither, but
  -- with a space at the end.
  minigpt4 = {
    model = "minigpt4",
    text = "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I provide it "
      .. "to you. Please answer my questions.<s>[INST] <Img><image></Img> {q} [/INST]",
    train_text = "[INST] <Img><image></Img> {q} [/INST] ",
    alone = "[INST] {q} [/INST]",
    next = "<s>[INST] {q} [/INST]",
    ended = false,
    answer_max = 320,
  },

  -- InstructBLIP on Vicuna: the picture's rows, then the bare question. </s> is its BOS. It was trained with
  -- questions of 128 ids and answers of 256, the leading </s> of each counted.
  instructblip = {
    model = "instructblip",
    text = "<image>{bos}{q}",
    bos = "</s>",
    question_max = 127,
    answer_max = 255,
  },
}
