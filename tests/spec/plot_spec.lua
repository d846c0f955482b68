-- Curves: what an axis holds, what the terminal shows, what a file has.
local axis = require "lucid.axis"
local canvas = require "lucid.plot.canvas"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local lucid = require "lucid"

local BIN = require "tests.support.program"

-- What a chunk prints into a pipe, under an environment.
local function printed(chunk, before)
  local dir = folder.folder()
  file.write(dir .. "/chunk.lua", 'local lucid = require "lucid"\n' .. chunk)
  local pipe = io.popen(("%s %s %s/chunk.lua 2>&1"):format(before or "LC_ALL=C.UTF-8", BIN, dir))
  local text = pipe:read("*a")
  pipe:close()
  folder.remove(dir)
  return text
end

local function lines_of(text)
  local lines = {}
  for line in text:gmatch("([^\n]*)\n") do lines[#lines + 1] = line end
  return lines
end

describe("an axis", function()
  local function on(values, opt) return axis.new({ { x = values } }, "x", opt) end

  it("has round numbers between the least and the greatest value", function()
    assert.same({ 0, 2, 4, 6, 8, 10, 12 }, on({ 0, 3, 12 }):ticks())
    assert.equal(7, #on({ 0, 1 }, { from = -0.2 }):ticks())
    assert.equal(0.25, on({ 0, 4, 0 / 0, 1 / 0 }):part(1))
    assert.is_nil(on({ 0, 1 }):part(0 / 0))
    assert.equal(0.5, on({ 3, 3 }):part(3))
    assert.equal(0.5, on({}):part(0.5))
  end)

  it("counts powers where it is logarithmic, and has no place for what is not above 0", function()
    local log = on({ 1e-4, 1, 0, -3 }, { log = true })
    assert.same({ 1e-4, 1e-3, 1e-2, 1e-1, 1 }, log:ticks())
    assert.is_true(math.abs(log:part(1e-2) - 0.5) < 1e-12)
    assert.is_nil(log:part(0))
    assert.same({ 1, 2, 5, 10, 20 }, on({ 1, 20 }, { log = true }):ticks())
    assert.equal(5, #on({ 10, 10.4 }, { log = true }):ticks())
    assert.equal(7, #on({ 1e-12, 1 }, { log = true }):ticks())
  end)
end)

describe("what is written along an axis", function()
  local function texts(values)
    local list = {}
    for i, label in ipairs(axis.new({ { x = values } }, "x"):labels()) do list[i] = label.text end
    return list
  end

  it("tells values apart that differ in their last digits", function()
    assert.same({ "0", "0.5", "1", "1.5" }, texts { 0, 1.7 })
    assert.same({ "2.7726", "2.7727", "2.7728", "2.7729" }, texts { 2.77255, 2.77292 })
    assert.same({ "1000000", "1000001", "1000002", "1000003" }, texts { 1e6, 1e6 + 3 })
  end)

  it("ends where values are as near as doubles come, and as far", function()
    local close = axis.new({ { x = { math.log(16), math.log(16) + 4e-16 } } }, "x")
    assert.is_true(close.high - close.low >= 1)
    assert.is_true(#texts { 1e300, 1e300 } >= 2)
    assert.is_true(#texts { -1e308, 0, 1e308 } >= 2)
  end)
end)

describe("a canvas", function()
  it("puts eight dots into a character", function()
    local c = canvas.new(2, 1, { braille = true })
    c:dot(0, 0, 1)
    assert.equal("\226\160\129", c:row(0))             -- U+2801
    c:dot(1, 3, 1)
    c:line(2, 0, 2, 3, 1)
    assert.equal("\226\162\129\226\161\135", c:row(0)) -- U+2881 U+2847
  end)

  it("has marks, or colours, for who is who", function()
    local c = canvas.new(3, 1, {})
    c:line(0, 0, 2, 0, 1)
    c:dot(1, 0, 2)
    assert.equal("*+*", c:row(0))
    assert.equal("++", c:sample(2))
    c = canvas.new(1, 1, { braille = true, colours = true })
    c:dot(0, 0, 2)
    assert.equal("\27[33m\226\160\129\27[0m", c:row(0))
  end)
end)

describe("a plot", function()
  it("has labelled axes and the curve", function()
    local lines = lines_of(printed "lucid.plot({ 0, 1, 2, 3, 4 }, { title = 'rise', height = 5, width = 24 })")
    assert.equal("   rise", lines[1])
    assert.truthy(lines[2]:find("^4 ┤.*[^ ]$"), lines[2])
    assert.truthy(lines[6]:find("^0 ┤[^ ]"), lines[6])
    assert.equal("  └┬────┬────┬───┬────┬", lines[7])
    assert.equal("   1    2    3   4    5", lines[8])
    assert.equal(8, #lines)
    assert.falsy(table.concat(lines):find("\27", 1, true))   -- no colour into a pipe
  end)

  it("is of signs that every terminal knows where it has to be", function()
    for _, before in ipairs { "LC_ALL=C", "LC_ALL=C.UTF-8 TERM=dumb" } do
      local text = printed("lucid.plot({ down = { 2, 1 }, up = { 1, 2 } }, { height = 5, width = 20 })", before)
      assert.falsy(text:find("[\128-\255]"), text)
      assert.truthy(text:find("** down   ++ up", 1, true), text)
      assert.truthy(lines_of(text)[1]:find("^  2 %+%*.*%+$"), text)
    end
  end)

  it("tells series apart by marks where there are no colours", function()
    local text = printed "lucid.plot({ { name = 'a', y = { 1, 10, 100 } }, { name = 'b', x = { 1, 3 }, y = { 100, 1 } } }, { log = 'y' })"
    assert.truthy(text:find("** a   ++ b", 1, true), text)
    assert.truthy(text:find("100 ┤+", 1, true), text)
  end)

  it("takes tensors, and a run's log", function()
    local from_list = printed "lucid.plot { 1, 4, 9 }"
    assert.equal(from_list, printed "lucid.plot(lucid.tensor { 1, 4, 9 })")
    local dir = folder.folder()
    file.write(dir .. "/log.jsonl", '{"step":1,"loss":1}\n{"step":2,"loss":4,"lr":1}\n{"step":3,"loss":9}\n')
    assert.equal(from_list, printed(("lucid.plot(%q)"):format(dir)))
    local ok, reason = pcall(lucid.plot, dir, { what = "loss reward" })
    assert.is_false(ok)
    assert.truthy(reason:find("has a number 'reward'", 1, true), reason)
    folder.remove(dir)
  end)

  it("is written as SVG that stands alone", function()
    local dir = folder.folder()
    local path = dir .. "/curves.svg"
    lucid.plot({ ["a <b>"] = { 1, 10, 0, 100 }, c = { 3, 2, 1 } }, { path = path, title = "this & that", log = "y" })
    local text = file.read(path)
    assert.truthy(text:find('^<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d+ %d+" role="img" aria%-label="this &amp; that">'))
    for _, part in ipairs { ">this &amp; that<", "a &lt;b&gt;", ">10</text>", "--c1:", "var(--c2)", "stroke-dasharray" } do
      assert.truthy(text:find(part, 1, true), part)
    end
    assert.equal(2, select(2, text:gsub("<polyline", "")))
    assert.equal(3, select(2, text:match('points="([^"]*)"'):gsub(",", "")))          -- 0 has no logarithm
    local opened, closed = select(2, text:gsub("<%a", "")), select(2, text:gsub("</", "")) + select(2, text:gsub("/>", ""))
    assert.equal(opened, closed)
    lucid.plot({ 1, 2 }, path)
    assert.equal(1, select(2, file.read(path):gsub("<polyline", "")))
    folder.remove(dir)
  end)

  it("refuses what is no curve", function()
    for message, arguments in pairs {
      ["series 1 is a string"] = { { "a" } },
      ["a number; a list"] = { 5 },
      ["values has a string at 2"] = { { 1, "b" } },
      ["a has 2 x and 1 y"] = { { a = { x = { 1, 2 }, y = { 1 } } } },
      ["values has 2 dims"] = { lucid.zeros { 2, 2 } },
      ["there is no series"] = { {} },
      ["did you mean 'log'?"] = { { 1, 2 }, { lgo = "x" } },
      ["log = 'z'"] = { { 1, 2 }, { log = "z" } },
      ["width is x; a whole number"] = { { 1, 2 }, { width = "x" } },
      ["height is 0; a whole number"] = { { 1, 2 }, { height = 0 } },
      ["a.png; curves are written as .svg"] = { { 1, 2 }, "a.png" },
    } do
      local ok, reason = pcall(lucid.plot, unpack(arguments))
      assert.is_false(ok)
      assert.truthy(reason:find(message, 1, true), reason)
    end
  end)
end)
