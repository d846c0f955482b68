-- Claims: what sentences say about a picture, and what annotations say is true of it. Things are
-- nouns of the noun table; colours and places are optional, and what is not annotated contradicts
-- nothing.
local M = {}

-- ---- sentences -------------------------------------------------------------------------------------

local NEGATIONS = { no = true, ["not"] = true, without = true, neither = true, nor = true }
local VERTICAL = { top = "top", upper = "top", bottom = "bottom", lower = "bottom" }
local HORIZONTAL = { left = "left", right = "right" }

-- Places such as "top left": { name, first, last, word }.
local function places(words)
  local list = {}
  for i = 1, #words - 1 do
    local v, h = VERTICAL[words[i].text], HORIZONTAL[words[i + 1].text]
    if v and h then
      list[#list + 1] = { name = v .. " " .. h, first = words[i].first, last = words[i + 1].last,
        word = i }
    end
  end
  return list
end

local function colours(words, nouns)
  local list = {}
  for i, w in ipairs(words) do
    local name = nouns.colours[w.text]
    if name then list[#list + 1] = { name = name, first = w.first, last = w.last, word = i } end
  end
  return list
end

local function negated(words, mention)
  for i = math.max(1, mention.word - 3), mention.word - 1 do
    if NEGATIONS[words[i].text] then return true end
  end
  return false
end

-- The mention whose words end nearest before word i.
local function nearest_before(mentions, i)
  local best
  for _, m in ipairs(mentions) do
    if m.word + m.words <= i then best = m end
  end
  return best
end

---@class lucid.Claim: lucid.Mention
---@field negated boolean
---@field colour table|nil      { name, first, last }
---@field place table|nil       { name, first, last }

--- What a sentence claims: one entry per named thing. Where only one thing is named every colour
--- and place is its own; else a colour belongs to the noun it precedes and a place to the noun
--- before it.
---@param sentence string
---@param nouns table
---@return lucid.Claim[]
function M.of(sentence, nouns)
  local mentions, words = nouns:mentions(sentence)
  for _, m in ipairs(mentions) do m.negated = negated(words, m) end
  for _, colour in ipairs(colours(words, nouns)) do
    for _, m in ipairs(mentions) do
      if #mentions == 1 or colour.word == m.word - 1 then m.colour = m.colour or colour end
    end
  end
  for _, place in ipairs(places(words)) do
    local m = #mentions == 1 and mentions[1] or nearest_before(mentions, place.word)
    if m then m.place = m.place or place end
  end
  return mentions
end

-- ---- annotations --------------------------------------------------------------------------------------

local function add(facts, name, colour, box)
  local list = facts[name]
  if not list then
    list = {}
    facts[name] = list
    facts[#facts + 1] = name
  end
  for _, instance in ipairs(list) do
    local b = instance.box
    local one_box = not box or not b
      or (b[1] == box[1] and b[2] == box[2] and b[3] == box[3] and b[4] == box[4])
    local one_colour = not colour or not instance.colour or colour == instance.colour
    if one_box and one_colour then                    -- the same thing, said again
      instance.colour, instance.box = instance.colour or colour, b or box
      return
    end
  end
  list[#list + 1] = { colour = colour, box = box }
end

local function colour_of(attributes, nouns)
  for _, a in ipairs(attributes or {}) do
    if nouns.colours[a:lower()] then return nouns.colours[a:lower()] end
  end
end

--- What is true of a picture: facts[name] = list of { colour, box }, and the names in order.
---@param source table   objects: { name, attributes, box }; regions: { phrase, box }; facts: sentences;
---   boxes are { x1, y1, x2, y2 } as fractions of the picture
---@param nouns table
---@return string[]
function M.facts(source, nouns)
  local facts = {}
  for _, o in ipairs(source.objects or {}) do
    local name = nouns:lookup(o.name)
    if name then add(facts, name, colour_of(o.attributes, nouns), o.box) end
  end
  for _, region in ipairs(source.regions or {}) do
    local claims = M.of(region.phrase, nouns)
    for _, c in ipairs(claims) do
      if not c.negated then
        -- A region is the box of what it is about: the thing named first.
        add(facts, c.name, c.colour and c.colour.name, c == claims[1] and region.box or nil)
      end
    end
  end
  for _, sentence in ipairs(source.facts or {}) do
    for _, c in ipairs(M.of(sentence, nouns)) do
      if not c.negated then add(facts, c.name, c.colour and c.colour.name, nil) end
    end
  end
  return facts
end

--- "top left" and so on: the quarter that holds a box's centre.
---@param box number[]
---@return string
function M.quarter(box)
  return ((box[2] + box[4]) / 2 < 0.5 and "top" or "bottom") .. " "
    .. ((box[1] + box[3]) / 2 < 0.5 and "left" or "right")
end

-- Whether an instance can be what the claim says; unknown attributes are no contradiction. A box
-- that reaches over the middle is in both halves.
local function in_place(box, place)
  local v, h = place:match("^(%a+) (%a+)$")
  local fits_v = v == "top" and box[2] < 0.5 or v == "bottom" and box[4] > 0.5
  local fits_h = h == "left" and box[1] < 0.5 or h == "right" and box[3] > 0.5
  return fits_v and fits_h
end

--- Why a claim is false, or nil: "absent", "present" (it was denied), "colour", "place".
---@param claim lucid.Claim
---@param facts string[]
---@return string|nil, table|nil instance   the instance to correct from
function M.fault(claim, facts)
  local instances = facts[claim.name]
  if claim.negated then return instances and "present" or nil end
  if not instances then return "absent" end
  local why, best
  for _, instance in ipairs(instances) do
    local colour_ok = not claim.colour or not instance.colour or instance.colour == claim.colour.name
    local place_ok = not claim.place or not instance.box or in_place(instance.box, claim.place.name)
    if colour_ok and place_ok then return nil end
    if not best or colour_ok or place_ok then
      why, best = colour_ok and "place" or "colour", instance
    end
  end
  return why, best
end

return M
