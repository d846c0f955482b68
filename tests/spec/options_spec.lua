-- Option tables: a mistyped name is an error at the caller's line that tells what was meant.
local lucid = require "lucid"
local native = require "lucid.native"
local options = require "lucid.options"

describe("a mistyped name", function()
  it("finds the nearest one", function()
    local names = { "temperature", "top-p", "threads" }
    assert.equal("temperature", options.nearest("tempratur", names))
    assert.equal("threads", options.nearest("thread", names))
    assert.is_nil(options.nearest("zzzzzz", names))
    assert.is_nil(options.nearest("anything", {}))
  end)
end)

describe("options of a function", function()
  local m
  setup(function() m = lucid.model(native.root .. "tests/golden/llava_tiny/classic") end)

  -- The line of the call is this file's; what f raises ends with the words.
  local function refused(words, f, ...)
    local ok, reason = pcall(f, ...)
    assert.is_false(ok, words)
    assert.equal(words, (reason:gsub("^%S*:%d+: ", "")))
  end

  it("may be left out, or be those that there are", function()
    local known = options "rank alpha"
    known:check("f", nil)
    known:check("f", {})
    known:check("f", { rank = 1, alpha = false })
    refused("f: options are a table, not a number", known.check, known, "f", 3)
    refused("f: there is no option 'zzzzzz'; known are rank, alpha", known.check, known, "f", { zzzzzz = 1 })
    refused("f: there is no option '1'; known are rank, alpha", known.check, known, "f", { "rank" })
  end)

  it("are refused where a name is wrong, at the caller's line", function()
    local ok, reason = pcall(function() local _ = m:generate { prompt = "What?", max_new_token = 3 } end)
    assert.is_false(ok)
    assert.matches("options_spec%.lua:%d+: generate: there is no option 'max_new_token'; did you mean 'max_new_tokens'%?$", reason)
    refused("generate: there is no option 'beam'; did you mean 'beams'?",
      function() return m:generate_all({ { prompt = "What?" } }, { beam = 3 }) end)
    refused("generate: there is no option 'temprature'; did you mean 'temperature'?",
      function() return lucid.chat(m, { temprature = 1 }) end)
    refused("model: there is no option 'adaptor'; did you mean 'adapter'?", function() return lucid.model(m.dir, { adaptor = "x" }) end)
    refused("lora: there is no option 'target'; did you mean 'targets'?", function() return m:lora { rank = 2, alpha = 4, target = "q_proj" } end)
    for _, make in ipairs { "zeros", "randn", "empty" } do
      refused(make .. ": there is no option 'dtypes'; did you mean 'dtype'?", function() return lucid[make]({ 2 }, { dtypes = "bf16" }) end)
    end
    refused("tensor: there is no option 'type'; did you mean 'dtype'?", function() return lucid.tensor({ 2 }, { type = "bf16" }) end)
    refused("encode: there is no option 'specials'; did you mean 'special'?", function() return m.tokenizer:encode("a", { specials = true }) end)
    refused("decode: there is no option 'specials'; did you mean 'special'?", function() return m.tokenizer:decode({ 5 }, { specials = true }) end)
  end)
end)
