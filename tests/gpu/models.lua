-- Models of random weights on the device: lucid.bench.models at the sizes of its tests.
--   local m = models.new(models.SMALL, { dtype = "bf16", seed = 1 })
local models = require "lucid.bench.models"

local M = {}

--- Heads of 128, as LLaVA's, and little else of it.
M.SMALL = { vision = { width = 128, mlp = 256, layers = 2, heads = 2, size = 56, patch = 14 },
  language = { width = 256, mlp = 512, layers = 2, heads = 2, words = 320, positions = 4096 } }
M.LLAVA_7B = models.LLAVA_7B

--- The opened model, on the device.
---@param sizes table
---@param opt table       { dtype, seed }
function M.new(sizes, opt) return models.new(sizes, { device = "cuda", dtype = opt.dtype, seed = opt.seed }) end

return M
