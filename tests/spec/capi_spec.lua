-- The C API without Lua: tests/capi, a C program that calls it from the first tensor to an answer over HTTP.
local file = require "lucid.file"
local support = require "tests.support.folder"
local tiny = require "tests.support.tiny"

local CAPI = ((os.getenv("LUCID_LIB") or "build/liblucid.so"):match "^(.*)/" or "build") .. "/capi"

describe("the C API", function()
  it("does what its header says when a C program walks through it", function()
    if not file.exists(CAPI) then return pending "make test-tools; it needs SentencePiece, curl and microhttpd" end
    local dir = support.folder()
    tiny.model(dir, 3)
    tiny.pictures(dir, 1)
    local p = io.popen(("%s %s 2>&1"):format(CAPI, dir))
    local text = p:read "*a"
    p:close()
    support.remove(dir)
    assert.equal("capi: done\n", text)
  end)
end)
