-- Models of random weights that are made where they are needed: the published configurations at other sizes.
--   local m = models.new(models.SMALL, { dtype = "bf16", seed = 1 })
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local model = require "lucid.model"
local published = require "tests.support.published"

local M = {}

--- Heads of 128, as LLaVA's, and little else of it.
M.SMALL = { vision = { width = 128, mlp = 256, layers = 2, heads = 2, size = 56, patch = 14 },
  language = { width = 256, mlp = 512, layers = 2, heads = 2, words = 320, positions = 4096, eps = 1e-5 } }
M.LLAVA_7B = published.LLAVA_7B

--- The opened model, on the device.
---@param sizes table
---@param opt table       { dtype, seed }
function M.new(sizes, opt)
  local dir = folder.folder()
  for _, part in ipairs(published["llava-hf"](sizes)) do
    if part.json then file.write(dir .. "/" .. part.file, json.encode(part.json)) end
  end
  local ok, m = pcall(model.open, dir, { init = true, device = "cuda", dtype = opt.dtype, seed = opt.seed })
  folder.remove(dir)
  return ok and m or error(m, 0)
end

return M
