-- Programs under a pseudo-terminal: what they draw is read, keys are typed. Linux and util-linux's setsid.
local ffi = require "ffi"
local file = require "lucid.file"
local folder = require "tests.support.folder"

ffi.cdef [[
int posix_openpt(int flags);
int grantpt(int fd);
int unlockpt(int fd);
int ptsname_r(int fd, char *name, size_t size);
struct test_poll { int fd; short events, revents; };
int poll(struct test_poll *fds, unsigned long count, int milliseconds);
ssize_t read(int fd, void *to, size_t size);
ssize_t write(int fd, const void *from, size_t size);
int close(int fd);
int fcntl(int fd, int command, ...);
struct test_termios { unsigned input, output, control, local, rest[32]; };
int tcgetattr(int fd, struct test_termios *to);
]]

local C = ffi.C
local READ_WRITE, NOCTTY, POLLIN, F_SETFD, CLOEXEC = 2, 256, 1, 2, 1
local ECHO = 8
local PATIENCE = 20 -- seconds; nothing here is a measurement

local M = {}
local methods = {}
M.__index = methods

--- Whether a program can be given a terminal here; why not.
function M.possible()
  if jit.os ~= "Linux" then return false, "pseudo-terminals are asked for the Linux way" end
  if os.execute("setsid -h 2>/dev/null | grep -q -- --ctty") ~= 0 then return false, "there is no setsid --ctty" end
  return true
end

local function controller()
  local fd = C.posix_openpt(READ_WRITE + NOCTTY)
  local name = ffi.new "char[128]"
  assert(fd >= 0 and C.grantpt(fd) == 0 and C.unlockpt(fd) == 0 and C.ptsname_r(fd, name, 128) == 0,
    "no pseudo-terminal could be opened")
  C.fcntl(fd, F_SETFD, ffi.cast("int", CLOEXEC))
  return fd, ffi.string(name)
end

--- Starts a shell command as the leader of a session on a new terminal.
---@param command string
function M.start(command)
  local self = setmetatable({ text = "", dir = folder.folder() }, M)
  local fd, name = controller()
  self.fd = fd
  file.write(self.dir .. "/run.sh", ("stty cols 200; %s\necho $? >%s/status.part; mv %s/status.part %s/status\n")
    :format(command, self.dir, self.dir, self.dir))
  assert(os.execute(("setsid --ctty sh %s/run.sh <%s >%s 2>&1 &"):format(self.dir, name, name)) == 0)
  return self
end

local buffer = ffi.new "char[4096]"

-- Reads what is there within some milliseconds; false when nothing came.
function methods:pump(milliseconds)
  local p = ffi.new("struct test_poll", self.fd, POLLIN, 0)
  if C.poll(p, 1, milliseconds) <= 0 then return false end
  local n = tonumber(C.read(self.fd, buffer, 4096))
  if n <= 0 then return false end
  self.text = self.text .. ffi.string(buffer, n)
  return true
end

--- Types text as it is: "\r" is Return, "\3" Ctrl-C, "\4" Ctrl-D.
function methods:type(text)
  assert(C.write(self.fd, text, #text) == #text)
end

--- Reads what comes for some seconds.
function methods:rest(seconds)
  local lucid = require "lucid"
  local finish = lucid.time() + seconds
  while lucid.time() < finish do self:pump(10) end
end

--- Waits until plain text has appeared after what the last wait found, and returns what came before it.
function methods:wait(wanted, patience)
  local deadline = os.time() + (patience or PATIENCE)
  while true do
    local from, to = self.text:find(wanted, 1, true)
    if from then
      local before = self.text:sub(1, from - 1)
      self.text = self.text:sub(to + 1)
      return before
    end
    if os.time() > deadline then
      error(("'%s' did not appear; there is: %s"):format(wanted, self.text), 2)
    end
    self:pump(100)
  end
end

--- Waits until the program itself shows what is typed: before that the terminal would show it, too.
function methods:wait_editor()
  local settings, deadline = ffi.new "struct test_termios", os.time() + PATIENCE
  while C.tcgetattr(self.fd, settings) == 0 and bit.band(settings["local"], ECHO) ~= 0 do
    if os.time() > deadline then error("the program does not edit lines; there is: " .. self.text, 2) end
    self:pump(5)
  end
end

--- Waits for the end of the command: its exit status.
function methods:status(patience)
  local deadline = os.time() + (patience or PATIENCE)
  while not file.exists(self.dir .. "/status") do
    if os.time() > deadline then error("the command did not end; there is: " .. self.text, 2) end
    self:pump(50)
  end
  while self:pump(0) do end
  return tonumber(file.read(self.dir .. "/status"))
end

--- Hangs up: what still runs there gets SIGHUP.
function methods:close()
  C.close(self.fd)
  folder.remove(self.dir)
end

return M
