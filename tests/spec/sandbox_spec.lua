-- Pictures that a process of its own decodes: the same pixels and the same refusals, and what breaks it is one refused
-- picture. What that process may not do is tried by support/confined.c.
local ffi = require "ffi"
local args = require "lucid.args"
local decoders = require "tests.support.decoders"
local file = require "lucid.file"
local image = require "lucid.image"
local json = require "lucid.json"
local lucid = require "lucid"
local native = require "lucid.native"
local program = require "tests.support.program"
local support = require "tests.support.folder"
local tiny = require "tests.support.tiny"

local C = native.C
local BUILD = (os.getenv("LUCID_LIB") or "build/liblucid.so"):match "^(.*)/" or "build"
local GOLDEN, SHARED = "tests/golden/image/", "../shared/data/images/"

local SELF = io.open("/proc/self/stat"):read "*n"

local function one_decoder()
  local list = decoders.of(SELF)
  assert.equal(1, #list)
  return list[1]
end

local function bytes_of(t)
  local n = t:count()
  local data = ffi.new("uint8_t[?]", n)
  native.check(C.lc_tensor_read(t, data, n))
  return table.concat(t:shape(), "x") .. ":" .. ffi.string(data, n)
end

-- What reading a file gives: its pixels, or why it is refused.
local function outcome(read, path)
  local ok, got = pcall(read, path)
  return ok and bytes_of(got) or (tostring(got):gsub("^.-%.lua:%d+: ", ""))
end

describe("a decoder apart", function()
  local folder, paths
  setup(function()
    folder = support.folder()
    paths = tiny.pictures(folder, 3)
    image.save(image.load(paths[1]), folder .. "/one.jpg")
    image.save(image.load(paths[2]), folder .. "/two.bmp")
    image.guard { sandbox = true }
  end)
  teardown(function()
    image.guard { sandbox = false }
    support.remove(folder)
    assert.same({}, decoders.of(SELF))
  end)

  local function refused(path, part)
    local ok, reason = pcall(image.load, path)
    assert.is_false(ok)
    reason = reason:gsub("^.-%.lua:%d+: ", "")
    assert.equal(path .. ": ", reason:sub(1, #path + 2))
    assert.truthy(reason:find(part, 1, true), reason)
    assert.is_nil(reason:find "\n")
  end

  -- Both ways, whatever the pictures are; returns how many were taken and how many refused.
  local function same(list)
    local seen, taken, turned_down = {}, 0, 0
    image.guard { sandbox = false }
    for i, path in ipairs(list) do lucid.scope(function() seen[i] = outcome(image.load, path) end) end
    image.guard { sandbox = true }
    for i, path in ipairs(list) do
      lucid.scope(function()
        local apart = outcome(image.load, path)
        if apart ~= seen[i] then
          error(("%s: %s apart, %s here"):format(path, apart:sub(1, 100), seen[i]:sub(1, 100)), 0)
        end
      end)
      if seen[i]:find "^%d+x%d+x3:" then taken = taken + 1 else turned_down = turned_down + 1 end
    end
    return taken, turned_down
  end

  it("gives the same pixels and the same refusals, by one process", function()
    local list = { paths[1], paths[2], folder .. "/one.jpg", folder .. "/two.bmp", folder .. "/nowhere.png", folder }
    for _, name in ipairs(file.list(GOLDEN .. "files")) do list[#list + 1] = GOLDEN .. "files/" .. name end
    local taken, turned_down = same(list)
    assert.is_true(taken > 20 and turned_down > 5, ("%d and %d"):format(taken, turned_down))
    local pid = one_decoder()
    image.load(paths[3])
    assert.equal(pid, one_decoder())
  end)

  it("gives them of every picture there is to test with, hostile ones, too", function()
    if not file.exists(SHARED .. "pngsuite") then return pending("no ../shared/data/images") end
    local list = {}
    for name in pairs(json.read(GOLDEN .. "corpus/corpus.json")) do list[#list + 1] = SHARED .. name end
    for _, name in ipairs(file.list(SHARED .. "jpeg_afl_seeds")) do list[#list + 1] = SHARED .. "jpeg_afl_seeds/" .. name end
    for _, name in ipairs(file.list(SHARED .. "png_fuzz_corpus")) do list[#list + 1] = SHARED .. "png_fuzz_corpus/" .. name end
    local taken, turned_down = same(list)
    assert.is_true(taken > 230 and turned_down > 20, ("%d and %d"):format(taken, turned_down))
  end)

  it("decodes what a reader reads ahead, in a process of the reader's", function()
    local reader = image.reader()
    image.load(paths[1])
    reader:ask(paths)
    local seen = {}
    for i = #paths, 1, -1 do seen[i] = bytes_of(reader:take(paths[i])) end
    assert.is_true(#decoders.of(SELF) <= 2)
    image.guard { sandbox = false }
    for i, path in ipairs(paths) do assert.equal(seen[i], bytes_of(image.load(path))) end
    reader = nil                                             -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    assert.same({}, decoders.of(SELF))
    image.guard { sandbox = true }
  end)

  it("is another one where it has ended between two pictures", function()
    image.load(paths[1])
    local pid = one_decoder()
    os.execute(("kill -9 %d; while grep -q '^State:.[^Z]' /proc/%d/status; do sleep 0.01; done"):format(pid, pid))
    assert.same({ "u8", 3 }, { image.load(paths[2]):dtype(), image.load(paths[2]):size(3) })
    assert.not_equal(pid, one_decoder())
  end)

  -- A stopped process has taken the picture and does nothing: then it breaks.
  it("loses the one picture that it breaks on", function()
    local words = { SEGV = "signal 11", ABRT = "signal 6", KILL = "signal 9", SYS = "what no decoder needs" }
    if BUILD:find "[at]san" then words.SEGV = nil end        -- the sanitizers have a handler for it
    for signal, word in pairs(words) do
      image.load(paths[1])
      decoders.break_on_next(one_decoder(), signal)
      refused(paths[2], word)
      image.load(paths[2])
    end
  end)

  it("has a time for a picture", function()
    image.guard { sandbox = true, picture_seconds = 1 }
    image.load(paths[1])
    os.execute(("kill -STOP %d"):format(one_decoder()))
    local before = lucid.time()
    refused(paths[2], "longer than 1 s; --picture-seconds")
    assert.is_true(lucid.time() - before < 5)
    image.load(paths[2])
    image.guard { sandbox = true, picture_seconds = 10 }
  end)

  it("keeps to the limits of pictures, also to those that change", function()
    local big = folder .. "/big.png"
    image.save(image.resize(image.load(paths[1]), 2000, 2100), big)
    image.guard { sandbox = true, max_pixels = 1, max_side = 4000 }
    refused(big, "2100 x 2000 pixels; the limits are 4000 a side and 1000000 in all")
    image.guard { max_pixels = 5, max_side = 2050 }
    refused(big, "2050 a side")
    image.guard { max_side = 8192, max_picture = 0.001 }
    refused(big, "the limit for a picture file is 1048")
    image.guard { max_picture = 32, max_pixels = 40 }
    assert.same({ 2000, 2100, 3 }, image.load(big):shape())
  end)

  it("lets its memory go after a large picture", function()
    local big = folder .. "/large.bmp"
    image.save(image.resize(image.load(paths[1]), 3000, 3000), big)
    image.load(big)
    assert.same({}, decoders.of(SELF))
    image.load(paths[1])
  end)

  it("does not see what this process's environment holds", function()
    image.load(paths[1])
    assert.equal("", file.read(("/proc/%d/environ"):format(one_decoder())):gsub("LD_LIBRARY_PATH=[^%z]*%z", ""))
  end)

  it("is a program that tells who starts it alone what it is for", function()
    local p = io.popen(BUILD .. "/lucid-decode 2>&1 < /dev/null; echo $?")
    assert.equal("lucid-decode: lucid starts this program, to decode pictures in\n2\n", p:read "*a")
    p:close()
  end)
end)

describe("the filter of system calls", function()
  local function try(what)
    return math.floor(os.execute(("exec 2>/dev/null; %s/confined '%s' <>/dev/null; exit $?"):format(BUILD, what)) / 256)
  end
  local SIGSYS = 128 + 31

  it("lets a decoder have memory, its socket and nothing else", function()
    if not file.exists(BUILD .. "/confined") then return pending "make test-tools" end
    if try "nothing" == 3 then return pending "this kernel filters no system calls" end
    for _, what in ipairs { "nothing", "read", "write", "memory" } do assert.equal(0, try(what), what) end
    for _, what in ipairs { "open", "read another", "write another", "socket", "fork", "execute", "kill", "sleep", "map code",
      "map a file", "make code" } do assert.equal(SIGSYS, try(what), what) end
    if ffi.arch == "x64" then assert.equal(SIGSYS, try "old calls") end
  end)

  it("stands beside a limit of memory", function()
    if BUILD:find "[at]san" then return pending "the sanitizer's shadow takes more than any limit" end
    if try "nothing" == 3 then return pending "this kernel filters no system calls" end
    assert.equal(1, try "much memory")
  end)
end)

describe("--sandbox", function()
  it("is an option of the recipes that read pictures, with the limits", function()
    for _, name in ipairs { "describe", "chat", "pope", "llava", "sft", "mine", "serve", "report" } do
      local p = io.popen(("%s %s --help"):format(program, name))
      local text = p:read "*a"
      p:close()
      for _, o in ipairs(image.OPTIONS) do
        assert.equal(name ~= "serve" or o[1] ~= "sandbox", text:find("--" .. o[1], 1, true) ~= nil, name .. " --" .. o[1])
      end
    end
    assert.equal(7, args.parse({ groups = { image.OPTIONS } }, { "--picture-seconds", "7" }).picture_seconds)
  end)

  it("does not wait for a decoder that has let go of its socket and lives on", function()
    local dir = support.folder()
    os.execute(("cp %s/liblucid.so %s/"):format(BUILD, dir))
    file.write(dir .. "/lucid-decode", [[#!/bin/sh
      /usr/bin/head -c 512 /dev/zero >&0
      /usr/bin/head -c 1 >/dev/null
      exec /bin/sleep 20 <&- >&-
    ]])
    local before = lucid.time()
    local p = io.popen(([[chmod 755 %s/lucid-decode; LUCID_LIB=%s/liblucid.so %s -e 'lucid.image.guard { sandbox = true }
      print(pcall(lucid.image.load, "tests/golden/image/files/alpha.png"))' 2>&1]]):format(dir, dir, program))
    assert.matches("the decoder broke on this picture", (p:read "*a"))
    p:close()
    assert.is_true(lucid.time() - before < 15)
    support.remove(dir)
  end)

  it("says what is missing where the decoder is", function()
    local dir = support.folder()
    os.execute(("cp %s/liblucid.so %s/"):format(BUILD, dir))
    local p = io.popen(("LUCID_LIB=%s/liblucid.so %s -e 'lucid.image.guard { sandbox = true }' 2>&1"):format(dir, program))
    assert.equal(("lucid: -e:1: sandbox: %s/lucid-decode: No such file or directory; run make\n"):format(dir), (p:read "*a"))
    p:close()
    support.remove(dir)
  end)
end)
