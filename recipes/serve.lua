-- Answers over HTTP: OpenAI's chat completions, and a page that compares the model with and without its adapter.
--   lucid serve --model llava-1.5-7b-hf [--adapter runs/llava] --port 8080
--   lucid serve --model llava-1.5-7b-hf --host 0.0.0.0 --api-key-file key.txt
local lucid = require "lucid"

-- A judge's options but for those that have no meaning here or are the server's own.
local judge = { title = "the judge, whose verdicts the page shows on what it is told of annotated pictures" }
local LEFT_OUT = { ["api-key-file"] = true, ["batch-file"] = true, ["judge"] = true }
for _, o in ipairs(lucid.judge.options) do
  if not LEFT_OUT[o[1]] then judge[#judge + 1] = o end
end

local opt = lucid.args {
  about = "Serves /v1/chat/completions (OpenAI's, with pictures as data URLs), /v1/models, /healthz, /metrics and a\n"
    .. "page at /. Requests are batched between two tokens, and those on one picture share its keys and values; an\n"
    .. "answer is the one that lucid describe gives. A model is called by its folder's name, with +adapter behind it\n"
    .. "where there is one.\n"
    .. "Ctrl-C lets what was accepted be answered and ends; a second one ends at once.",
  common = "model vision bridge bert adapter device dtype quant template cache threads seed temperature json quiet "
    .. "images judge",
  defaults = { judge = "none" },
  groups = { judge, lucid.image.LIMITS },
  required = { "model" },
  { "seed", 42, "random seed of requests without one", { whole = true } },
  { "temperature", 0, "where a request does not say; 0: the likeliest token every time" },
  { "name", "", "what the model is called; empty: its folder's name" },
  { "host", "127.0.0.1", "address to listen on; one that other machines reach needs --api-key-file" },
  { "port", 8080, "port to listen on; 0: any that is free", { whole = true, max = 65535 } },
  { "api-key-file", "", "file of the key that requests need, its owner's alone" },
  { "allow-host", "", "further names that requests may call this server by, separated by commas" },
  { "batch", 64, "answers that grow together", { whole = true, min = 1, max = 4096 } },
  { "queue", 128, "requests at a time, waiting ones with them; further ones are refused (429)",
    { whole = true, min = 1, max = 1e5 } },
  { "connections", 256, "connections at a time", { whole = true, min = 1, max = 1e5 } },
  { "max-body", 16, "MiB of a request", { min = 0.001, max = 1024 } },
  { "max-tokens", 1024, "most tokens of an answer, whatever a request says", { whole = true, min = 1 } },
  { "max-new-tokens", 512, "tokens of an answer where a request does not say", { whole = true, min = 1 } },
  { "timeout", 300, "seconds for a request, waiting and all", { min = 0.1 } },
  { "head-timeout", 10, "seconds until a request's head is there", { min = 0.1 } },
  { "body-timeout", 30, "seconds from there until its body is", { min = 0.1 } },
  { "stall", 30, "seconds that a client may take nothing of its answer", { min = 1 } },
  { "trunk-budget", 1024, "MiB of keys and values that pictures may hold for further questions" },
  { "annotations", "", "what is in pictures, for the judge: COCO's instances_*.json or JSON lines; empty: Visual Genome's under --images" },
  { "captions", "", "COCO's captions_*.json" },
  { "nouns", "", "noun table of the annotation judge; empty: IMAGES/categories.json, else the things that --annotations names" },
  { "prompt", "prompts/judge", "a .lua file that words the judge's request" },
  { "judge-key-file", "", "openai: file of the judge's key; empty: $OPENAI_API_KEY" },
}

local usage = lucid.args.usage
if opt.judge ~= "none" and opt.images == "" then usage "--images is required with --judge; --help lists all options" end
-- The server refuses such an address itself, but only when a model has been read.
local own = opt.host == "localhost" or opt.host == "::1" or opt.host:find "^127%."
if not own and opt.api_key_file == "" then
  usage(("--host %s: a key is needed (--api-key-file FILE) where others reach it; only this machine reaches 127.0.0.1, "
    .. "localhost and ::1"):format(opt.host))
end

lucid.threads(opt.threads)
lucid.image.guard(opt)
local m = lucid.model(opt.model, { device = opt.device, dtype = opt.dtype, quant = opt.quant, template = opt.template,
  adapter = opt.adapter, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, cache = opt.cache })
local names = {}
for name in opt.allow_host:gmatch "[^,]+" do names[#names + 1] = name end

-- Who judges, and what is known of the pictures.
local function judging()
  if opt.judge == "none" then return nil end
  local source = lucid.mine.source(opt, lucid.cache.folder(opt.cache))
  local settings = setmetatable({ api_key_file = opt.judge_key_file, quiet = true }, { __index = opt })
  return { source = source, prompt = lucid.recipe.load(opt.prompt),
    judge = lucid.judge.open(settings, { nouns = lucid.mine.nouns(opt, function() return source end), idle = coroutine.yield }) }
end

local server = lucid.serve.open {
  model = m, name = opt.name ~= "" and opt.name or opt.model:gsub("/+$", ""):match "[^/]+$", host = opt.host,
  port = opt.port, key_file = opt.api_key_file ~= "" and opt.api_key_file or nil, names = names, batch = opt.batch,
  queue = opt.queue,
  connections = opt.connections, max_body = opt.max_body * 2 ^ 20, max_tokens = opt.max_tokens,
  tokens = opt.max_new_tokens, temperature = opt.temperature, seed = opt.seed, timeout = opt.timeout,
  head_timeout = opt.head_timeout,
  body_timeout = opt.body_timeout, stall = opt.stall, trunk_budget = opt.trunk_budget * 2 ^ 20, judging = judging(),
  log = not opt.quiet and function(line) io.stderr:write(line, "\n") end or nil,
}
lucid.run.show(opt, { url = server.url, models = lucid.json.array(server.models) },
  ("%s serves %s"):format(server.url, table.concat(server.models, " and ")))
io.flush()
server:run()
server:close()
