-- token_logps with a frozen head, whose gradient the forward pass makes: the same as with a trained head, whose backward
-- computes the logits again.
local lucid = require "lucid"

-- Gradients of hidden for n (row, target) pairs, more than a chunk, of few rows: they repeat.
local function gradient(dtype, trained, n)
  local rows, targets, rng = {}, {}, require "lucid.rng"(4, "logps")
  for i = 1, n do rows[i], targets[i] = rng:integer(7) - 1, rng:integer(33) - 1 end
  local hidden = lucid.randn({ 7, 24 }, { seed = 1, dtype = dtype })
  local head = lucid.randn({ 33, 24 }, { seed = 2, dtype = dtype })
  hidden:requires_grad(true)
  head:requires_grad(trained)
  local y = lucid.token_logps(hidden, head, lucid.tensor(rows, { dtype = "i32" }), lucid.tensor(targets, { dtype = "i32" }))
  local weight = lucid.randn({ n }, { seed = 3 })
  ;(y * weight):sum():backward()
  assert.equal(trained, head.grad ~= nil)
  return hidden.grad
end

-- ||a - b|| / ||b||
local function distance(a, b)
  local d = a - b
  return math.sqrt((d * d):sum():item() / (b * b):sum():item())
end

describe("token_logps", function()
  for dtype, bound in pairs { f32 = 1e-6, bf16 = 6e-3, f16 = 1e-3 } do
    it("has one gradient in " .. dtype .. ", whether its head is frozen or trained", function()
      local d = distance(gradient(dtype, false, 300), gradient(dtype, true, 300))
      assert.is_true(d <= bound, tostring(d))
    end)
  end
end)
