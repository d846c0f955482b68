-- What is built can be attacked with difficulty alone: the files themselves are read, as readelf has them.
local file = require "lucid.file"
local program = require "tests.support.program"

local BUILD = (os.getenv("LUCID_LIB") or "build/liblucid.so"):match "^(.*)/" or "build"
local SANITIZED = BUILD:find "san" ~= nil      -- these have no fortified functions and no stack protector
-- By whether they call anything that has a fortified form.
local LIBRARIES = { liblucid = true, liblucid_net = true, liblucid_server = true, liblucid_text = false, liblucid_mpi = false }

local function readelf(words, path)
  local p = io.popen(("readelf -W %s %s 2>/dev/null"):format(words, path))
  local text = p:read "*a"
  p:close()
  return text
end

local function hardened(path)
  local segments, symbols = readelf("-l", path), readelf("--dyn-syms", path)
  assert.truthy(segments:find "GNU_RELRO", path .. ": no RELRO")
  assert.truthy(readelf("-d", path):find "BIND_NOW", path .. ": symbols are bound late")
  assert.truthy(segments:find "GNU_STACK[%sx%x]+RW %s", path .. ": the stack can be executed")
  assert.is_nil(segments:find "LOAD[%sx%x]+RWE", path .. ": what can be written can be executed")
  if not SANITIZED then assert.truthy(symbols:find "__stack_chk_fail", path .. ": no stack protector") end
  return symbols
end

describe("a built file", function()
  if readelf("-h", program) == "" then
    it("is hardened", function() pending "no readelf (binutils)" end)
    return
  end

  it("is hardened, whether program or library", function()
    for _, path in ipairs { program, BUILD .. "/lucid-decode" } do
      local symbols = hardened(path)
      assert.truthy(readelf("-h", path):find "Type:%s+DYN", path .. ": not position-independent")
      if not SANITIZED then assert.truthy(symbols:find "__%w+_chk@", path .. ": not fortified") end
    end
    local seen = 0
    for name, fortified in pairs(LIBRARIES) do
      local path = ("%s/%s.so"):format(BUILD, name)
      if file.exists(path) then
        local symbols = hardened(path)
        if not SANITIZED and fortified then assert.truthy(symbols:find "__%w+_chk@", path .. ": not fortified") end
        seen = seen + 1
      end
    end
    assert.is_true(seen >= 1)
  end)
end)
