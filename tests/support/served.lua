-- lucid serve as a program of its own, and the bodies of requests to it.
local assert = require "luassert"
local base64 = require "lucid.base64"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local program = require "tests.support.program"
local run = require "lucid.run"
local socket = require "tests.support.socket"

local M = {}
local Served = {}
Served.__index = Served

--- Why there is none, or nil.
function M.missing()
  return run.versions().features:find("server: missing", 1, true) and "no HTTP server (libmicrohttpd-dev)" or nil
end

--- A picture file as a data URL.
function M.url_of(path)
  return ("data:image/%s;base64,%s"):format(path:find "%.png$" and "png" or "jpeg", base64.encode(file.read(path)))
end

--- A message of the user, about a picture file or none.
function M.message(text, picture)
  if not picture then return { role = "user", content = text } end
  return { role = "user", content = { { type = "text", text = text },
    { type = "image_url", image_url = { url = M.url_of(picture) } } } }
end

--- A request for a completion of the model "tiny".
function M.completion(fields)
  local body = { model = "tiny", messages = { M.message "Is there a car in the image?" }, max_tokens = 6 }
  for name, value in pairs(fields or {}) do body[name] = value end
  return { path = "/v1/chat/completions", body = json.encode(body) }
end

--- Starts one on a free port.
---@param words string      options
function M.start(words)
  local dir = folder.folder()
  -- exec: the number printed is the server's own, which signals are for.
  local command = ("{ sh -c 'echo $$; exec %s serve --port 0 %s' 2>%s/err; echo ended $?; }"):format(program, words, dir)
  local pipe = io.popen(command)
  local pid, line = pipe:read "*l", pipe:read "*l"
  local port = (line or ""):match ":(%d+) serves"
  local self = setmetatable({ dir = dir, pipe = pipe, pid = pid, port = tonumber(port), line = line }, Served)
  if not port then error("lucid serve: " .. tostring(line) .. " " .. file.read(dir .. "/err"), 0) end
  return self
end

--- Starts one of what tests.support.adapted has written, under the name "tiny".
---@param dir string
---@param words string      further options
function M.adapted(dir, words)
  return M.start(("--model %s --adapter %s/adapter --name tiny --quiet %s"):format(dir, dir, words))
end

function Served:ask(r) return socket.ask(self.port, r) end

--- A value of /metrics; where there are several of a name, their sum.
function Served:metric(name, headers)
  local _, text = self:ask { path = "/metrics", headers = headers }
  local sum
  for line in text:gmatch "[^\n]+" do
    local value = line:match("^" .. name .. "%s(%S+)$") or line:match("^" .. name .. "{[^}]*}%s(%S+)$")
    if value then sum = (sum or 0) + tonumber(value) end
  end
  return sum
end

function Served:connect(opt) return socket.connect(self.port, opt) end

--- The resident memory of the process in bytes.
function Served:memory() return 1024 * tonumber(file.read("/proc/" .. self.pid .. "/status"):match "VmRSS:%s*(%d+)") end

function Served:signal(name) os.execute(("kill -%s %s"):format(name, self.pid)) end

--- Waits for its end: the exit status, and what it wrote to stderr.
function Served:ended()
  local status = self.pipe:read("*a"):match "ended (%d+)"
  local err = file.read(self.dir .. "/err")
  self.pipe:close()
  folder.remove(self.dir)
  return tonumber(status), err
end

function Served:stop()
  self:signal "TERM"
  return self:ended()
end

--- Ends it when all is done: it has had nothing to say. Its model's folder goes, too.
---@param dir string
function Served:over(dir)
  local status, err = self:stop()
  folder.remove(dir)
  assert.same({ 0, "" }, { status, err })
end

return M
