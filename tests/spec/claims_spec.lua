-- Claims against annotations: what is true of a picture, and why a claim is false.
local claims = require "lucid.claims"
local nouns = require "lucid.nouns"

local things = nouns.new({
  { name = "dog", synonyms = { "puppy" } }, { name = "bus" }, { name = "cup", synonyms = { "mug" } }, { name = "man" },
}, {})

-- The fault of the one claim of a sentence.
local function fault(sentence, source)
  local list = claims.of(sentence, things)
  assert.equal(1, #list, sentence)
  return (claims.fault(list[1], claims.facts(source, things)))
end

local TOP_LEFT, BOTTOM_RIGHT = { 0.1, 0.1, 0.3, 0.3 }, { 0.6, 0.6, 0.9, 0.9 }
local WIDE = { 0.1, 0.1, 0.9, 0.3 }

describe("facts", function()
  it("come from objects, regions and sentences", function()
    local facts = claims.facts({
      objects = { { name = "puppy", attributes = { "Small", "Brown" }, box = TOP_LEFT } },
      regions = { { phrase = "a red bus", box = BOTTOM_RIGHT } },
      facts = { "There is a mug.", "There is no man." },
    }, things)
    assert.same({ "dog", "bus", "cup" }, { facts[1], facts[2], facts[3] })
    assert.same({ { colour = "brown", box = TOP_LEFT } }, facts.dog)
    assert.same({ { colour = "red", box = BOTTOM_RIGHT } }, facts.bus)
    assert.equal(1, #facts.cup)
    assert.is_nil(facts.man)
  end)

  it("said twice are one thing, and two where they differ", function()
    local function count(...) return #claims.facts({ objects = { ... } }, things).dog end
    local brown, black = { "brown" }, { "black" }
    assert.equal(1, count({ name = "dog", box = TOP_LEFT }, { name = "puppy", attributes = brown, box = TOP_LEFT }))
    assert.equal(1, count({ name = "dog" }, { name = "dog", attributes = brown }))
    assert.equal(2, count({ name = "dog", attributes = black }, { name = "dog", attributes = brown }))
    assert.equal(2, count({ name = "dog", box = TOP_LEFT }, { name = "dog", box = BOTTOM_RIGHT }))
    local facts = claims.facts({ objects = { { name = "dog" }, { name = "dog", attributes = brown, box = WIDE } } }, things)
    assert.same({ { colour = "brown", box = WIDE } }, facts.dog)      -- what is learnt later is kept
  end)

  it("give a region's box to what it names first alone", function()
    local facts = claims.facts({ regions = { { phrase = "a dog in front of a bus", box = TOP_LEFT } } }, things)
    assert.same(TOP_LEFT, facts.dog[1].box)
    assert.is_nil(facts.bus[1].box)
  end)

  it("of a picture without annotations are none", function()
    assert.same({}, claims.facts({}, things))
  end)
end)

describe("a claim", function()
  local source = { objects = {
    { name = "dog", attributes = { "brown" }, box = TOP_LEFT },
    { name = "bus", attributes = { "red" }, box = BOTTOM_RIGHT },
    { name = "bus", attributes = { "blue" }, box = TOP_LEFT },
    { name = "cup" },
  } }

  it("is false for one of four reasons", function()
    for sentence, why in pairs {
      ["There is a man."] = "absent", ["There is no dog."] = "present", ["The dog is black."] = "colour",
      ["The dog is at the bottom right."] = "place",
    } do assert.equal(why, fault(sentence, source), sentence) end
  end)

  it("is true where something there fits it", function()
    for _, sentence in ipairs { "There is a dog.", "A puppy.", "The brown dog is at the top left.", "There is no man.",
      "A red bus at the bottom right.", "A blue bus at the top left." } do
      assert.is_nil(fault(sentence, source), sentence)
    end
  end)

  it("has to fit one thing in everything", function()
    assert.truthy(fault("A red bus at the top left.", source))      -- that one is blue
  end)

  it("is not contradicted by what nobody annotated", function()
    for _, sentence in ipairs { "A green cup.", "A cup at the top left.", "A green cup at the bottom left." } do
      assert.is_nil(fault(sentence, source), sentence)
    end
  end)

  it("names the instance that is nearest to it", function()
    local list = claims.of("A green bus at the top left.", things)
    local why, instance = claims.fault(list[1], claims.facts(source, things))
    assert.equal("colour", why)
    assert.same(TOP_LEFT, instance.box)
  end)

  it("about a wide thing is true of both halves", function()
    local wide = { objects = { { name = "bus", box = WIDE } } }
    assert.is_nil(fault("A bus at the top left.", wide))
    assert.is_nil(fault("A bus at the top right.", wide))
    assert.equal("place", fault("A bus at the bottom left.", wide))
  end)

  it("takes words for places and denials in their forms", function()
    assert.is_nil(fault("A dog in the upper left corner.", source))
    assert.equal("place", fault("A dog in the lower left corner.", source))
    for _, sentence in ipairs { "There is not a dog.", "A picture without a dog.", "Neither a dog." } do
      assert.equal("present", fault(sentence, source), sentence)
    end
  end)
end)

describe("a quarter", function()
  it("holds a box's centre", function()
    assert.equal("top left", claims.quarter(TOP_LEFT))
    assert.equal("bottom right", claims.quarter(BOTTOM_RIGHT))
    assert.equal("top right", claims.quarter { 0.4, 0, 0.8, 0.2 })
    assert.equal("bottom left", claims.quarter { 0, 0.5, 0.1, 0.6 })
    assert.equal("bottom right", claims.quarter { 0, 0, 1, 1 })      -- the middle counts to the right and down
  end)
end)
