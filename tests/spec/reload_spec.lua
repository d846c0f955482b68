-- Files that change while they are in use.
local ffi = require "ffi"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local lucid = require "lucid"

local dir
local before = package.path

local function write(name, text) file.write(dir .. "/" .. name, text) end

describe("reload", function()
  before_each(function()
    dir = folder.folder()
    package.path = dir .. "/?.lua;" .. before
  end)
  after_each(function()
    package.path = before
    package.loaded.changing, package.loaded.holder = nil, nil
    folder.remove(dir)
  end)

  it("gives a module's holders the new one, and what it made the new methods", function()
    write("changing.lua", [[
      local M, Thing = {}, {}
      Thing.__index = Thing
      function Thing:size() return #self.list end
      function Thing:gone() end
      function M.new(list) return setmetatable({ list = list }, Thing) end
      function M.old() end
      return M]])
    local changing = require "changing"
    local thing = changing.new { lucid.ones { 2 }, lucid.ones { 2 } }
    write("changing.lua", [[
      local M, Thing = {}, {}
      Thing.__index = Thing
      function Thing:size() return 10 * #self.list + self:more() end
      function Thing:more() return 1 end
      function M.new(list) return setmetatable({ list = list }, Thing) end
      return setmetatable(M, { __call = function(_, list) return M.new(list) end })]])
    assert.equal(changing, lucid.reload "changing")
    assert.equal(changing, package.loaded.changing)
    assert.equal(21, thing:size())
    assert.is_nil(thing.gone)
    assert.is_nil(changing.old)
    assert.equal(2, thing.list[1]:sum():item())
    assert.equal(11, changing({ 1 }):size())
  end)

  it("puts a function in the place of the old one, wherever a module holds it", function()
    write("changing.lua", "return function() return 1 end")
    write("holder.lua", "return { act = require 'changing' }")
    local holder = require "holder"
    assert.equal(1, holder.act())
    write("changing.lua", "return function() return 2 end")
    lucid.reload "changing"
    assert.equal(2, holder.act())
  end)

  it("changes nothing where the new file is wrong", function()
    write("changing.lua", "return { value = 1 }")
    local changing = require "changing"
    for text, message in pairs { ["return {"] = "unexpected symbol", ["error 'no'"] = "no" } do
      write("changing.lua", text)
      local ok, reason = pcall(lucid.reload, "changing")
      assert.is_false(ok)
      assert.truthy(reason:find(message, 1, true), reason)
      assert.equal(1, changing.value)
    end
  end)

  it("reads a loss of one's own again", function()
    local path = dir .. "/mine.lua"
    write("mine.lua", "return function(policy) return policy.chosen:sum() end")
    local policy = { chosen = lucid.ones { 3 } }
    assert.equal(3, lucid.loss[path](policy, nil, {}):item())
    write("mine.lua", "return function(policy) return policy.chosen:sum() * 2 end")
    assert.equal(3, lucid.loss[path](policy, nil, {}):item())
    assert.equal(path, lucid.reload(path))
    assert.equal(6, lucid.loss[path](policy, nil, {}):item())
  end)

  it("keeps Lucid's own modules working", function()
    local sigmoid = lucid.loss.sigmoid
    assert.equal(sigmoid, lucid.reload "loss.sigmoid")
    assert.equal(lucid.statistics, lucid.reload "statistics")
    assert.equal(sigmoid, lucid.loss.sigmoid)
  end)

  it("finds what has changed by itself", function()
    write("changing.lua", "return { value = 1 }")
    local changing = require "changing"
    lucid.reload()
    write("changing.lua", "return { value = 2 }")
    -- files of one second may have one time
    ffi.cdef "int utimes(const char *path, const void *times);"
    ffi.C.utimes(dir .. "/changing.lua", ffi.new("long[4]", os.time() + 5, 0, os.time() + 5, 0))
    local names = lucid.reload()
    assert.same({ "changing" }, names)
    assert.equal(2, changing.value)
    assert.same({}, lucid.reload())
  end)

  it("refuses what cannot be loaded anew", function()
    for name, message in pairs { ["native"] = "start again", ["tensor"] = "start again", ["nothing"] = "no module 'nothing' is loaded" } do
      local ok, reason = pcall(lucid.reload, name)
      assert.is_false(ok)
      assert.truthy(reason:find(message, 1, true), reason)
    end
    assert.equal("recipes/describe.lua", lucid.reload "describe")
  end)
end)

describe("a recipe that is called from Lua", function()
  it("raises what a command would end with", function()
    local ok, reason = pcall(lucid.recipe, "describe", { model = "there is none", imge = "x" })
    assert.is_false(ok)
    assert.equal("unknown option --imge; did you mean --image?", reason)
  end)

  it("takes words that are no options, and may be given nothing", function()
    local ok, reason = pcall(lucid.recipe, "inspect", { "no-such-file", quiet = true })
    assert.is_false(ok)
    assert.truthy(reason:find("no-such-file", 1, true), reason)
    ok, reason = pcall(lucid.recipe, "inspect")
    assert.is_false(ok)
    assert.equal("inspect: name a file or a folder of weights", reason)
  end)
end)

describe("lucid.time", function()
  it("is a clock, or how long a call takes", function()
    assert.equal("number", type(lucid.time()))
    local calls, words = 0
    local t = lucid.time(function(...)
      calls, words = calls + 1, select("#", ...)
      local finish = lucid.time() + 0.01
      while lucid.time() < finish do lucid.zeros { 1000 } end
    end, "a", nil, "b", nil)
    assert.equal(4, words)
    assert.equal(calls, t.calls + 1)
    assert.truthy(t.calls >= 5 and t.median >= 0.01 and t.least <= t.median and t.spread >= 0)
    assert.truthy(tostring(t):find("ms a call (median of " .. t.calls, 1, true), tostring(t))
    assert.is_false((pcall(lucid.time, 5)))
  end)
end)
