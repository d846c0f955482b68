-- Writes the seeds of the fuzzers into tests/fuzz/corpus: bin/lucid tests/fuzz/seeds.lua. Each is small, and together
-- they have every form that a reader knows. Pictures and files of torch.save are those of tests/golden.
local lucid = require "lucid"
local templates = require "lucid.template"

local file, json = lucid.file, lucid.json
local CORPUS = "tests/fuzz/corpus/"

local function seeds(target, list)
  file.mkdir(CORPUS .. target)
  for name, text in pairs(list) do file.write(CORPUS .. target .. "/" .. name, text) end
end

local function copies(target, paths)
  local list = {}
  for name, path in pairs(paths) do list[name] = file.read(path) end
  seeds(target, list)
end

-- ---- JSON --------------------------------------------------------------------------------------------------

seeds("json", {
  numbers = "[0, -0, 1e5, -1.5E-3, 9007199254740993, -9223372036854775808, 1e400, 01]",
  strings = '["", "\\"\\\\\\/\\b\\f\\n\\r\\t", "\\u0041\\ud83d\\ude00\\u0000", "\195\169\226\130\172\240\159\152\128"]',
  object = '{"a": {"b": [true, false, null]}, "a": 1, "": "", "\\u0061": 2}',
  deep = ("["):rep(66) .. ("]"):rep(66),
  mark = "\239\187\191 {} ",
  wrong = '{"a" 1, [,], tru, "\\ud800", "\255"}',
})
seeds("records", {
  list = '[{"image_id": 1, "a": [1, {"b": "]"}]}, {"image_id": "2"}, {"image_id": -3}]',
  lines = '{"image_id": 1}\n{"image_id": 2, "text": "a\\nb"}\r\n\n{"image_id": 3}',
  object = '{"images": [], "annotations": [{"image_id": 1}, {"image_id": 1}], "7": {"x": 1}}',
  nested = '[{"regions": [{"image_id": 5, "phrase": "\\u00e9\\""}], "id": 9}, {"regions": [], "id": 2}]',
  pretty = '\239\187\191[\n  {\n    "image_id": 17\n  },\n  {\n    "image_id": 18\n  }\n]\n',
  cut = '[{"image_id": 1}, {"image_id": 2, "text": "',
})

-- ---- checkpoints -------------------------------------------------------------------------------------------

local function header(text) return string.char(#text % 256, math.floor(#text / 256), 0, 0, 0, 0, 0, 0) .. text end

seeds("safetensors", {
  one = header '{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}' .. ("\0\0\128\63"):rep(4),
  several = header('{"__metadata__":{"format":"pt","n":"1"},"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},'
    .. '"b.c":{"dtype":"U8","shape":[],"data_offsets":[6,7]},"e":{"dtype":"F16","shape":[0,4],"data_offsets":[7,7]},'
    .. '"q":{"dtype":"I64","shape":[1,1,1,1,1,1],"data_offsets":[7,15]}}  ') .. ("\1"):rep(15),
  bare = '{"w":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]}}',
  overlap = '{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},"b":{"dtype":"F32","shape":[8],"data_offsets":[16,48]}}',
  huge = '{"a":{"dtype":"F64","shape":[4294967296,4294967296,0],"data_offsets":[0,18446744073709551615]}}',
})

-- The pickles within the zips, which stand there as they are.
local pickles = {}
for _, name in ipairs { "plain", "nested", "attributed", "protocol4", "alone" } do
  local whole = file.read("tests/golden/torchfile/" .. name .. ".pth")
  local at = whole:find("/data.pkl", 1, true)
  local first = whole:sub(1, at):match(".*()PK\3\4")
  local function number(from, n)
    local value = 0
    for i = n, 1, -1 do value = value * 256 + whole:byte(first + from + i - 1) end
    return value
  end
  local begin = first + 30 + number(26, 2) + number(28, 2)
  local length = number(18, 4)
  if length == 0 then length = whole:find("PK\7\8", begin, true) - begin end
  pickles[name] = whole:sub(begin, begin + length - 1)
end
seeds("pickle", pickles)

-- ---- texts and tokenizers ----------------------------------------------------------------------------------

copies("sentencepiece", { small = "tests/golden/llava_original/model/tokenizer.model",
  tiny = "tests/golden/llava_tiny/classic/tokenizer.model" })
copies("wordpiece", { words = "tests/golden/tokenizer/lines/vocab.txt" })
seeds("text", { plain = "A dog's  ball, isn't it? <s>[CLS] 12.5%\n", wide = "caf\195\169 e\204\129 \228\184\173\230\150\135 \240\159\152\128",
  broken = "a\255\192\128\237\160\128\226\150\129\0b" })

-- ---- models ------------------------------------------------------------------------------------------------

copies("config", { classic = "tests/golden/llava_tiny/classic/config.json", instructblip = "tests/golden/bridges/instructblip/config.json",
  original = "tests/golden/llava_original/model/config.json", language = "tests/golden/bridges/language/config.json" })
seeds("settings", {
  tokenizer = '{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": true}, "legacy": false, "additional_special_tokens":'
    .. ' ["<q>"], "added_tokens_decoder": {"9": {"content": "<x>", "special": true, "rstrip": true}}}',
  added = '{"added_tokens": [{"id": 300, "content": "dog", "single_word": true}], "<pad>": 301, "pad_token": "<pad>"}',
  processor = file.read "tests/golden/llava_tiny/classic/preprocessor_config.json",
  older = file.read "tests/golden/llava_original/clip/preprocessor_config.json",
})
local forms = {}
for name, form in pairs(templates) do
  forms[name] = table.concat({ "Is there a <image> cat?", "No.</s>", form.text, form.train_text or "", form.alone or "",
    form.next or "", form.answer or "", form.bos or "" }, "\0")
end
seeds("template", forms)

-- A byte a number: parent + 1, length, direction, first key + 1, keys + 1.
seeds("forest", { star = "\0\5\0\0\1\1\3\0\0\2\1\4\1\1\3\1\2\0\1\1", chain = "\0\7\1\0\0\1\1\0\0\0\2\1\0\0\0\3\9\1\0\0",
  wrong = "\250\255\0\255\248\3\240\1\247\2\1\0\1\1\1" })

-- ---- the network -------------------------------------------------------------------------------------------

local BODY = '{"id":"x","model":"gpt-4","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant",'
  .. '"content":"1. Correct: yes."}}],"usage":{"prompt_tokens":10,"completion_tokens":4}}'
seeds("client", {
  whole = ("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"):format(#BODY, BODY),
  chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n2\r\n1}\r\n0\r\nX: y\r\n\r\n",
  slow = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 2\r\n\r\n{}",
  date = "HTTP/1.1 503 No\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nConnection: close\r\n\r\nsk-canary-0123456789",
  packed = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n\31\139\8\0\0\0\0\0\0\3\171\174\5\0\67\191\166\163\2\0\0\0",
  moved = "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.2/\r\nContent-Length: 0\r\n\r\n",
  first = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}",
  old = "HTTP/1.0 500\n\nX",
})
local ASKED = '{"model":"tiny","messages":[{"role":"user","content":"hi"}],"max_tokens":4}'
seeds("server", {
  get = "GET / HTTP/1.1\r\nHost: localhost:1\r\n\r\n",
  post = ("POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s")
    :format(#ASKED, ASKED),
  chunks = "POST /v1/x HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    .. "3;a=b\r\n{}\n\r\n0\r\n\r\n",
  both = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n{}",
  origin = "GET /metrics HTTP/1.1\r\nHost: localhost:80\r\nOrigin: http://evil.example\r\nAuthorization: Bearer x\r\n\r\n",
  several = ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"):rep(3),
  keyed = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-canary-0123456789\r\n\r\n\r\n",
  odd = "GET /%2e%2e/%00 HTTP/1.0\nHost: a\nX:\n b\n\n",
})
seeds("answer", { good = "\0" .. BODY, parts = '\0{"choices":[{"message":{"content":[{"type":"text","text":"a"}],"refusal":null}}]}',
  filtered = '\1{"error":{"code":"content_filter","message":"no"}}', long = '\1{"error":"maximum context length"}',
  quota = '\4{"error":{"code":"insufficient_quota","message":"pay"}}', page = "\5<html><b>502</b></html>" })
seeds("request", { plain = ASKED, full = json.encode { model = "tiny", stream = true, stream_options = { include_usage = true }, n = 2,
  temperature = 1, top_p = 0.5, stop = json.array { "x" }, seed = 7, logprobs = true, top_logprobs = 2, messages = json.array {
    { role = "system", content = "s" }, { role = "user", content = json.array { { type = "text", text = "what?" },
      { type = "image_url", image_url = { url = "data:image/png;base64,iVBORw0KGgo=" } } } },
    { role = "assistant", content = "a" }, { role = "user", content = "b" } } } })
seeds("data", {
  descriptions = '[{"image_id": "1", "chosen": ["a red car."], "rejected": ["a blue cat."]}]',
  questions = '[{"image_id": "1", "question": "Is there a cat?", "answer": "no", "chosen": "No.", "reject": "Yes.", "correct": false}]',
  pope = '{"question_id": 1, "image": "a.jpg", "text": "Is there a cat?", "label": "no"}\n',
  coco = '{"images": [{"id": 1, "file_name": "a.jpg", "width": 2, "height": 2}], "categories": [{"id": 1, "name": "cat"}]}',
  amber = '[{"id": 1, "type": "generative", "truth": ["a"], "hallu": []}, {"id": 2, "type": "relation", "truth": "yes"}]',
  conversations = '[{"id": "x", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]',
  facts = '{"1": ["A cat sits."]}\n{"2": []}',
  judged = '{"run": {"1": {"model_response": "a", "raw_judgement": "b", "judgement": [{"model_response": "a", "classification": null}]}}}',
})
