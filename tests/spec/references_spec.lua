-- The reference kept between runs: the same bits as a live one, found by content, checked before it is believed.
local lucid = require "lucid"
local bit = require "bit"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local filehash = require "lucid.filehash"
local references = require "lucid.references"
local support = require "tests.support.folder"
local tiny = require "tests.support.tiny"

describe("references", function()
  local folder, dir, pictures, list, base
  setup(function()
    folder = support.folder()
    dir = folder .. "/model"
    tiny.model(dir, 3)
    base = lucid.model(dir):lora { rank = 2, alpha = 4 }:base()
    pictures = tiny.pictures(folder, 3)
    list = {}
    local r = lucid.rng(1, "references")
    local function ids(n)
      local out = {}
      for i = 1, n do out[i] = 100 + r:integer(200) end
      out[#out + 1] = 2
      return out
    end
    for i = 1, 6 do
      list[i] = { id = "pair " .. i, kind = "desc", image = pictures[1 + i % 3],
        prompt = { 1, 300, lucid.IMAGE, 301 + i % 2 }, chosen = ids(i), rejected = ids(7 - i) }
    end
  end)
  teardown(function() support.remove(folder) end)

  -- The base with its own count of the answers that it was asked for.
  local function counted()
    local model = lucid.model(dir):base()
    local token_logps = model.token_logps
    model.asked = 0
    function model:token_logps(f, ...)
      self.asked = self.asked + f.pairs
      return token_logps(self, f, ...)
    end
    return model
  end

  local function values(reference, of)
    return lucid.no_grad(function()
      local p = reference:pairs(lucid.forest.pairs(of or list))
      return { p.chosen:tolist(), p.rejected:tolist(), p.tokens:tolist(), p.first, p.chosen_count:tolist(),
        p.rejected_count:tolist() }
    end)
  end

  local function fill(at)
    local kept = references.open(base, at)
    values(kept)
    kept:save()
    return kept
  end

  it("are a live reference's, bit for bit, and the base does not run", function()
    local at, want, model = folder .. "/kept", values(base), counted()
    local first = references.open(model, at)
    assert.same({ 0, 12 }, { first:count(list) })
    assert.same(want, values(first))
    assert.same(want, values(first))
    assert.equal(6, model.asked)
    first:save()
    local late = counted()
    local second = references.open(late, at)
    assert.same({ 12, 12 }, { second:count(list) })
    assert.same(want, values(second))
    assert.equal(0, late.asked)
    second:check(list, 42)
    assert.equal(4, late.asked)
  end)

  it("compute what is missing and keep the rest", function()
    local at = folder .. "/part"
    local half = references.open(base, at)
    values(half, { list[1], list[2], list[3] })
    half:save()
    local model = counted()
    local whole = references.open(model, at)
    assert.same(values(base), values(whole))
    assert.equal(3, model.asked)
    whole:save()
    assert.same({ 12, 12 }, { references.open(model, at):count(list) })
  end)

  it("share an answer among pairs", function()
    local both = { list[1], { id = "other", image = list[1].image, prompt = list[1].prompt, chosen = list[1].chosen,
      rejected = list[2].rejected } }
    local kept = references.open(base, folder .. "/shared")
    values(kept, both)
    assert.same({ 3, 3 }, { kept:count(both) })
  end)

  it("know a picture by its content, prompt and ids by themselves", function()
    local kept = fill(folder .. "/content")
    local function count(change)
      local pair = {}
      for key, value in pairs(list[1]) do pair[key] = value end
      for key, value in pairs(change) do pair[key] = value end
      return (kept:count { pair })
    end
    file.write(folder .. "/copy.png", file.read(list[1].image))
    assert.equal(2, count { image = folder .. "/copy.png" })
    assert.equal(0, count { image = pictures[3] })
    assert.equal(0, count { prompt = { 1, 300, lucid.IMAGE, 310 } })
    assert.equal(1, count { chosen = { 100, 2 } })
    assert.equal(0, count { image = { picture = list[1].image, text = { 101, 102 } } })
    assert.equal(0, count { image = lucid.zeros { 16, 128 } })           -- nothing says what a tensor is
  end)

  it("do not keep what no key stands for, and give it all the same", function()
    local pair = { id = "tensor", image = lucid.randn { 16, 128 }, prompt = list[1].prompt, chosen = list[1].chosen,
      rejected = list[1].rejected }
    local kept = references.open(base, folder .. "/unkeyed")
    assert.same(values(base, { pair }), values(kept, { pair }))
    kept:save()
    assert.is_false(file.exists(kept.path))
  end)

  it("have a file for each base, dtype and tower", function()
    local function path(model) return references.open(model:base(), folder .. "/files").path end
    local own = path(lucid.model(dir))
    assert.equal(own, path(lucid.model(dir):lora { rank = 4, alpha = 4 }))
    assert.not_equal(own, path(lucid.model(dir, { dtype = "bf16" })))
    tiny.model(folder .. "/other", 4)
    assert.not_equal(own, path(lucid.model(folder .. "/other")))
    local other = lucid.model(dir)
    other.processing = { resample = 0 }
    assert.not_equal(own, path(other))
    local new = lucid.model(dir, { init = true, seed = 9 })
    assert.not_equal(path(new), path(lucid.model(dir, { init = true, seed = 10 })))
  end)

  -- Writes rows as if they had been computed: through the cache's own hand, which signs them.
  local function save_whole(path, rows)
    os.remove(path)
    local writer = references.open(base, (path:match("^(.*)/reference/")))
    writer.fresh, writer.new = {}, 1
    for name, row in pairs(rows) do writer.fresh[name] = row:tolist() end
    writer:save()
  end

  it("are refused when a value is not what the model gives", function()
    local kept = fill(folder .. "/wrong")
    local c, rows = checkpoint(kept.path), {}
    for _, name in ipairs(c:names()) do
      local row = c:tensor(name):tolist()
      row[#row] = row[#row] + 1e-4
      rows[name] = lucid.tensor(row)
    end
    save_whole(kept.path, rows)
    local again = references.open(base, folder .. "/wrong")
    local ok, reason = pcall(again.check, again, list, 1)
    assert.is_false(ok)
    assert.is_truthy(reason:find("^" .. kept.path:gsub("%p", "%%%0") .. ": the reference of pair pair %d is 0%.0001"))
    assert.is_truthy(reason:find("--reference-cache off", 1, true))
    assert.is_nil(reason:find("\n"))
    for name, row in pairs(rows) do rows[name] = row:slice(1, 1, 1) end
    save_whole(kept.path, rows)
    again = references.open(base, folder .. "/wrong")
    assert.is_false(pcall(again.check, again, list, 1))
  end)

  it("are dropped, not believed, when a byte of their file has changed anywhere", function()
    local at = folder .. "/damaged"
    local path = fill(at).path
    local text, stderr = file.read(path), io.stderr
    local said = {}
    io.stderr = { write = function(_, line) said[#said + 1] = line end } -- luacheck: ignore
    finally(function() io.stderr = stderr end) -- luacheck: ignore
    for place = #text, 1, -math.ceil(#text / 40) do
      local byte = string.char(bit.bxor(text:byte(place), 0x10))
      file.write(path, text:sub(1, place - 1) .. byte .. text:sub(place + 1))
      said = {}
      local kept = references.open(base, at)
      -- the settings are there for people: no row depends on them
      if said[1] then
        assert.same({ 0, 12 }, { kept:count(list) })
        assert.is_truthy(said[1]:find("is damaged and is dropped", 1, true))
        assert.is_false(file.exists(path))
      else
        assert.same(values(base), values(kept))
      end
    end
    file.write(path, text:sub(1, -2) .. string.char(bit.bxor(text:byte(-1), 1)))
    said = {}
    references.open(base, at)
    assert.equal(1, #said)
  end)

  it("are left alone, and told of, where the folder cannot be written", function()
    file.write(folder .. "/no-folder", "a file")
    local kept, stderr, said = references.open(base, folder .. "/no-folder/cache"), io.stderr, {}
    io.stderr = { write = function(_, line) said[#said + 1] = line end } -- luacheck: ignore
    finally(function() io.stderr = stderr end) -- luacheck: ignore
    assert.same(values(base), values(kept))
    kept:save()
    kept:save()
    assert.equal(1, #said)
    assert.is_truthy(said[1]:find("^lucid: the reference is not kept: [^\n]+\n$"))
  end)

  it("of two runs at once come together", function()
    local at = folder .. "/together"
    local one, two = references.open(base, at), references.open(base, at)
    values(one, { list[1], list[2] })
    values(two, { list[3], list[4] })
    one:save()
    two:save()
    assert.same({ 8, 12 }, { references.open(base, at):count(list) })
  end)

  it("are not kept where the reference sees what is trained, and the reason is told", function()
    local m = lucid.model(dir):lora { rank = 2, alpha = 4 }
    local opt = { reference_cache = "on", cache = folder .. "/chosen" }
    assert.is_truthy(references.of(m, opt).path)
    m:train("projector")
    local reference, why = references.of(m, opt)
    assert.is_nil(reference.path)
    assert.equal("the projector is trained, which the reference sees", why)
    m:train("projector", false)
    local base_now, off = references.of(m, { reference_cache = "off", cache = opt.cache })
    assert.same({ 0 }, { base_now.adapters, off })
    assert.equal("there is no cache folder", select(2, references.of(m, { reference_cache = "on", cache = "none" })))
  end)
end)

describe("hashes of files", function()
  it("are taken once, and again when a file has changed", function()
    local folder = support.folder()
    local path = folder .. "/weights"
    file.write(path, "one")
    local first = filehash.of({ path }, folder .. "/cache")[path]
    assert.equal(file.hash(path), first)
    -- what is kept is believed: a wrong line shows it
    local index = folder .. "/cache/hashes.jsonl"
    file.write(index, (file.read(index):gsub(first, ("0"):rep(64))) .. "half a li")
    assert.equal(("0"):rep(64), filehash.of({ path }, folder .. "/cache")[path])
    file.write(path, "other")
    assert.equal(file.hash(path), filehash.of({ path }, folder .. "/cache")[path])
    support.remove(folder)
  end)
end)
