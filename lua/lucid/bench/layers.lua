-- Rows of the bench: a decoder's layers at LLaVA-1.5-7B's widths, one kernel each.
local limits = require "lucid.bench.limits"
local work = require "lucid.bench.work"

local M = {}

local WIDTH, MLP, HEAD, WORDS, RANK = 4096, 11008, 128, 32064, 128
local TRUNK, ANSWER = 636, 175          -- tokens of a pair: picture and question, either answer

-- The seven linears of a block.
local BLOCK = { { WIDTH, WIDTH }, { WIDTH, WIDTH }, { WIDTH, WIDTH }, { WIDTH, WIDTH }, { MLP, WIDTH }, { MLP, WIDTH },
  { WIDTH, MLP } }

local function with(o, fields)
  fields.device, fields.dtype = o.device, fields.dtype or o.dtype
  return fields
end

--- Times the rows of single layers.
---@param add fun(row: lucid.BenchRow)
---@param o lucid.BenchOptions
function M.rows(add, o)
  local rows, width, mlp = o.size(limits.ROWS, 4), o.size(WIDTH, 128), o.size(MLP, 128)
  local function linear(dtype, n, k)
    n, k = o.size(n, 32), o.size(k, 32)
    add { group = "linear", about = ("linear forward, %s, %s"):format(dtype, limits.shape(rows, n, k)), limit = dtype,
      shape = dtype .. limits.shape(rows, n, k),
      make = function() return work.linear(with(o, { dtype = dtype, rows = rows, n = n, k = k })) end }
  end
  for _, shape in ipairs(limits.SHAPES) do linear(o.dtype, shape[1], shape[2]) end
  if o.dtype ~= "f32" then linear("f32", unpack(limits.SHAPES[1])) end

  add { group = "lora", about = ("a block's linears with LoRA of rank %d, forward and backward, %d rows"):format(
    o.size(RANK, 4), rows), limit = o.dtype, make = function()
    local shapes = {}
    for i, s in ipairs(BLOCK) do shapes[i] = { o.size(s[1], 32), o.size(s[2], 32) } end
    return work.lora(with(o, { rows = rows, rank = o.size(RANK, 4), shapes = shapes }))
  end }

  local answer = o.size(ANSWER, 4)
  local segments = { { length = o.size(TRUNK, 16) }, { parent = 1, length = answer }, { parent = 1, length = answer } }
  for _, backward in ipairs { false, true } do
    add { group = "attention", about = ("attention over a pair's forest, %s"):format(
      backward and "forward and backward" or "forward"), limit = o.dtype, make = function()
      return work.attention(with(o, { segments = segments, heads = width / HEAD, d = HEAD, backward = backward }))
    end }
  end

  local many = o.size(8192, 16)
  for _, kernel in ipairs { "rms_norm", "rope", "swiglu", "add" } do
    local columns = kernel == "swiglu" and mlp or width
    add { group = "memory", about = ("%s, %d x %d"):format(kernel, many, columns), limit = "copy",
      make = function() return work.memory(with(o, { kernel = kernel, rows = many, width = columns })) end }
  end
  local parameters = o.size(4e7, 4096)
  add { group = "adamw", about = ("AdamW with the gradients' norm, %.0f million parameters"):format(parameters / 1e6),
    limit = "copy", make = function() return work.adamw(with(o, { parameters = parameters })) end }
  add { group = "cross-entropy", about = ("cross-entropy, forward and backward, %d x %d"):format(rows, o.size(WORDS, 64)),
    limit = "copy", make = function() return work.cross_entropy(with(o, { rows = rows, words = o.size(WORDS, 64) })) end }
end

return M
