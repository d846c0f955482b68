-- What help says, and where it finds it.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local lucid = require "lucid"

local text = lucid.help.text

local function says(x, ...)
  local said = text(x)
  for _, part in ipairs { ... } do assert.truthy(said:find(part, 1, true), said) end
  return said
end

describe("help", function()
  it("shows a function's comment and how it is called", function()
    local said = says(lucid.image.resize, "lucid.image.resize(t, height, width, filter)\n  Another size",
      "\n    filter string|nil", "lua/lucid/image.lua:")
    assert.equal(said, text "image.resize")
    assert.equal(said, text "lucid.image.resize")
    says(lucid.seed, "lucid.seed(n)\n  Sets the seed")
    says(lucid.scope, "lucid.scope(f, ...)", "storage of every tensor")
    local function undocumented() end
    says(undocumented, "undocumented()")
  end)

  it("finds functions that other functions made", function()
    says(lucid.randn, "lucid.randn(", "Normal numbers")
    says(lucid.rand, "Uniform numbers")
  end)

  it("shows what lucid.h says of an op, bound already or not", function()
    says("matmul", "lucid.matmul(a, b)\n  [M, K] [K, N]", "lucid.h:", "lc_tensor *lc_matmul(lc_tensor *a, lc_tensor *b);")
    says(lucid.swiglu, "silu(gate) * up")
    local held = lucid.gelu
    held(lucid.ones { 1 })
    says(held, "lucid.gelu(x)")
    says(lucid.gelu, "lucid.gelu(x)")
    says("dpo_loss", "Rafailov", "beta")
    says("attention", "lc_tensor *lc_attention(", "Attention over a forest", "rows without keys")
  end)

  it("shows a tensor's methods", function()
    says("slice", "t:slice(dim, first, last)", "a view")
    says("tensor.slice", "t:slice(")
    says(lucid.zeros { 2, 3 }, "a tensor: f32 [2, 3] cpu", "t:backward(gradient)", "lucid.exp(x)")
  end)

  it("lists things by a whole sentence, though it goes on in another line", function()
    says(lucid, "but for those that f returns and those that were kept.\n")
  end)

  it("has words for a tensor's operators", function()
    says(lucid.zeros { 1 }, "t:add(x)  ", "The product element by element")
  end)

  it("shows a module with its functions, and a thing with its methods", function()
    says(lucid.image, "lucid.image\n  Pictures: u8 tensors", "lucid.image.load(path)", "Reads a picture file")
    says("image", "lucid.image.save(t, path, opt)")
    says(lucid.loss.sigmoid, "lucid.loss.sigmoid\n  DPO (Rafailov et al. 2023)")
    says(lucid.progress { total = 1, quiet = true }, "Progress:step(done, stats)")
  end)

  it("shows a recipe with its options", function()
    says("chat", "lucid chat\n", "A conversation in the terminal", "--temperature N", "help(lucid.chat)")
    local dir = folder.folder()
    file.write(dir .. "/other.lua", "-- Another one.\nlocal lucid = require 'lucid'\nlucid.args { { 'n', 3, 'how many' } }\nerror 'it was run'")
    says(dir .. "/other.lua", "Another one.", "--n N", "how many [3]")
    folder.remove(dir)
  end)

  it("says what else there is, and what nothing is written about", function()
    assert.truthy(text():find("help(x)", 1, true))
    local ok, reason = pcall(text, "matmull")
    assert.is_false(ok)
    assert.equal("help: nothing here is called 'matmull'; did you mean matmul?", reason)
    assert.equal("help: nothing is written about this number", select(2, pcall(text, 5)))
    assert.equal("help: nothing is written about this table", select(2, pcall(text, { 1 })))
    assert.equal("help: nothing is written about this nil", select(2, pcall(text, nil)))
  end)

  it("lists every op of lucid.h", function()
    for name in pairs(require("lucid.native").ops) do says(name, name .. "(") end
  end)
end)
