-- Losses against TRL: tests/golden/losses, whose script says how the numbers were made. Values, slopes by the
-- policy's tokens, and what is logged.
local lucid = require "lucid"
local native = require "lucid.native"
local golden = require "tests.support.golden"

local want = lucid.json.read(native.root .. "tests/golden/losses/losses.json")

-- What model:pairs gives, made of every answer's tokens.
local function scored(answers, log_squares)
  local tokens, first, counts = {}, { 1 }, { {}, {} }
  for i, answer in ipairs(answers) do
    for _, logp in ipairs(answer) do tokens[#tokens + 1] = logp end
    first[i + 1] = #tokens + 1
    table.insert(counts[2 - i % 2], #answer)
  end
  local leaf, from = lucid.tensor(tokens), {}
  leaf:requires_grad(true)
  for i, at in ipairs(first) do from[i] = at - 1 end
  local sums = leaf:segment_sum(lucid.tensor(from, { dtype = "i32" })):view(-1, 2)
  local squares = {}
  for _, answer in ipairs(log_squares or {}) do
    for _, v in ipairs(answer) do squares[#squares + 1] = v end
  end
  return { chosen = sums:slice(2, 1, 1):view(-1), rejected = sums:slice(2, 2, 2):view(-1),
    chosen_count = lucid.tensor(counts[1]), rejected_count = lucid.tensor(counts[2]), tokens = leaf, first = first,
    log_squares = log_squares and lucid.tensor(squares) }
end

local function title(row)
  local words = {}
  for name, value in pairs(row.options) do words[#words + 1] = name .. " " .. tostring(value) end
  table.sort(words)
  return row.loss .. " (" .. table.concat(words, ", ") .. ")"
end

describe("losses as TRL computes them:", function()
  for _, row in ipairs(want.losses) do
    it(title(row), function()
      local policy, reference = scored(want.tokens, want.log_squares), scored(want.reference)
      local loss, stats = lucid.loss[row.loss](policy, reference, row.options)
      golden.agree({ loss:item() }, { row.value }, 1e-5, "loss")
      loss:backward()
      local slopes = {}
      for i, answer in ipairs(want.tokens) do
        for j = 1, #answer do
          local slope = row.slope[i]
          slopes[#slopes + 1] = type(slope) == "table" and slope[j] or slope
        end
      end
      golden.agree(policy.tokens.grad, slopes, 1e-5, "slope")
      for name, value in pairs(row.metrics or {}) do golden.agree({ stats[name] }, { value }, 1e-5, name) end
    end)
  end
end)
