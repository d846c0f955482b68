-- lucid.forest.of: merging the prefixes of sequences loses and adds nothing.
local forest = require "lucid.forest"
local rng = require "lucid.rng"

-- The tokens of a segment's whole path, pictures by name.
local function path(f, i)
  local out = {}
  while i do
    local s = f.segments[i]
    local own = {}
    for k, token in ipairs(s.tokens) do
      own[k] = token == forest.IMAGE and "<" .. tostring(s.image) .. ">" or tostring(token)
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
    out[i] = token == forest.IMAGE and "<" .. tostring(s.image) .. ">" or tostring(token)
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
      image = { r:integer(2) }                            -- tensors would do: identity decides
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
    local picture = {}
    local f = forest.of {
      { image = picture, ids = { 1, forest.IMAGE, 5, 6, 7 }, score_from = 5 },
      { image = picture, ids = { 1, forest.IMAGE, 5, 8, 7 }, score_from = 5 },
      { image = {}, ids = { 1, forest.IMAGE, 5, 6, 7 }, score_from = 5 },
    }
    assert.equal(1 + 2 + 1 + 1 + 3 + 3, f:tokens())       -- trunk, picture and 5, 6, 8, other picture, answers
  end)

  it("refuses a scored first token and places outside", function()
    assert.has_error(function() forest.of { { ids = { 1, 2 }, score_from = 1 } } end)
    assert.has_error(function() forest.of { { ids = { 1, 2 }, score_from = 4 } } end)
  end)
end)
