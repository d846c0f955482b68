-- lucid.forest.of: merging the prefixes of sequences loses and adds nothing.
local forest = require "lucid.forest"
local lucid = require "lucid"
local rng = require "lucid.rng"

-- The tokens of a segment's whole path, pictures by name.
local function path(f, i)
  local out = {}
  while i do
    local s = f.segments[i]
    local own = {}
    for k, token in ipairs(s.tokens) do
      own[k] = token == forest.IMAGE and "<" .. forest.image_key(s.image) .. ">" or tostring(token)
    end
    table.insert(out, 1, table.concat(own, " "))
    i = s.parent
  end
  return (table.concat(out, " "):gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""))
end

local function scored(f)
  local list = {}
  for i, s in ipairs(f.segments) do
    if s.score then list[#list + 1] = i end
  end
  return list
end

local function flat(s)
  local out = {}
  for i, token in ipairs(s.ids) do
    out[i] = token == forest.IMAGE and "<" .. forest.image_key(s.image) .. ">" or tostring(token)
  end
  return table.concat(out, " ")
end

-- Few tokens and pictures, so that prefixes meet in every way.
local function random_sequences(r)
  local list = {}
  for i = 1, r:integer(12) do
    local ids, image = { 1 }, nil
    for _ = 1, r:integer(3) - 1 do ids[#ids + 1] = 9 + r:integer(2) end
    if r:integer(2) == 1 then
      image = lucid.full({ 1 }, r:integer(2))             -- identity decides, not the values
      ids[#ids + 1] = forest.IMAGE
    end
    for _ = 1, r:integer(4) - 1 do ids[#ids + 1] = 9 + r:integer(2) end
    list[i] = { ids = ids, image = image, score_from = 1 + r:integer(#ids) }
    local at
    for k, token in ipairs(ids) do at = token == forest.IMAGE and k or at end
    if at and list[i].score_from <= at then list[i].score_from = at + 1 end
  end
  return list
end

describe("forest.of", function()
  it("gives every sequence its own tokens back", function()
    for seed = 1, 500 do
      local sequences = random_sequences(rng(seed, "sequences"))
      local f = forest.of(sequences)
      local leaves = scored(f)
      assert.equal(#sequences, #leaves)
      for i, s in ipairs(sequences) do
        assert.equal(flat(s), path(f, leaves[i]), "seed " .. seed .. " sequence " .. i)
        assert.equal(#s.ids - s.score_from + 1, #f.segments[leaves[i]].tokens)
      end
    end
  end)

  it("keeps one copy of a prefix", function()
    local picture = lucid.zeros { 1 }
    local f = forest.of {
      { image = picture, ids = { 1, forest.IMAGE, 5, 6, 7 }, score_from = 5 },
      { image = picture, ids = { 1, forest.IMAGE, 5, 8, 7 }, score_from = 5 },
      { image = lucid.zeros { 1 }, ids = { 1, forest.IMAGE, 5, 6, 7 }, score_from = 5 },
    }
    assert.equal(1 + 2 + 1 + 1 + 3 + 3, f:tokens())       -- trunk, picture and 5, 6, 8, other picture, answers
  end)

  it("refuses a scored first token and places outside", function()
    assert.has_error(function() forest.of { { ids = { 1, 2 }, score_from = 1 } } end)
    assert.has_error(function() forest.of { { ids = { 1, 2 }, score_from = 4 } } end)
  end)

  it("takes tensors for one picture when they are one, not when they look alike", function()
    local function picture(middle)           -- what a tensor prints of itself are its corners
      local t = lucid.zeros({ 64, 64, 3 }, { dtype = "u8" })
      t:slice(1, 30):slice(2, 30):copy(lucid.full({ 1, 1, 3 }, middle, { dtype = "u8" }))
      return t
    end
    local one, two = picture(0), picture(200)
    local function roots(...)
      local sequences = {}
      for i, image in ipairs { ... } do sequences[i] = { image = image, ids = { 1, forest.IMAGE, 3, 4 }, score_from = 4 } end
      local pictures = 0
      for _, s in ipairs(forest.of(sequences).segments) do pictures = pictures + (s.image and 1 or 0) end
      return pictures
    end
    assert.equal(1, roots(one, one))
    assert.equal(2, roots(one, two))
    assert.not_equal(forest.image_key(one), forest.image_key(two))
  end)

  it("refuses what is no list, no id, no parent, no picture and half a pair", function()
    local root = { tokens = { 1, 5 } }
    for pattern, f in pairs {
      ["forest: a list is expected"] = function() forest() end,
      ["segment 1 has no list of tokens"] = function() forest { 5 } end,
      ["segment 2: its parent 1.5"] = function() forest { root, { tokens = { 1 }, parent = 1.5 } } end,
      ["segment 2: its parent 2"] = function() forest { root, { tokens = { 1 }, parent = 2 } } end,
      ["segment 1: token 2 is x, which is no id"] = function() forest { { tokens = { 1, "x" } } } end,
      ["segment 1: token 1 is 2.5"] = function() forest { { tokens = { 2.5 } } } end,
      ["segment 1: token 1 is 1099511627776"] = function() forest { { tokens = { 2 ^ 40 } } } end,
      ["its image is neither a path nor a tensor"] = function() forest { { tokens = { -200 }, image = 7 } } end,
      ["forest.of: a list is expected"] = function() forest.of() end,
      ["sequence 1 needs ids and score_from"] = function() forest.of { { ids = { 1, 2, 3 }, score_from = 2.5 } } end,
      ["sequence 1: token 3 is y"] = function() forest.of { { ids = { 1, 2, "y" }, score_from = 2 } } end,
      ["the rejected text of pair 2"] = function()
        forest.pairs { { prompt = { 1 }, chosen = { 2 }, rejected = { 3 } }, { prompt = { 1 }, chosen = { 4 } } }
      end,
    } do
      local ok, message = pcall(f)
      assert.is_false(ok, pattern)
      assert.truthy(message:find(pattern, 1, true), message)
    end
  end)
end)
