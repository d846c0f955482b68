-- What the tiny world is made of: twelve kinds of things in six pairs. The first of a pair tends to
-- bring the second along, and a picture in which it does not is one that a model gets wrong.
--
-- A scene is { background = {r, g, b}, slope =, objects = { {name, colour, row, column, size, dx,
-- dy, shade = {r, g, b}}, ... } }: objects in the fixed order of NAMES, one a cell, no name twice;
-- rows and columns from 1, dx and dy in pixels inside the cell.
local rng = require "lucid.rng"

local M = {}

M.SIDE = 64                 -- pixels of a picture
M.CELLS = 4                 -- cells a side
M.CELL = M.SIDE / M.CELLS   -- pixels of a cell

-- { trigger, partner }
M.PAIRS = {
  { "car", "road" }, { "boat", "water" }, { "house", "tree" },
  { "sun", "cloud" }, { "table", "chair" }, { "dog", "ball" },
}

M.COLOURS = {
  { name = "red", rgb = { 205, 25, 35 } },
  { name = "green", rgb = { 35, 150, 55 } },
  { name = "blue", rgb = { 45, 75, 205 } },
  { name = "yellow", rgb = { 238, 218, 45 } },
  { name = "purple", rgb = { 140, 40, 165 } },
  { name = "orange", rgb = { 245, 130, 20 } },
}

M.NAMES = {}                -- the order of every description
M.PARTNER = {}              -- trigger -> partner
M.RANK = {}                 -- name -> its place in NAMES
for _, pair in ipairs(M.PAIRS) do
  M.PARTNER[pair[1]] = pair[2]
  for _, name in ipairs(pair) do
    M.NAMES[#M.NAMES + 1] = name
    M.RANK[name] = #M.NAMES
  end
end

-- Every picture has random numbers of its own: they depend on the seed, what they are for and the
-- picture's number, never on what was drawn before.
local PURPOSES = { sft = 1, wild = 2, eval = 3, clean = 4 }
local ASPECTS = { scene = 0, noise = 1, caption = 2, questions = 3 }
local STREAMS = 2 ^ 32      -- pictures a purpose may have

--- The stream of one aspect of one picture.
---@param purpose string    "sft", "wild", "eval" or "clean"
---@param aspect string     "scene", "noise", "caption" or "questions"
---@param index integer     the picture's number in its split, from 1
---@return integer
function M.stream(purpose, aspect, index)
  local p = PURPOSES[purpose] or error("tiny world: there is no split " .. tostring(purpose), 2)
  return (p * 16 + ASPECTS[aspect]) * STREAMS + index
end

--- The random numbers of one aspect of one picture.
---@param seed integer
---@param purpose string
---@param aspect string
---@param index integer
---@return table
function M.rng(seed, purpose, aspect, index)
  return rng(seed, M.stream(purpose, aspect, index))
end

--- "top left" and so on: the quarter of the picture that a cell is in.
---@param row integer
---@param column integer
---@return string
function M.position(row, column)
  local half = M.CELLS / 2
  return (row <= half and "top" or "bottom") .. " " .. (column <= half and "left" or "right")
end

local JITTER = 12           -- of a colour, each channel

local function shade(r, rgb)
  local c = {}
  for i = 1, 3 do
    c[i] = math.min(255, math.max(0, rgb[i] + r:integer(2 * JITTER + 1) - JITTER - 1))
  end
  return c
end

-- Which things: two or three triggers, each with its partner at probability p, and up to two stray
-- partners, which make the partners the most frequent things of all.
local function names(r, p)
  local present = {}
  local triggers = {}
  for i = 1, #M.PAIRS do triggers[i] = M.PAIRS[i][1] end
  r:shuffle(triggers)
  for i = 1, 1 + r:integer(2) do
    present[triggers[i]] = true
    if r:uniform() < p then present[M.PARTNER[triggers[i]]] = true end
  end
  for _ = 1, r:integer(3) - 1 do present[M.PAIRS[r:integer(#M.PAIRS)][2]] = true end
  local list = {}
  for _, name in ipairs(M.NAMES) do
    if present[name] then list[#list + 1] = name end
  end
  return list
end

--- A scene: which things lie in which cells.
---@param r table       random numbers: r:uniform(), r:integer(n), r:shuffle(list)
---@param p number      probability that a trigger brings its partner
---@return table
function M.scene(r, p)
  local cells = {}
  for i = 1, M.CELLS * M.CELLS do cells[i] = i - 1 end
  r:shuffle(cells)
  local objects = {}
  for i, name in ipairs(names(r, p)) do
    local colour = M.COLOURS[r:integer(#M.COLOURS)]
    local size = 11 + r:integer(3)
    objects[i] = {
      name = name,
      colour = colour.name,
      shade = shade(r, colour.rgb),
      row = math.floor(cells[i] / M.CELLS) + 1,
      column = cells[i] % M.CELLS + 1,
      size = size,
      dx = r:integer(M.CELL - size + 1) - 1,
      dy = r:integer(M.CELL - size + 1) - 1,
    }
  end
  local background = {}
  for i = 1, 3 do background[i] = 205 + r:integer(36) end
  return { objects = objects, background = background, slope = r:uniform() * 24 - 12 }
end

--- The box of an object: left, top, width and height in pixels.
---@param object table
---@return integer, integer, integer, integer
function M.box(object)
  return (object.column - 1) * M.CELL + object.dx, (object.row - 1) * M.CELL + object.dy,
    object.size, object.size
end

return M
