-- Arrays of plain Lua numbers and the formulas of the ops over them, in doubles and by definition:
-- the oracle of the native ops. An array is { shape = {...}, [1] = ..., [2] = ... }, row-major.
local M = {}

local function product(list, first, last)
  local n = 1
  for i = first or 1, last or #list do n = n * list[i] end
  return n
end
M.product = product

--- An array of a shape; f(i) gives its elements.
function M.array(shape, f)
  local a = { shape = shape }
  for i = 1, product(shape) do a[i] = f(i) end
  return a
end

local function map(a, f) return M.array(a.shape, function(i) return f(a[i]) end) end
M.map = map

-- ---- functions of one number ----------------------------------------------------------------

--- erf by its Taylor series, and by the continued fraction of erfc where that is slow.
local function erf(x)
  if x < 0 then return -erf(-x) end
  if x > 3 then
    local fraction = 0
    for k = 60, 1, -1 do fraction = k / 2 / (x + fraction) end
    return 1 - math.exp(-x * x) / (x + fraction) / math.sqrt(math.pi)
  end
  local term, sum, n = x, x, 0
  repeat
    n = n + 1
    term = -term * x * x / n
    sum = sum + term / (2 * n + 1)
  until math.abs(term) < 1e-18
  return 2 / math.sqrt(math.pi) * sum
end

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end

local function log1p(t)
  local u = 1 + t
  return u == 1 and t or math.log(u) * t / (u - 1)
end

M.unary = {
  exp = math.exp,
  log = math.log,
  sqrt = math.sqrt,
  abs = math.abs,
  relu = function(x) return math.max(x, 0) end,
  tanh = function(x) return 1 - 2 / (math.exp(2 * x) + 1) end,
  sigmoid = sigmoid,
  log_sigmoid = function(x) return math.min(x, 0) - log1p(math.exp(-math.abs(x))) end,
  gelu = function(x) return x / 2 * (1 + erf(x / math.sqrt(2))) end,
  quick_gelu = function(x) return x * sigmoid(1.702 * x) end,
  silu = function(x) return x * sigmoid(x) end,
}

-- ---- broadcasting -----------------------------------------------------------------------------

--- f over two arrays whose shapes are aligned at the right; dims of size 1 repeat.
function M.binary(f, a, b)
  local n, shape = math.max(#a.shape, #b.shape), {}
  local function size(x, d) return x.shape[d - n + #x.shape] or 1 end
  for d = 1, n do
    shape[d] = size(a, d) == 1 and size(b, d) or size(a, d)
  end
  local function element(x, i)
    local at, step, rest = 0, 1, i - 1
    for d = n, 1, -1 do
      local coordinate = rest % shape[d]
      rest = (rest - coordinate) / shape[d]
      if size(x, d) > 1 then at = at + coordinate * step end
      step = step * size(x, d)
    end
    return x[at + 1]
  end
  return M.array(shape, function(i) return f(element(a, i), element(b, i)) end)
end

-- ---- shapes -----------------------------------------------------------------------------------

--- a with dims p and q (from 1) exchanged
function M.transpose(a, p, q)
  local n, shape, stride, step = #a.shape, {}, {}, 1
  for d = n, 1, -1 do
    shape[d], stride[d] = a.shape[d], step
    step = step * a.shape[d]
  end
  shape[p], shape[q] = shape[q], shape[p]
  stride[p], stride[q] = stride[q], stride[p]
  return M.array(shape, function(i)
    local at, rest = 0, i - 1
    for d = n, 1, -1 do
      local coordinate = rest % shape[d]
      rest = (rest - coordinate) / shape[d]
      at = at + coordinate * stride[d]
    end
    return a[at + 1]
  end)
end

-- a as [outer, middle, inner] around dim d
local function around(a, d)
  return product(a.shape, 1, d - 1), a.shape[d], product(a.shape, d + 1)
end

--- count elements of dim d from its element first (from 1)
function M.slice(a, d, first, count)
  local _, middle, inner = around(a, d)
  local shape = { unpack(a.shape) }
  shape[d] = count
  return M.array(shape, function(i)
    local within, rest = (i - 1) % inner, math.floor((i - 1) / inner)
    local m, o = rest % count, math.floor(rest / count)
    return a[(o * middle + m + first - 1) * inner + within + 1]
  end)
end

function M.cat(list, d)
  local shape = { unpack(list[1].shape) }
  shape[d] = 0
  for _, a in ipairs(list) do shape[d] = shape[d] + a.shape[d] end
  local out, outer = { shape = shape }, around(list[1], d)
  for o = 0, outer - 1 do
    for _, a in ipairs(list) do
      local _, middle, inner = around(a, d)
      for i = 1, middle * inner do out[#out + 1] = a[o * middle * inner + i] end
    end
  end
  return out
end

function M.view(a, shape) return M.array(shape, function(i) return a[i] end) end

--- rows of a by index (from 0); the index's dims replace the first
function M.rows(a, index)
  local shape, width = { unpack(index.shape) }, product(a.shape, 2)
  for d = 2, #a.shape do shape[#shape + 1] = a.shape[d] end
  return M.array(shape, function(i)
    return a[index[math.floor((i - 1) / width) + 1] * width + (i - 1) % width + 1]
  end)
end

-- ---- reductions ---------------------------------------------------------------------------------

function M.sum(a)
  local s = 0
  for i = 1, #a do s = s + a[i] end
  return { shape = {}, s }
end

function M.sum_dim(a, d)
  local outer, middle, inner = around(a, d)
  local out, shape = {}, { unpack(a.shape) }
  table.remove(shape, d)
  out.shape = shape
  for i = 1, outer * inner do out[i] = 0 end
  for o = 0, outer - 1 do
    for m = 0, middle - 1 do
      for i = 1, inner do
        out[o * inner + i] = out[o * inner + i] + a[(o * middle + m) * inner + i]
      end
    end
  end
  return out
end

function M.scale(a, factor) return map(a, function(x) return x * factor end) end

-- f(row) -> row, over the last dim
local function by_rows(a, f)
  local width, out = a.shape[#a.shape], { shape = a.shape }
  for first = 1, #a, width do
    local row = {}
    for i = 1, width do row[i] = a[first + i - 1] end
    local result = f(row)
    for i = 1, width do out[first + i - 1] = result[i] end
  end
  return out
end

local function log_softmax(row)
  local most, sum, out = math.max(unpack(row)), 0, {}
  for i = 1, #row do sum = sum + math.exp(row[i] - most) end
  for i = 1, #row do out[i] = row[i] - most - math.log(sum) end
  return out
end

function M.log_softmax(a) return by_rows(a, log_softmax) end

function M.softmax(a) return map(M.log_softmax(a), math.exp) end

-- ---- norms, positions, patches --------------------------------------------------------------------

function M.rms_norm(x, w, eps)
  return by_rows(x, function(row)
    local squares, out = 0, {}
    for i = 1, #row do squares = squares + row[i] * row[i] end
    for i = 1, #row do out[i] = w[i] * row[i] / math.sqrt(squares / #row + eps) end
    return out
  end)
end

function M.layer_norm(x, w, b, eps)
  return by_rows(x, function(row)
    local mean, variance, out = 0, 0, {}
    for i = 1, #row do mean = mean + row[i] / #row end
    for i = 1, #row do variance = variance + (row[i] - mean) ^ 2 / #row end
    for i = 1, #row do out[i] = (row[i] - mean) / math.sqrt(variance + eps) * w[i] + b[i] end
    return out
  end)
end

--- x [T, H, d], position [T]: the pair (c, c + d/2) turned by position * theta^(-2c/d)
function M.rope(x, position, theta)
  local heads, d = x.shape[2], x.shape[3]
  local half, out = d / 2, { shape = x.shape }
  for t = 1, x.shape[1] do
    for h = 1, heads do
      local at = ((t - 1) * heads + h - 1) * d
      for c = 1, half do
        local angle = position[t] * theta ^ (-2 * (c - 1) / d)
        local cosine, sine, a, b = math.cos(angle), math.sin(angle), x[at + c], x[at + c + half]
        out[at + c], out[at + c + half] = a * cosine - b * sine, b * cosine + a * sine
      end
    end
  end
  return out
end

--- pixels [N, C, H, W], weight [D, C, p, p] -> [N, (H/p)(W/p), D]: a convolution of stride p
function M.patch_embed(x, w)
  local n, channels, height, width = unpack(x.shape)
  local d, p = w.shape[1], w.shape[3]
  local out = { shape = { n, height / p * (width / p), d } }
  for i = 0, n - 1 do
    for row = 0, height - p, p do
      for column = 0, width - p, p do
        for k = 0, d - 1 do
          local sum = 0
          for c = 0, channels - 1 do
            for y = 0, p - 1 do
              for z = 0, p - 1 do
                sum = sum + x[((i * channels + c) * height + row + y) * width + column + z + 1]
                  * w[((k * channels + c) * p + y) * p + z + 1]
              end
            end
          end
          out[#out + 1] = sum
        end
      end
    end
  end
  return out
end

-- ---- losses -----------------------------------------------------------------------------------------

--- mean of -log_softmax(logits)[target] over targets (from 0) that are not -100
function M.cross_entropy(logits, target)
  local logp, width, sum, n = M.log_softmax(logits), logits.shape[2], 0, 0
  for i = 1, #target do
    if target[i] ~= -100 then
      sum, n = sum - logp[(i - 1) * width + target[i] + 1], n + 1
    end
  end
  return { shape = {}, n > 0 and sum / n or 0 }
end

--- log_softmax(hidden[row] . head)[target]
-- The logits of one row: hidden [T, D], head [V, D].
local function logits_of(hidden, head, row)
  local d, logits = head.shape[2], {}
  for k = 1, head.shape[1] do
    local sum = 0
    for c = 1, d do sum = sum + hidden[row * d + c] * head[(k - 1) * d + c] end
    logits[k] = sum
  end
  return logits
end

function M.token_logps(hidden, head, row, target)
  return M.array(row.shape, function(i)
    return log_softmax(logits_of(hidden, head, row[i]))[target[i] + 1]
  end)
end

function M.token_log_squares(hidden, head, row)
  return M.array(row.shape, function(i)
    local sum = 0
    for _, logp in ipairs(log_softmax(logits_of(hidden, head, row[i]))) do sum = sum + math.exp(2 * logp) end
    return math.log(sum)
  end)
end

function M.dpo_loss(pc, pr, rc, rr, beta)
  local sum = 0
  for i = 1, #pc do
    sum = sum - M.unary.log_sigmoid(beta * ((pc[i] - pr[i]) - (rc[i] - rr[i])))
  end
  return { shape = {}, sum / #pc }
end

function M.segment_sum(x, first)
  return M.array({ #first - 1 }, function(s)
    local sum = 0
    for i = first[s] + 1, first[s + 1] do sum = sum + x[i] end
    return sum
  end)
end

return M
