-- One picture, one answer.
--   lucid describe --model llava-1.5-7b-hf --image cat.jpg [--adapter runs/llava]
--   lucid describe --model llava-1.5-7b-hf --explain          what the model would be given to read
local lucid = require "lucid"

local opt = lucid.args {
  about = "Answers a question about a picture.",
  common = "model vision bridge bert adapter device dtype template threads seed json",
  required = { "model" },
  { "image", "", "picture file" },
  { "prompt", "Describe this image in detail.", "the question" },
  { "max-new-tokens", 512, "length limit, tokens", { whole = true, min = 1 } },
  { "temperature", 0, "0: the likeliest token every time" },
  { "top-p", 1, "sample from the likeliest tokens that hold this much probability", { max = 1 } },
  { "stop", "", "end before this text" },
  { "explain", false, "print the ids with their pieces, the picture's place and the template; no weights are read" },
  { "answer", "", "an answer that --explain puts behind the question" },
  { "train", false, "--explain shows the form that training has" },
}

if opt.explain then
  local e = lucid.explain { model = opt.model, bridge = opt.bridge, bert = opt.bert, template = opt.template,
    prompt = opt.prompt, answer = opt.answer, train = opt.train }
  print(opt.json and lucid.json.encode(e:table()) or e:text())
  return
end
if opt.image == "" then lucid.args.usage "--image is required; --help lists all options" end

lucid.threads(opt.threads)
local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, template = opt.template,
  adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert })
local text, answer = m:generate {
  image = opt.image, prompt = opt.prompt, max_new_tokens = opt.max_new_tokens, seed = opt.seed,
  temperature = opt.temperature, top_p = opt.top_p, stop = opt.stop ~= "" and { opt.stop } or nil,
}
if opt.json then
  print(lucid.json.encode { text = text, tokens = #answer.ids, reason = answer.reason })
else
  print(text)
end
