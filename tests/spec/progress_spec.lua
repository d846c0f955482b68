-- The progress line: what it says, when it speaks, and that it can be silent.
local program = require "tests.support.program"
local progress = require "lucid.progress"
local terminals = require "tests.support.terminal"

-- What f writes to stderr.
local function said(f)
  local stderr, written = io.stderr, {}
  io.stderr = { write = function(_, ...) written[#written + 1] = table.concat { ... } end } -- luacheck: ignore
  local ok, reason = pcall(f)
  io.stderr = stderr -- luacheck: ignore
  assert(ok, reason)
  return table.concat(written), written
end

local function bar(opt)
  local p = progress(opt)
  p.terminal = opt.terminal or false           -- whatever the specs themselves run on
  return p
end

describe("progress", function()
  it("speaks every tenth of the way where there is no terminal", function()
    for _, total in ipairs { 10, 40, 1000 } do
      local text, written = said(function()
        local p = bar { total = total, label = "train" }
        for i = 1, total do p:step(i) end
        p:done()
      end)
      assert.equal(10, #written)
      for i = 1, 10 do
        assert.equal(("train %d/%d"):format(i * total / 10, total), written[i]:match("^(train %d+/%d+)  %d+:%d%d left\n$"))
      end
      assert.falsy(text:find("\r", 1, true))
    end
  end)

  it("speaks of every step of a short way, and of jumps once", function()
    local _, written = said(function()
      local p = bar { total = 3, label = "x" }
      for i = 1, 3 do p:step(i) end
    end)
    assert.equal(3, #written)
    _, written = said(function()
      local p = bar { total = 100, label = "x" }
      p:step(55)
      p:step(56)
      p:step(100)
    end)
    assert.equal(2, #written)
  end)

  it("tells speed and the numbers that people watch", function()
    local text = said(function()
      local p = bar { total = 2, label = "dpo", unit = "pairs" }
      p.started = p.started - 10                -- as if ten seconds had passed
      p:step(1, { count = 40, tokens = 900, loss = 0.693147, ["rewards/accuracies"] = 0.5, other = 3, grad_norm = "no" })
    end)
    assert.truthy(text:find("^dpo 1/2  0:10 left  [34][%d.]* pairs/s  [89][%d.]* tokens/s  loss 0.6931  accuracies 0.5\n$"), text)
  end)

  it("counts everything since the start", function()
    local text = said(function()
      local p = bar { total = 10, label = "", unit = "pairs" }
      p.started = p.started - 100
      for i = 1, 10 do p:step(i, { count = 20 }) end
    end)
    assert.truthy(text:match("10/10  0:00 left  (%S+) pairs/s\n$"):find("^[12]"), text)
  end)

  it("writes times of hours", function()
    local text = said(function()
      local p = bar { total = 4, label = "x" }
      p.started = p.started - 3725
      p:step(2)
    end)
    assert.truthy(text:find("  1:02:0[56] left"), text)
  end)

  it("counts time and tenths from where a run goes on", function()
    local text, written = said(function()
      local p = bar { total = 10, from = 6, label = "x" }
      p.started = p.started - 20
      p:step(8)
    end)
    assert.equal(1, #written)
    assert.truthy(text:find("^x 8/10  0:20 left\n$"), text)
  end)

  it("redraws one line on a terminal", function()
    local text, written = said(function()
      local p = bar { total = 4, label = "x", terminal = true }
      p:step(2)
      p:step(3)                                 -- too soon to be drawn
      p:step(4)
      p:done()
    end)
    assert.equal(3, #written)
    assert.truthy(written[1]:find("\rx [" .. ("="):rep(10) .. (" "):rep(10) .. "] 2/4", 1, true), written[1])
    assert.truthy(written[2]:find("[" .. ("="):rep(20) .. "] 4/4", 1, true))
    assert.equal(1, select(2, text:gsub("\n", "")))
    assert.equal("\n", text:sub(-1))
  end)

  it("is ended before the program says why it stops", function()
    local possible, why = terminals.possible()
    if not possible then return pending(why) end
    local t = terminals.start(("TERM=xterm %s -e 'lucid.progress({ total = 9, label = [[x]] }):step(3) error([[it broke]], 0)'"):format(program))
    assert.equal(1, t:status())
    assert.truthy(t.text:find("3/9  %d:%d%d left[^\n]*\r\nlucid: it broke\r\n$"), t.text)
    t:close()
  end)

  it("says nothing when it is quiet", function()
    assert.equal("", (said(function()
      for _, terminal in ipairs { true, false } do
        local p = bar { total = 2, quiet = true, terminal = terminal }
        p:step(1)
        p:step(2)
        p:done()
      end
    end)))
  end)
end)
