-- Floating-point operations of a decoder with adapters over a forest: two a multiplication with addition. What is not a
-- matrix product (norms, softmax, rope) is not counted.
local M = {}

---@class lucid.Shape       what work depends on
---@field layers integer
---@field hidden integer       width of the residual stream
---@field heads integer        width of all query heads together
---@field keys integer         width of all key heads together
---@field mlp integer
---@field vocabulary integer
---@field adapter integer      weights of all adapters
---@field image_rows integer   token rows of a picture
---@field tower number         operations of the vision tower, a picture
---@field features integer     numbers that the tower gives, a picture
---@field bridge number        operations of the bridge, a picture
---@field trained boolean|nil  whether the decoder's own weights are trained, too

--- Operations of a vision transformer over one picture.
---@param weights number       of its linear layers and its patches
---@param rows integer         patches and class token
---@param layers integer
---@param width integer
---@return integer
function M.tower(weights, rows, layers, width) return 2 * weights * rows + 4 * rows * rows * width * layers end

-- The tower's work from its weights, those of the blocks that the wanted layer needs; and the numbers that it gives.
local function tower_of(model)
  local layers, blocks, rest, width, patch = {}, 0, 0, 0, 1
  local deepest = 0
  for _, p in ipairs(model:all_parameters()) do
    local t, depth = p.tensor, tonumber(p.name:match("%.(%d+)%."))
    if p.part == "vision" and depth then deepest = math.max(deepest, depth + 1) end
    if p.part == "vision" and t:dim() >= 2 and not p.name:find("pos") and not p.name:find("cls") then
      if t:dim() == 4 then width, patch, rest = t:size(1), t:size(4), t:count()
      elseif depth then layers[depth + 1] = (layers[depth + 1] or 0) + t:count() end
    end
  end
  local wanted = model.config.vision_feature_layer or model.config.mm_vision_select_layer or -1
  local run = wanted < 0 and deepest + 1 + wanted or wanted
  for i = 1, run do blocks = blocks + (layers[i] or 0) end
  local rows = (model.size / patch) ^ 2 + 1
  return M.tower(blocks + rest, rows, run, width), rows * width
end

--- The shape of an opened model.
---@param model lucid.Model
---@return lucid.Shape
function M.shape(model)
  local s = { layers = 0, hidden = model:word_embeddings():size(2), vocabulary = model:word_embeddings():size(1),
    adapter = 0, image_rows = model.image_rows, bridge = 0 }
  s.tower, s.features = tower_of(model)
  for _, p in ipairs(model:all_parameters()) do
    local t, layer, name = p.tensor, p.name:match("layers%.(%d+)%..*%.(%a+)_proj%.weight$")
    if p.part == "adapter" then s.adapter = s.adapter + t:count()
    elseif p.part == "projector" and t:dim() == 2 then s.bridge = s.bridge + 2 * t:count() * model.image_rows
    elseif p.part == "language" and layer then
      s.layers = math.max(s.layers, tonumber(layer) + 1)
      if name == "q" then s.heads = t:size(1)
      elseif name == "k" then s.keys = t:size(1)
      elseif name == "gate" then s.mlp = t:size(1) end
    end
  end
  for _, p in ipairs(model:parameters()) do s.trained = s.trained or p.part == "language" end
  return s
end

-- Weights of a block's linear layers, and of those that read the block's input.
local function linears(s)
  local first = s.hidden * (s.heads + 2 * s.keys)
  return first + s.heads * s.hidden + 3 * s.hidden * s.mlp, first
end

local function blocks(s, count, adapters)
  return 2 * (s.layers * linears(s) + (adapters and s.adapter or 0)) * count.tokens
    + 4 * s.heads * s.layers * count.seen
end

local function head(s, count) return 2 * s.vocabulary * s.hidden * count.scored end

--- A forward pass.
---@param s lucid.Shape
---@param count lucid.ForestCount
---@param adapters boolean
---@return integer
function M.forward(s, count, adapters) return blocks(s, count, adapters) + head(s, count) end

--- The pass back: gradients of inputs and adapters (of the weights, where they are trained); none goes into the first
--- block's input. Attention's products are made again there, and so are the logits.
---@param s lucid.Shape
---@param count lucid.ForestCount
---@return integer
function M.backward(s, count)
  local block, first = linears(s)
  local weights = s.layers * block
  return (2 * (weights - (s.trained and 0 or first)) + 4 * s.adapter + (s.trained and 2 * weights or 0)) * count.tokens
    + 10 * s.heads * s.layers * count.seen + 2 * head(s, count)
end

--- What recomputing activations adds: the blocks once more.
---@param s lucid.Shape
---@param count lucid.ForestCount
---@return integer
function M.recompute(s, count) return blocks(s, count, true) end

return M
