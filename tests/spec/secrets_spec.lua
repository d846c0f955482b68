-- A canary key is nowhere but in its file: not in the run's folder, the cache, the page, what a command says, how it
-- fails, or its command line, which everybody can read.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local judge = require "tests.support.judge"
local json = require "lucid.json"
local program = require "tests.support.program"
local served = require "tests.support.served"
local training = require "tests.support.training"

local KEY = "sk-canary-51f7d0b2c94e"
local dir, keys

setup(function()
  dir, keys = folder.folder(), folder.folder()
  file.write(keys .. "/key", KEY .. "\n")
  os.execute(("chmod 600 %s/key"):format(keys))
  training.world(dir)
end)
teardown(function()
  folder.remove(dir)
  folder.remove(keys)
end)

local function is_nowhere(place)
  local pipe = io.popen(("grep -r -l -a -e '%s' %s"):format(KEY, place))
  local found = pipe:read "*a"
  pipe:close()
  assert.equal("", found)
end

-- Runs a command; meanwhile the command lines and the limits of all its processes are noted in DIR/seen.
local function watched(environment, words)
  file.mkdir(dir .. "/said")
  local status = os.execute(([[%s %s %s >>%s/said/out 2>>%s/said/err & pid=$!
    while kill -0 $pid 2>/dev/null; do
      for p in $pid $(cat /proc/$pid/task/*/children 2>/dev/null); do
        { tr '\0' ' ' </proc/$p/cmdline; grep 'core file' /proc/$p/limits; } 2>/dev/null; done
      sleep 0.02
    done >>%s/said/seen; wait $pid]]):format(environment, program, words, dir, dir, dir))
  return status > 255 and status / 256 or status
end

describe("a judge's key", function()
  local server
  setup(function()
    if not judge.missing() then server = judge.start { faults = 20, seed = 3 } end
  end)
  teardown(function()
    if server then server:stop() end
  end)

  it("is in nothing that a run leaves, succeeds or fails", function()
    if not server then return pending(judge.missing()) end
    local texts = {}
    for i = 1, 6 do texts[i] = json.encode { question_id = 300000 + i, text = "A red car. There is a zebra." } end
    file.write(dir .. "/texts.jsonl", table.concat(texts, "\n"))
    local shr = ("shr --data %s/world/shr --images %s/world --responses %s/texts.jsonl --judge openai --cache %s/cache "
      .. "--judge-tries 9 --judge-timeout 2 --base-url "):format(dir, dir, dir, dir)
    assert.equal(0, watched("OPENAI_API_KEY=" .. KEY, ("%s%s --out %s/runs/environment"):format(shr, server.url, dir)),
      file.read(dir .. "/said/err"))
    assert.equal(0, watched("", ("%s%s --out %s/runs/file --api-key-file %s/key"):format(shr, server.url, dir, keys)))
    -- Nobody listens there, and lucid tells all it knows of where it failed.
    assert.equal(1, watched("LUCID_DEBUG=1 OPENAI_API_KEY=" .. KEY, ("%shttp://127.0.0.1:1 --judge-tries 1 --out %s/runs/failed"):format(
      shr, dir)))
    assert.equal(0, watched("OPENAI_API_KEY=" .. KEY, ("report %s/runs --out %s/page.html"):format(dir, dir)))
    local seen = file.read(dir .. "/said/seen")
    assert.truthy(seen:find("--api-key-file " .. keys, 1, true), "the command line was not looked at")
    assert.truthy(seen:find "Max core file size%s+0%s", "a dump of the process would hold the key")
    assert.truthy(file.exists(dir .. "/runs/file/judge.jsonl") and file.exists(dir .. "/page.html"))
    is_nowhere(dir)
  end)
end)

describe("a server's key", function()
  it("is in nothing that it says", function()
    if served.missing() then return pending(served.missing()) end
    local server = served.start(("--model %s/model --name tiny --api-key-file %s/key"):format(dir, keys))
    local said = {}
    for i, sent in ipairs { "Bearer " .. KEY, "Bearer " .. KEY .. "x", "Basic " .. KEY, KEY } do
      for _, path in ipairs { "/v1/models", "/metrics", "/nowhere", "/" .. KEY:sub(1, -2), "/v1/chat/completions" } do
        local request = path:find "completions" and served.completion { max_tokens = 2 } or { path = path }
        request.headers = { Authorization = sent }
        local status, body = server:ask(request)
        said[#said + 1] = json.encode { body = body }
        if i > 1 and path ~= "/" then assert.equal(401, status) end
      end
    end
    local pipe = io.popen(("tr '\\0' ' ' </proc/%s/cmdline"):format(server.pid))
    said[#said + 1] = pipe:read "*a"
    pipe:close()
    said[#said + 1] = file.read(server.dir .. "/err")
    server:stop()
    assert.is_nil(table.concat(said, "\n"):find(KEY, 1, true))
  end)
end)

describe("the options", function()
  it("take no key but by its file", function()
    local some = 0
    for _, recipe in ipairs(file.list "recipes") do
      local name = recipe:match "^(.*)%.lua$"
      local pipe = name and io.popen(("%s %s --help"):format(program, name))
      for option in (pipe and pipe:read "*a" or ""):gmatch "\n  %-%-([%w%-]+)" do
        if option:find "key" then
          assert.truthy(option:find "%-file$", option)
          some = some + 1
        end
        assert.is_nil(option:find "secret" or option:find "password" or option:find "credential" or option:find "token$", option)
      end
      if pipe then pipe:close() end
    end
    assert.is_true(some >= 2)
  end)

  it("refuse a key in its file's place, and do not repeat it", function()
    for _, words in ipairs { "serve --model x", ("shr --data %s/world/shr --judge openai --out %s/typed"):format(dir, dir) } do
      assert.equal(2, watched("", words .. " --api-key-file " .. KEY:reverse()))
    end
    local said = file.read(dir .. "/said/err")
    assert.truthy(said:find("--api-key-file: there is no such file; a key itself has no place on a command line", 1, true), said)
    assert.is_nil(said:find(KEY:reverse(), 1, true))
    assert.is_false(file.exists(dir .. "/typed"))
  end)
end)
