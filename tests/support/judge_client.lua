-- A program that asks a judge server: URL JOURNAL REQUESTS CONCURRENCY OUT. It writes the replies' texts to OUT, a line each.
local file = require "lucid.file"
local judge = require "tests.support.judge"

local url, journal, n, concurrency, out = unpack(arg)
local replies = require("lucid.judge.openai").new({ base_url = url, model = "test", journal = journal, pause = 0.02,
  timeout = 3, most = 2 ^ 20, quiet = true, concurrency = tonumber(concurrency) }):ask(judge.requests(tonumber(n)))
local lines = {}
for i, reply in ipairs(replies) do lines[i] = reply.text:gsub("\n", " ") .. "\n" end
file.write(out, table.concat(lines))
