-- The judge server of the tests (judge_server.c), and what it was asked.
local file = require "lucid.file"
local folder = require "tests.support.folder"

local M = {}
local Server = {}
Server.__index = Server

local PROGRAM = (os.getenv("LUCID_LIB") or "build/liblucid.so"):match("^(.*)/[^/]*$") .. "/judge_server"

--- Why there is none, or nil.
function M.missing()
  if require("lucid.run").versions().features:find("http: missing", 1, true) then return "no HTTP client" end
  return not file.exists(PROGRAM) and "no judge server (libmicrohttpd-dev)" or nil
end

--- Starts a server: opt.faults in percent, opt.delay in milliseconds, opt.seed; opt.key and opt.cert for TLS.
---@param opt table|nil
function M.start(opt)
  local dir = folder.folder()
  local words = { PROGRAM, "--log", dir .. "/log" }
  for name, value in pairs(opt or {}) do words[#words + 1] = ("--%s %s"):format(name, value) end
  local pipe = io.popen(table.concat(words, " ") .. " &")      -- so that closing the pipe does not wait for it
  local port, pid = pipe:read("*l"):match("^(%d+) (%d+)$")
  return setmetatable({ dir = dir, pipe = pipe, pid = pid, port = port, url = ("%s://127.0.0.1:%s/v1"):format((opt or {}).key and "https" or "http", port) }, Server)
end

--- The log: { { word = "ask", hash, try, what, ms, flying } or { word = "done", hash, what }, ... }.
function Server:log()
  local list = {}
  for line in file.read(self.dir .. "/log"):gmatch("[^\n]+") do
    local hash, try, what, ms, flying = line:match("^ask (%x+) (%d+) (%w+) (%d+) (%d+)$")
    if hash then
      list[#list + 1] = { word = "ask", hash = hash, try = tonumber(try), what = what, ms = tonumber(ms), flying = tonumber(flying) }
    else
      hash, what = line:match("^done (%x+) (%w+)$")
      list[#list + 1] = { word = "done", hash = hash, what = what }
    end
  end
  return list
end

--- How many requests it was asked.
function Server:asked()
  local n = 0
  for _, line in ipairs(self:log()) do n = n + (line.word == "ask" and 1 or 0) end
  return n
end

--- How often each request was answered and served whole, that is, paid for: { hash = times }.
function Server:paid()
  local times = {}
  for _, line in ipairs(self:log()) do
    if line.word == "done" and line.what == "answer" then times[line.hash] = (times[line.hash] or 0) + 1 end
  end
  return times
end

function Server:stop()
  os.execute("kill " .. self.pid)
  self.pipe:close()
  folder.remove(self.dir)
end

--- A judge that asks it, with short pauses.
---@param opt table    journal, and what else lucid.judge.openai takes
function Server:judge(opt)
  local settings = { base_url = self.url, model = "test", pause = 0.02, timeout = 5, most = 2 ^ 20, quiet = true }
  for name, value in pairs(opt) do settings[name] = value end
  return require("lucid.judge.openai").new(settings)
end

--- Requests with texts of their own.
function M.requests(n, about)
  local list = {}
  for i = 1, n do list[i] = { kind = "judge", image_id = i, text = ("%s number %d"):format(about or "request", i) } end
  return list
end

return M
