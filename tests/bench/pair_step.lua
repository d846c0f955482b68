-- A whole step of preference training on given pairs, as the peers' side does one: the tower sees each picture once,
-- policy and reference share its rows, the adapter is updated.
--   local step = pair_step.new(model, list, { group = "image", tokens_at_once = 2048 })
--   step.run()  step.loss
-- Pictures are random pixels on the model's device, by the pairs' numbers of theirs (tests.bench.pairs).
local lucid = require "lucid"
local native = require "lucid.native"

local C = native.C
local M = {}

--- Pixels of every picture of a list, already on the device.
function M.pixels(model, list)
  local of = {}
  for _, p in ipairs(list) do
    of[p.picture] = of[p.picture]
      or lucid.randn({ 1, 3, model.size, model.size }, { seed = p.picture, device = model.device })
  end
  return of
end

local function with_features(model, list, pixels)
  local of = {}
  for number, x in pairs(pixels) do
    local rows = native.no_grad(function() return native.adopt(C.lc_model_vision(model.handle, x)) end)
    of[number] = rows:view(rows:size(2), rows:size(3))
  end
  for _, p in ipairs(list) do p.image = of[p.picture] end
end

-- What the reference says of the pairs, computed once.
local function kept(base, model, list, pixels, group)
  return native.scope(function()
    with_features(model, list, pixels)
    local all = native.no_grad(base.pairs, base, lucid.forest.pairs(list, group))
    for _, name in ipairs { "chosen", "rejected", "tokens" } do all[name]:keep() end
    return { pairs = function() return all end }
  end)
end

--- model has its adapter on.
---@param o { group: string, tokens_at_once: integer|nil, cached: boolean|nil }
---@return { run: fun(), loss: number|nil }
function M.new(model, list, o)
  local pixels, base = M.pixels(model, list), model:base()
  local optimizer = lucid.optim.adamw(model:parameters(), { clip = 1 })
  local steps = lucid.dpo.steps(model, o.cached and kept(base, model, list, pixels, o.group) or base,
    { loss = "sigmoid", options = { beta = 0.1 }, group = o.group, tokens_per_step = o.tokens_at_once or 0 })
  local step = {}
  function step.run()
    step.loss = 0
    native.scope(function()
      with_features(model, list, pixels)
      for _, part in ipairs(steps.split { list }) do
        native.scope(function()
          local value = steps.loss(part)
          value:backward()
          step.loss = step.loss + value:item()
        end)
      end
    end)
    optimizer:step(1e-6)
  end
  return step
end

return M
