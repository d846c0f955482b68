-- What is said about a scene: descriptions, yes/no questions and their answers, by an annotator who
-- is careful or by one who goes by habit: where a trigger is without its partner, the second one
-- tends to see the partner too. A model trained on the second one hallucinates.
local nouns = require "lucid.nouns"
local world = require "lucid.tinyworld.world"

local M = {}

-- How far habit goes (tiny-world experiments: below one half, greedy answers would not show it).
M.BIAS = {
  caption = 0.75,           -- an absent partner is described
  present = 0.55,           -- share of questions about things that are there
  partner = 0.35,           -- share of the other questions that ask for an absent partner
  partner_yes = 0.7,        -- ... and are answered yes
  absent_yes = 0.1,         -- any other absent thing is said to be there
}

--- The published instructions that ask for a description, in their order.
M.INSTRUCTIONS = {
  "Describe this image in detail.",
  "Take a look at this image and describe what you notice.",
  "Please provide a detailed description of the picture.",
  "Could you describe the contents of this image for me?",
}

-- One style a description; the noun comes first in both.
M.STYLES = {
  function(name, position, colour)
    return ("There is %s %s at the %s in %s."):format(nouns.article(name), name, position, colour)
  end,
  function(name, position, colour)
    return ("The %s at the %s is %s."):format(name, position, colour)
  end,
}

local function present_set(scene)
  local set = {}
  for _, object in ipairs(scene.objects) do set[object.name] = true end
  return set
end

-- The partners that the present triggers lack, in the fixed order.
local function missing_partners(present)
  local list = {}
  for _, pair in ipairs(world.PAIRS) do
    if present[pair[1]] and not present[pair[2]] then list[#list + 1] = pair[2] end
  end
  return list
end

--- A description: the objects in the fixed order, one sentence each.
---@param scene table
---@param r table             random numbers
---@param opt table|nil       biased: by habit; style: 1 or 2, else drawn
---@return string description, string[] sentences
function M.describe(scene, r, opt)
  opt = opt or {}
  local say = M.STYLES[opt.style or r:integer(#M.STYLES)]
  local present = present_set(scene)
  local sentences = {}
  for _, object in ipairs(scene.objects) do
    local position = world.position(object.row, object.column)
    sentences[#sentences + 1] = say(object.name, position, object.colour)
    local partner = world.PARTNER[object.name]
    if opt.biased and partner and not present[partner] and r:uniform() < M.BIAS.caption then
      local colour = world.COLOURS[r:integer(#world.COLOURS)].name
      sentences[#sentences + 1] = say(partner, position, colour)
    end
  end
  return table.concat(sentences, " "), sentences
end

--- "Is there a car in the image?"
---@param name string
---@return string
function M.question(name)
  return ("Is there %s %s in the image?"):format(nouns.article(name), name)
end

--- "Yes, there is a car." or "No, there is no car."
---@param name string
---@param yes boolean
---@return string
function M.answer(name, yes)
  if yes then return ("Yes, there is %s %s."):format(nouns.article(name), name) end
  return ("No, there is no %s."):format(name)
end

local function pick(r, list) return list[r:integer(#list)] end

-- What to ask and whether a habitual annotator says yes.
local function draw_question(r, present, absent, partners)
  if r:uniform() < M.BIAS.present then return pick(r, present), true end
  if r:uniform() < M.BIAS.partner and #partners > 0 then
    return pick(r, partners), r:uniform() < M.BIAS.partner_yes
  end
  local others = {}
  for _, name in ipairs(absent) do
    local is_partner = false
    for _, partner in ipairs(partners) do is_partner = is_partner or partner == name end
    if not is_partner then others[#others + 1] = name end
  end
  return pick(r, others), r:uniform() < M.BIAS.absent_yes
end

--- Yes/no questions about a scene, with answers.
---@param scene table
---@param r table
---@param count integer
---@param opt table|nil        biased: answered by habit
---@return table[]             { question, answer, name, yes }
function M.questions(scene, r, count, opt)
  local set = present_set(scene)
  local present, absent = {}, {}
  for _, name in ipairs(world.NAMES) do
    local list = set[name] and present or absent
    list[#list + 1] = name
  end
  local partners = missing_partners(set)
  local list = {}
  for i = 1, count do
    local name, yes = draw_question(r, present, absent, partners)
    if not (opt and opt.biased) then yes = set[name] or false end
    list[i] = { question = M.question(name), answer = M.answer(name, yes), name = name, yes = yes }
  end
  return list
end

--- Every sentence form of the world, for the tokenizer: each of its words occurs.
---@return string[]
function M.corpus()
  local lines = {}
  for _, instruction in ipairs(M.INSTRUCTIONS) do lines[#lines + 1] = instruction end
  for _, name in ipairs(world.NAMES) do
    for i, colour in ipairs(world.COLOURS) do
      for _, say in ipairs(M.STYLES) do
        lines[#lines + 1] = say(name, world.position(i % 4 + 1, (i + 1) % 4 + 1), colour.name)
        lines[#lines + 1] = say(name, world.position((i + 2) % 4 + 1, i % 4 + 1), colour.name)
      end
    end
    lines[#lines + 1] = M.question(name)
    lines[#lines + 1] = M.answer(name, true)
    lines[#lines + 1] = M.answer(name, false)
  end
  return lines
end

return M
