-- Stages: what runs again, what is skipped, and that an interrupted one is not taken for done.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local stages = require "lucid.stages"

describe("a stage", function()
  local dir, input, output, runs

  before_each(function()
    dir = folder.folder()
    input, output, runs = dir .. "/in.txt", dir .. "/out.txt", 0
    file.write(input, "1")
  end)
  after_each(function() folder.remove(dir) end)

  -- Runs the stage under a new object, as another process would.
  local function run(settings, inputs, f)
    return stages.new(dir):run("copy", settings or { n = 1 }, inputs or { input }, { output }, f or function()
      runs = runs + 1
      file.write(output, file.read(input))
    end)
  end

  it("runs once and is skipped while nothing has changed", function()
    assert.is_true(run())
    assert.is_false(run())
    assert.is_false(run())
    assert.equal(1, runs)
  end)

  it("runs again when its settings, its inputs or its outputs change", function()
    run()
    assert.is_true(run { n = 2 })
    assert.is_false(run { n = 2 })
    file.write(input, "2")
    assert.is_true(run { n = 2 })
    assert.equal("2", file.read(output))
    file.remove(output)
    assert.is_true(run { n = 2 })
    file.write(dir .. "/more.txt", "x")
    assert.is_true(run({ n = 2 }, { input, dir .. "/more.txt" }))
    assert.equal(5, runs)
  end)

  it("does not depend on the order in which settings are written", function()
    run { a = 1, b = { 2, 3 }, c = "x" }
    local settings = {}
    settings.c, settings.b, settings.a = "x", { 2, 3 }, 1
    assert.is_false(run(settings))
    assert.is_true(run { a = 1, b = { 3, 2 }, c = "x" })
  end)

  it("runs again after it failed, also where the output is there", function()
    assert.has_error(function()
      run(nil, nil, function()
        file.write(output, "half")
        error("stopped", 0)
      end)
    end, "stopped")
    assert.is_true(run())
    assert.equal("1", file.read(output))
  end)

  it("must write what it promised", function()
    assert.has_error(function() run(nil, nil, function() end) end, ("stage copy did not write %s"):format(output))
    assert.is_true(run())
  end)

  it("needs its inputs", function()
    assert.has_error(function() run(nil, { dir .. "/none.txt" }) end)
    assert.equal(0, runs)
  end)

  it("tells its name and the time that it took, also when it is skipped", function()
    local told = {}
    local function note(name, seconds, skipped) told[#told + 1] = { name, seconds, skipped } end
    for _ = 1, 2 do
      local s = stages.new(dir, note)
      s:run("one", {}, {}, { output }, function() file.write(output, "x") end)
      assert.equal(told[1][2], s.seconds.one)
    end
    assert.equal("one", told[1][1])
    assert.is_false(told[1][3])
    assert.is_true(told[2][3])
    assert.is_true(told[1][2] >= 0 and math.abs(told[1][2] - told[2][2]) < 1e-9)
  end)

  it("is apart from another of the same folder", function()
    local s = stages.new(dir)
    local function write() file.write(output, "x") end
    assert.is_true(s:run("a", {}, {}, { output }, write))
    assert.is_true(s:run("b", {}, {}, { output }, write))
    assert.is_false(s:run("a", {}, {}, { output }, write))
  end)
end)
