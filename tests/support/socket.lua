-- A plain TCP connection to this machine, and HTTP over it as tests need it: any bytes out, answers and streams in.
local ffi = require "ffi"
local json = require "lucid.json"

-- poll has a name of its own: tests/support/terminal.lua declares it for another struct.
ffi.cdef [[
  int socket(int domain, int type, int protocol);
  int connect(int fd, const void *address, unsigned size);
  long send(int fd, const void *data, size_t n, int flags);
  long recv(int fd, void *data, size_t n, int flags);
  int close(int fd);
  int shutdown(int fd, int how);
  int setsockopt(int fd, int level, int name, const void *value, unsigned size);
  struct test_pollfd { int fd; short events, revents; };
  int test_poll_sockets(struct test_pollfd *fds, unsigned long n, int milliseconds) __asm__("poll");
]]

local M = {}
local Socket = {}
Socket.__index = Socket

local AF_INET, SOCK_STREAM, MSG_NOSIGNAL, MSG_DONTWAIT, POLLIN = 2, 1, 0x4000, 0x40, 1
local SOL_SOCKET, SO_RCVBUF = 1, 8

--- Connects to a port of 127.0.0.1.
---@param port integer
---@param opt table|nil      receive: bytes of the kernel's buffer
function M.connect(port, opt)
  local fd = ffi.C.socket(AF_INET, SOCK_STREAM, 0)
  if opt and opt.receive then ffi.C.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, ffi.new("int[1]", opt.receive), 4) end
  local address = ffi.new("uint8_t[16]")
  ffi.cast("uint16_t *", address)[0] = AF_INET
  address[2], address[3] = math.floor(port / 256), port % 256
  address[4], address[7] = 127, 1
  if ffi.C.connect(fd, address, 16) ~= 0 then
    ffi.C.close(fd)
    return nil
  end
  return setmetatable({ fd = fd, buffer = "" }, Socket)
end

--- Sends bytes; false: the other end has closed.
function Socket:send(text)
  local at = 0
  while at < #text do
    local n = tonumber(ffi.C.send(self.fd, ffi.cast("const char *", text) + at, #text - at, MSG_NOSIGNAL))
    if n <= 0 then return false end
    at = at + n
  end
  return true
end

local chunk = ffi.new("char[65536]")

--- Reads what is there within so many seconds into the buffer; false: nothing came; nil: the other end has closed.
function Socket:fill(seconds)
  local fds = ffi.new("struct test_pollfd[1]")
  fds[0].fd, fds[0].events = self.fd, POLLIN
  if ffi.C.test_poll_sockets(fds, 1, math.floor(1000 * (seconds or 20))) <= 0 then return false end
  local n = tonumber(ffi.C.recv(self.fd, chunk, 65536, MSG_DONTWAIT))
  if n <= 0 then return nil end
  self.buffer = self.buffer .. ffi.string(chunk, n)
  return true
end

--- Reads up to and with a text; nil: it did not come.
function Socket:upto(text, seconds)
  while true do
    local _, last = self.buffer:find(text, 1, true)
    if last then
      local part = self.buffer:sub(1, last)
      self.buffer = self.buffer:sub(last + 1)
      return part
    end
    if not self:fill(seconds) then return nil end
  end
end

--- Reads n bytes.
function Socket:bytes(n)
  while #self.buffer < n do
    if not self:fill() then return nil end
  end
  local part = self.buffer:sub(1, n)
  self.buffer = self.buffer:sub(n + 1)
  return part
end

--- Whether the other end closes within so many seconds.
function Socket:closed(seconds)
  while true do
    local more = self:fill(seconds)
    if more == nil then return true end
    if more == false then return false end
  end
end

--- Says that nothing more will be sent; what comes is still read.
function Socket:shut() ffi.C.shutdown(self.fd, 1) end

function Socket:close()
  if self.fd then ffi.C.close(self.fd) end
  self.fd = nil
end

-- ---- HTTP ------------------------------------------------------------------------------------------

--- Sends a request: { method, path, headers = { Name = value or false }, body }.
function Socket:request(r)
  local headers = { Host = "127.0.0.1", ["Content-Type"] = r.body and "application/json" or nil,
    ["Content-Length"] = r.body and tostring(#r.body) or nil }
  for name, value in pairs(r.headers or {}) do headers[name] = value end
  local lines = { ("%s %s HTTP/1.1"):format(r.method or (r.body and "POST" or "GET"), r.path) }
  for name, value in pairs(headers) do
    if value then lines[#lines + 1] = name .. ": " .. value end
  end
  return self:send(table.concat(lines, "\r\n") .. "\r\n\r\n" .. (r.body or ""))
end

--- Reads an answer's head: status, { ["lower-case name"] = value }; nil: none came.
function Socket:head(seconds)
  local head = self:upto("\r\n\r\n", seconds)
  if not head then return nil end
  local headers = {}
  for name, value in head:gmatch "\r\n([^:\r\n]+):%s*([^\r\n]*)" do headers[name:lower()] = value end
  return tonumber(head:match "^HTTP/1.1 (%d+)"), headers
end

--- Reads a chunk of a chunked body; "" is the last one.
function Socket:chunk()
  local n = self:upto "\r\n"
  if not n then return nil end
  local data = self:bytes(tonumber(n:match "^%x+", 16))
  self:bytes(2)
  return data
end

--- Reads an answer: status, headers, body.
function Socket:answer(seconds)
  local status, headers = self:head(seconds)
  if not status then return nil end
  local body
  if headers["transfer-encoding"] then
    local parts = {}
    repeat
      parts[#parts + 1] = self:chunk()
    until not parts[#parts] or parts[#parts] == ""
    body = table.concat(parts)
  else
    body = self:bytes(tonumber(headers["content-length"] or 0))
  end
  return status, headers, body
end

--- One request on a connection of its own: status, body (decoded where it is JSON), headers.
function M.ask(port, r)
  local s = assert(M.connect(port), "nobody listens")
  s:request(r)
  local status, headers, body = s:answer(r.seconds)
  s:close()
  if headers and (headers["content-type"] or ""):find("json", 1, true) then body = json.decode(body) end
  return status, body, headers
end

--- The events of a stream's text: decoded objects; the last is "[DONE]".
function M.events(text)
  local list = {}
  for data in text:gmatch "data: ([^\n]*)\n\n" do list[#list + 1] = data == "[DONE]" and data or json.decode(data) end
  return list
end

return M
