-- The CUDA plug-in as a file, and what is said where it, a driver or a GPU is missing. tests/cuda has what it computes.
local native = require "lucid.native"
local program = require "tests.support.program"

local FOLDER = (os.getenv("LUCID_LIB") or native.root .. "build/liblucid.so"):match("^(.*/)")
local PLUGIN = FOLDER .. "liblucid_cuda.so"

local function output(command)
  local p = io.popen(command)
  local text = p:read("*a")
  p:close()
  return text
end

local function there(path)
  local f = io.open(path)
  if f then f:close() end
  return f ~= nil
end

-- What a script that wants a GPU ends with, without a driver's libraries.
local function without(plugin)
  return output(("%s %s tests/support/on_cuda.lua 2>&1; echo $?"):format(plugin and "LUCID_CUDA=" .. plugin or "", program))
end

describe("the CUDA plug-in", function()
  if not there(PLUGIN) then
    pending("was not built here: make cuda builds it")
    return
  end

  it("exports one function and needs no library of the driver's", function()
    local names = output("nm -D --defined-only " .. PLUGIN .. " | awk '{ print $NF }'")
    assert.equal("lc_cuda_open\n", names)
    assert.is_nil(output("ldd " .. PLUGIN):find("libcuda", 1, true))
  end)

  it("is listed by --version", function()
    assert.truthy(output(program .. " --version"):find("cuda: liblucid_cuda.so, CUDA %d+"))
  end)

  it("says in one line that there is no GPU", function()
    if there("/dev/nvidiactl") then return pending("there is a GPU") end
    local text = without()
    assert.truthy(text:find("device 'cuda': cuda:0: there is no [^\n]*use %-%-device cpu\n1\n$"), text)
  end)
end)

describe("a plug-in that cannot be used", function()
  it("is named: a missing file, another library", function()
    assert.truthy(without("/nowhere/x.so"):find("cuda: this build has no CUDA backend (/nowhere/x.so", 1, true))
    assert.truthy(without(FOLDER .. "liblucid.so"):find("has no lc_cuda_open; run make", 1, true))
  end)
end)
