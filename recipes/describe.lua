-- Pictures and a question: an answer to each.
--   lucid describe --model llava-1.5-7b-hf --image cat.jpg [--adapter runs/llava]
--   lucid describe --model llava-1.5-7b-hf --as-published shr a.jpg b.jpg c.jpg
--   lucid describe --model llava-1.5-7b-hf --explain          what the model would be given to read
local lucid = require "lucid"

local opt = lucid.args {
  about = "Answers a question about pictures: greedily unless asked otherwise, and as it grows on a terminal.",
  positional = "more pictures",
  common = "model vision bridge bert adapter device dtype quant template cache threads seed json quiet " .. lucid.generate.OPTIONS,
  processes = true,
  required = { "model" },
  { "image", "", "picture files, separated by commas; further words are pictures, too" },
  { "prompt", "Describe this image in detail.", "the question" },
  { "as-published", "", "what is not given is as that measure's programs have it for this kind of model: shr or pope",
    { choices = lucid.published.TASKS } },
  { "answers", 1, "answers to each picture: sampled ones, or the best of the search", { whole = true, min = 1, max = 1024 } },
  { "batch", 16, "pictures whose answers grow together", { whole = true, min = 1 } },
  { "explain", false, "print the ids with their pieces, the picture's place and the template; no weights are read" },
  { "answer", "", "an answer that --explain puts behind the question" },
  { "train", false, "--explain shows the form that training has" },
  groups = { lucid.image.OPTIONS },
}

if opt.explain then
  local e = lucid.explain { model = opt.model, vision = opt.vision, bridge = opt.bridge, bert = opt.bert,
    template = opt.template, prompt = opt.prompt, answer = opt.answer, train = opt.train }
  lucid.run.show(opt, e:table(), e:text())
  return
end
local requests = {}
local function add(path) requests[#requests + 1] = { image = path, prompt = opt.prompt } end
for path in opt.image:gmatch("[^,]+") do add(path) end
for _, path in ipairs(opt) do add(path) end
if #requests == 0 then lucid.args.usage "--image is required; --help lists all options" end

lucid.dist.join(opt)
lucid.image.guard(opt)
local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
  adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
local published = opt.as_published ~= "" and lucid.published.settings(m.kind, opt.as_published, true) or nil
local settings = lucid.generate.settings(opt, published)
settings.answers, settings.batch = opt.answers, opt.batch
local single = #requests == 1 and opt.answers == 1
local streamed = single and not opt.json and (settings.beams or 1) == 1 and lucid.is_terminal(1)
if streamed then
  settings.on_text = function(_, piece)
    io.write(piece)
    io.flush()
  end
end
local bar = lucid.progress { total = #requests, label = "describe", unit = "pictures", quiet = opt.quiet or #requests == 1 }
settings.progress = function(done) bar:step(done) end
local answers = m:generate_all(requests, settings)
bar:done()
if not lucid.dist.first() then return answers end

local list, texts = {}, {}
for i, r in ipairs(requests) do
  list[i] = lucid.json.array {}
  for k, a in ipairs(answers[i].answers or { answers[i] }) do
    list[i][k] = { image = r.image, text = a.text, tokens = #a.ids, score = a.score, reason = a.reason }
    texts[#texts + 1] = (#requests > 1 and r.image .. ": " or "") .. a.text
  end
  if opt.answers == 1 then list[i] = list[i][1] end
end
lucid.run.show(opt, #list == 1 and list[1] or lucid.json.array(list), streamed and "" or table.concat(texts, "\n"))
