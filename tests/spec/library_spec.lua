-- What the library says about itself, and its threads.
local ffi = require("ffi")
local C = require("lucid.native").C

describe("the library", function()
  it("lists its features, one a line, in a fixed order", function()
    local names = {}
    for line in ffi.string(C.lc_features()):gmatch("([^\n]*)\n") do
      local name, what = line:match("^(%w+): (%S.*)$")
      assert.truthy(name and what, line)
      names[#names + 1] = name
    end
    assert.same({ "gemm", "jpeg", "png", "stb", "json", "hashes", "utf8proc", "sentencepiece",
      "editline", "mpi", "http", "server", "cuda" }, names)
  end)

  it("takes a number of threads, and 0 for every core", function()
    local before = C.lc_threads_used()
    C.lc_threads(3)
    assert.equal(3, C.lc_threads_used())
    C.lc_threads(0)
    local every = C.lc_threads_used()
    assert.is_true(every >= 1)
    C.lc_threads(-5)
    assert.equal(every, C.lc_threads_used())
    C.lc_threads(before)
  end)

  it("has a clock that only goes forward", function()
    local last = C.lc_seconds()
    for _ = 1, 1000 do
      local now = C.lc_seconds()
      assert.is_true(now >= last)
      last = now
    end
  end)
end)
