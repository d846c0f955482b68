-- Options: what words give, what is refused with which line, what --help shows.
local args = require "lucid.args"

local SPEC = {
  about = "Does things.",
  common = "out dtype seed limit quiet",
  { "name", "world", "whom" },
  { "rate", 0.5, "a rate", { max = 1 } },
  { "shift", 0, "may be negative", { min = -3 } },
  { "loud", false, "shout" },
  { "check", true, "look twice" },
  { "top-p", 1, "a dash" },
  { "even", "2", "an even number", { check = function(text)
    if tonumber(text) % 2 ~= 0 then error("'" .. text .. "' is odd", 0) end
  end } },
}

-- Parses words; where the program would end: nil, its status, and what it wrote.
local function parse(words, spec)
  local exit, stderr, stdout = os.exit, io.stderr, io.stdout
  local written, code = {}, nil
  local sink = { write = function(_, ...) written[#written + 1] = table.concat { ... } end }
  os.exit = function(status) code = status error({}, 0) end -- luacheck: ignore
  io.stderr, io.stdout = sink, sink -- luacheck: ignore
  local ok, result = pcall(args.parse, spec or SPEC, words)
  os.exit, io.stderr, io.stdout = exit, stderr, stdout -- luacheck: ignore
  if not ok and not code then error(result, 0) end
  return ok and result or nil, code, table.concat(written)
end

local function refused(words, part, spec)
  local opt, code, text = parse(words, spec)
  assert.is_nil(opt, table.concat(words, " "))
  assert.equal(2, code)
  assert.truthy(text:find("^lucid: [^\n]*\n$"), text)
  assert.truthy(text:find(part, 1, true), text)
end

describe("options", function()
  it("have their defaults where nothing is given", function()
    local opt = parse {}
    assert.equal("world", opt.name)
    assert.equal(0.5, opt.rate)
    assert.is_false(opt.loud)
    assert.is_true(opt.check)
    assert.equal(42, opt.seed)
    assert.equal("auto", opt.dtype)
    assert.same({}, opt.given)
  end)

  it("take values after a space or an equals sign, of the default's type", function()
    local opt = parse { "--name", "you", "--rate=0.25", "--shift", "-2", "--loud", "--no-check", "--seed", "7" }
    assert.equal("you", opt.name)
    assert.equal(0.25, opt.rate)
    assert.equal(0, parse({ "--rate", "0" }).rate)           -- both ends of a range belong to it
    assert.equal(1, parse({ "--rate", "1" }).rate)
    assert.equal(-3, parse({ "--shift", "-3" }).shift)
    assert.equal(-2, opt.shift)
    assert.is_true(opt.loud)
    assert.is_false(opt.check)
    assert.equal(7, opt.seed)
    assert.same({ name = true, rate = true, shift = true, loud = true, check = true, seed = true }, opt.given)
  end)

  it("take what looks like an option, an empty text and an equals sign as values", function()
    assert.equal("--loud", parse { "--name", "--loud" }.name)
    assert.equal("", parse { "--name=" }.name)
    assert.equal("", parse { "--name", "" }.name)
    assert.equal("a=b", parse { "--name=a=b" }.name)
  end)

  it("let the last one win", function()
    local opt = parse { "--name", "a", "--name", "b", "--loud", "--no-loud" }
    assert.equal("b", opt.name)
    assert.is_false(opt.loud)
  end)

  it("are fields without dashes, too", function()
    local opt = parse { "--top-p", "0.3" }
    assert.equal(0.3, opt["top-p"])
    assert.equal(0.3, opt.top_p)
  end)

  it("refuse what they cannot be", function()
    refused({ "--nmae", "x" }, "did you mean --name?")
    refused({ "--xyzzyx" }, "--help lists them")
    refused({ "--name" }, "a value is missing")
    refused({ "word" }, "'word' is not an option")
    refused({ "-x" }, "'-x' is not an option")
    refused({ "--loud=1" }, "takes no value")
    refused({ "--no-name" }, "unknown option")
    refused({ "--rate", "much" }, "'much' is not a number")
    refused({ "--rate", "1.5" }, "out of range")
    refused({ "--rate", "-0.1" }, "out of range")
    refused({ "--rate", "nan" }, "--rate")
    refused({ "--rate", "inf" }, "--rate")
    refused({ "--shift", "-4" }, "-3 or more")
    refused({ "--seed", "1.5" }, "not a whole number")
    refused({ "--seed", "3000000000" }, "at most 2147483647")
    refused({ "--dtype", "f64" }, "none of auto, f32, bf16, f16")
    refused({ "--device", "gpu" }, "--device: 'gpu' is none of auto", { common = "device" })
    refused({ "--device", "cuda:x" }, "--device", { common = "device" })
    refused({ "--even", "3" }, "--even: '3' is odd")
    refused({ "--rate", "a\nb\27" }, "'a?b?' is not a number")
  end)

  it("that are required must be there", function()
    local spec = { common = "model", required = { "model" } }
    refused({}, "--model is required", spec)
    refused({ "--model", "" }, "--model is required", spec)
    assert.equal("m", parse({ "--model", "m" }, spec).model)
  end)

  it("leave other words alone where a recipe takes them", function()
    local opt = parse({ "a", "--loud", "b" }, { positional = "folders", { "loud", false, "" } })
    assert.same({ "a", "b" }, { opt[1], opt[2] })
    assert.is_true(opt.loud)
    for _, word in ipairs { "-x", "--" } do
      refused({ "a", word }, ("'%s' is not an option"):format(word), { positional = "folders" })
    end
  end)

  it("of a recipe replace the common defaults and keep their place", function()
    local spec = { common = "batch seed", { "batch", 3, "another" }, { "seed", 9 } }
    local opt = parse({}, spec)
    assert.equal(3, opt.batch)
    assert.equal(9, opt.seed)
    refused({ "--batch", "0" }, "1 or more", spec)           -- the common rule still holds
    assert.truthy(args.help(spec, "x"):find("--seed N +random seed %[9%]"))
    assert.has_error(function() args.parse({ common = "nonsense" }, {}) end)
  end)

  it("that are as published are nil until they are given", function()
    local spec = { common = "beams temperature", published = "beams", { "temperature", 2 } }
    local opt = parse({}, spec)
    assert.is_nil(opt.beams)
    assert.equal(2, opt.temperature)
    assert.equal(3, parse({ "--beams", "3" }, spec).beams)
    assert.truthy(args.help(spec, "x"):find("--beams N .-%[as published%]"))
  end)

  it("are shown by --help, which ends with status 0", function()
    local opt, code, text = parse { "--name", "x", "--help" }
    assert.is_nil(opt)
    assert.equal(0, code)
    for _, part in ipairs { "Does things.", "usage: lucid ", "--name TEXT", "whom [world]", "--rate N", "a rate [0.5]",
      "look twice [on]", "--out TEXT" } do
      assert.truthy(text:find(part, 1, true), part)
    end
    assert.truthy(text:find("--loud ", 1, true))
    assert.falsy(text:find("--loud N", 1, true))
    assert.truthy(args.help({ positional = "folders" }, "x"):find("usage: lucid x [options] [folders ...]\n", 1, true))
    local _, short = parse { "-h" }
    assert.equal(0, short)
  end)

  it("are shown in lines that fit a terminal, with the same words", function()
    local spec = { common = "model device dtype temperature quant", { "a-name-of-some-length", "x", "what it is for" } }
    local whole, narrow = args.help(spec, "x"), args.help(spec, "x", 60)
    assert.equal((whole:gsub("%s+", " ")), (narrow:gsub("%s+", " ")))
    for line in narrow:gmatch "[^\n]+" do assert.is_true(#line <= 60, line) end
    assert.truthy(narrow:find("\n  %-%-dtype TEXT%s+f32, bf16 or f16; auto: bf16\n" .. (" "):rep(31) .. "for 16%-bit"), narrow)
    assert.equal(whole, args.help(spec, "x", 30))
  end)
end)
