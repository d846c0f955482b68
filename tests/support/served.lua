-- lucid serve as a program of its own.
local file = require "lucid.file"
local folder = require "tests.support.folder"
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

--- Starts one on a free port.
---@param words string      options
function M.start(words)
  local dir = folder.folder()
  -- exec: the number printed is the server's own, which signals are for.
  local pipe = io.popen(("{ sh -c 'echo $$; exec %s serve --port 0 %s' 2>%s/err; echo ended $?; }"):format(program, words, dir))
  local pid, line = pipe:read "*l", pipe:read "*l"
  local port = (line or ""):match ":(%d+) serves"
  local self = setmetatable({ dir = dir, pipe = pipe, pid = pid, port = tonumber(port), line = line }, Served)
  if not port then error("lucid serve: " .. tostring(line) .. " " .. file.read(dir .. "/err"), 0) end
  return self
end

function Served:ask(r) return socket.ask(self.port, r) end

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

return M
