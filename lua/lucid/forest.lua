-- Forests: batches of token segments. A segment continues its parent; several may share one.
--
--   lucid.forest{ {tokens=, parent=, image=, score=}, ... }       segments as they are
--   lucid.forest.of{ {image=, ids=, score_from=}, ... }           plain sequences, common prefixes merged
--   lucid.forest.pairs{ {image=, prompt=, chosen=, rejected=}, ... }
--
-- Segments and token places are counted from 1; ids are the tokenizer's own, and lucid.IMAGE (-200)
-- stands for the rows of the segment's picture: a path, a u8 tensor [H, W, 3] or features [rows, width];
-- or { picture = any of these, text = ids, crop = } where the bridge reads the question, too (InstructBLIP), or a random
-- part of the picture is meant (lucid.crop).
local picture = require "lucid.image"
local native = require "lucid.native"

local M = {}
local Forest = {}
Forest.__index = Forest

M.IMAGE = -200

---@class lucid.Segment
---@field tokens integer[]
---@field parent integer|nil     number of an earlier segment; nil: a root
---@field image any              what IMAGE among the tokens stands for
---@field score boolean|nil      whether its tokens' log-probabilities are wanted

--- What decides whether two pictures are one: a file's content, a tensor's identity, the text with it and the crop.
---@param image lucid.Tensor|string|table|nil
---@return string
function M.image_key(image)
  if image == nil then return "" end
  if type(image) == "string" then return picture.hash(image) end
  if type(image) == "table" and image.picture ~= nil then
    local crop = image.crop and (" %d %s %s"):format(image.crop.seed, image.crop.name, image.crop.mirror and "m" or "") or ""
    return M.image_key(image.picture) .. " " .. table.concat(image.text or {}, ",") .. crop
  end
  return native.address(image)
end

local function whole(v) return type(v) == "number" and v % 1 == 0 end

local function is_list(v, what)
  if type(v) ~= "table" then native.raise(("%s: a list is expected, not a %s"):format(what, type(v))) end
end

-- Ids are whole numbers that the library's 32 bits hold; what is no id of the model it says itself.
local function check_ids(ids, what)
  if type(ids) ~= "table" then native.raise(what .. " has no list of tokens") end
  for i = 1, #ids do
    if not whole(ids[i]) or math.abs(ids[i]) >= 2 ^ 31 then
      native.raise(("%s: token %d is %s, which is no id"):format(what, i, tostring(ids[i])))
    end
  end
end

local function check_image(image, what)
  if type(image) == "table" then image = image.picture or false end
  if image ~= nil and type(image) ~= "string" and not native.is_tensor(image) then
    native.raise(what .. ": its image is neither a path nor a tensor")
  end
end

--- A segment's picture without the text that the bridge reads with it: a path, a tensor; nil: there is none.
---@param image lucid.Tensor|string|table|nil
---@return lucid.Tensor|string|nil
function M.picture(image) return type(image) == "table" and image.picture or image end

--- A forest of segments.
---@param segments lucid.Segment[]
---@return table
function M.new(segments)
  is_list(segments, "forest")
  for i, s in ipairs(segments) do
    local what = ("forest: segment %d"):format(i)
    check_ids(type(s) == "table" and s.tokens, what)
    check_image(s.image, what)
    if s.parent ~= nil and not (whole(s.parent) and s.parent >= 1 and s.parent < i) then
      native.raise(("%s: its parent %s is not an earlier segment"):format(what, tostring(s.parent)))
    end
  end
  return setmetatable({ segments = segments }, Forest)
end

--- Whether a value is a forest.
---@param value table
---@return boolean
function M.is(value) return getmetatable(value) == Forest end

--- How many tokens a segment list holds (a picture counts as one).
---@return integer
function Forest:tokens()
  local n = 0
  for _, s in ipairs(self.segments) do n = n + #s.tokens end
  return n
end

--- How many times the rows of a picture stand in it.
---@return integer
function Forest:pictures()
  local n = 0
  for _, s in ipairs(self.segments) do
    if s.image ~= nil then n = n + 1 end
  end
  return n
end

---@class lucid.ForestCount
---@field tokens number      rows on the packed axis
---@field seen number        keys that its rows see, over all rows
---@field scored number      tokens whose log-probabilities are wanted

--- What a pass over the forest works on, where a picture takes so many rows.
---@param image_rows integer
---@return lucid.ForestCount
function Forest:count(image_rows)
  local count, ends = { tokens = 0, seen = 0, scored = 0 }, {}
  for i, s in ipairs(self.segments) do
    local before, rows = s.parent and ends[s.parent] or 0, #s.tokens + (s.image ~= nil and image_rows - 1 or 0)
    ends[i] = before + rows
    count.tokens = count.tokens + rows
    count.seen = count.seen + rows * before + rows * (rows + 1) / 2
    if s.score then count.scored = count.scored + rows end
  end
  return count
end

local function has_image(tokens)
  for i = 1, #tokens do
    if tokens[i] == M.IMAGE then return true end
  end
  return false
end

-- A node of the prefix tree: a run of tokens, its children by first token and picture. key is the
-- picture of the sequences that run through it.
local function new_node(tokens, image, key)
  return { tokens = tokens, image = has_image(tokens) and image or nil, key = key,
    children = {}, order = {} }
end

local function child_key(token, image_key)
  return token == M.IMAGE and "i" .. image_key or token
end

local function add_child(node, child)
  local key = child_key(child.tokens[1], child.key)
  node.order[#node.order + 1] = key
  node.children[key] = child
end

-- Cuts a child after n tokens: a new node takes the head and the child's place, the child keeps the
-- tail, for sequences end in it. The new node.
local function split(parent, child, n)
  local head, tail = {}, {}
  for i = 1, #child.tokens do
    local to = i <= n and head or tail
    to[#to + 1] = child.tokens[i]
  end
  local upper = new_node(head, child.image, child.key)
  parent.children[child_key(child.tokens[1], child.key)] = upper
  child.tokens = tail
  if not has_image(tail) then child.image = nil end
  add_child(upper, child)
  return upper
end

-- Walks (and grows) the tree along ids[1..n]; the node where the prefix ends.
local function insert(root, ids, n, image, key)
  local node, at = root, 1
  while at <= n do
    local nxt = node.children[child_key(ids[at], key)]
    if not nxt then
      local rest = {}
      for i = at, n do rest[#rest + 1] = ids[i] end
      nxt = new_node(rest, image, key)
      add_child(node, nxt)
      return nxt
    end
    local same = 0
    while same < #nxt.tokens and at + same <= n and nxt.tokens[same + 1] == ids[at + same]
      and (ids[at + same] ~= M.IMAGE or nxt.key == key) do
      same = same + 1
    end
    if same < #nxt.tokens then nxt = split(node, nxt, same) end
    node, at = nxt, at + same
  end
  return node
end

---@class lucid.Sequence
---@field ids integer[]
---@field image any
---@field score_from integer     the first scored token; #ids + 1 scores nothing (a prompt)

--- Merges the common prefixes of sequences, as far as none of their tokens is scored. The scored
--- segments of the result are the sequences' ends, in the given order.
---@param sequences lucid.Sequence[]
---@return table
function M.of(sequences)
  is_list(sequences, "forest.of")
  local root = new_node({}, nil, "")
  local ends = {}
  for i, s in ipairs(sequences) do
    local what = ("forest.of: sequence %d"):format(i)
    if type(s) ~= "table" or type(s.ids) ~= "table" or not whole(s.score_from) then
      native.raise(what .. " needs ids and score_from")
    end
    check_ids(s.ids, what)
    check_image(s.image, what)
    local from = s.score_from
    if from < 2 or from > #s.ids + 1 then
      native.raise(("%s: score_from is %d of %d tokens; 2 to %d is possible"):format(what, from, #s.ids, #s.ids + 1))
    end
    ends[i] = insert(root, s.ids, from - 1, s.image, M.image_key(s.image))
  end
  local segments = {}
  local function emit(node, parent)
    for _, key in ipairs(node.order) do
      local child = node.children[key]
      segments[#segments + 1] = { tokens = child.tokens, parent = parent, image = child.image }
      child.number = #segments
      emit(child, child.number)
    end
  end
  emit(root, nil)
  for i, s in ipairs(sequences) do
    local answer = {}
    for j = s.score_from, #s.ids do answer[#answer + 1] = s.ids[j] end
    segments[#segments + 1] = { tokens = answer, parent = ends[i].number, score = true }
  end
  return M.new(segments)
end

---@class lucid.Pair
---@field image any
---@field prompt integer[]
---@field chosen integer[]
---@field rejected integer[]

-- How many answers, one after the other, share what they have in common: both of a pair, or none at all.
local TOGETHER = { image = math.huge, pair = 2, none = 1 }

--- The forest of preference pairs, in the order chosen 1, rejected 1, chosen 2, ... What shares its beginning: "image",
--- all pairs with the same picture and the same words so far (the default); "pair", the two answers of a pair;
--- "none", nothing: separate sequences. The last two give the same results with more work.
---@param pairs_list lucid.Pair[]
---@param group string|nil
---@return table
function M.pairs(pairs_list, group)
  is_list(pairs_list, "forest.pairs")
  local together = TOGETHER[group or "image"] or error(("forest.pairs: there is no group '%s'"):format(group), 2)
  local forest, sequences = M.new {}, {}
  local function flush()
    local before = #forest.segments
    for _, s in ipairs(M.of(sequences).segments) do
      s.parent = s.parent and s.parent + before
      forest.segments[#forest.segments + 1] = s
    end
    sequences = {}
  end
  for number, p in ipairs(pairs_list) do
    for _, part in ipairs { "prompt", "chosen", "rejected" } do
      check_ids(type(p) == "table" and p[part], ("forest.pairs: the %s text of pair %d"):format(part, number))
    end
    for _, answer in ipairs { p.chosen, p.rejected } do
      local ids = {}
      for i = 1, #p.prompt do ids[i] = p.prompt[i] end
      for i = 1, #answer do ids[#ids + 1] = answer[i] end
      sequences[#sequences + 1] = { image = p.image, ids = ids, score_from = #p.prompt + 1 }
      if #sequences == together then flush() end
    end
  end
  if #sequences > 0 then flush() end
  forest.pairs, forest.list = #pairs_list, pairs_list
  return forest
end

-- Interpreted: compiled by the LuaJIT of Debian 12 (2.1 of March 2022), this loop and what it calls now
-- and then mixed two sequences up (tests/spec/sequences_spec.lua showed it in a quarter of its runs).
jit.off(M.of, true)

return setmetatable(M, { __call = function(_, segments) return M.new(segments) end })
