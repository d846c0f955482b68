-- Log-probabilities of pairs: what losses take of the policy and of the reference, wherever it comes from.
local tensor = require "lucid.tensor"

local M = {}

---@class lucid.PairLogps
---@field chosen any            [N] sums of log-probabilities
---@field rejected any          [N]
---@field chosen_count any      [N] tokens
---@field rejected_count any    [N]
---@field tokens any            [n] every scored token
---@field first integer[]       where each of the 2 N answers begins in tokens
---@field log_squares any|nil    [n] log sum of p^2 over the vocabulary at each scored token

--- The sums of the answers chosen 1, rejected 1, chosen 2, ... of their tokens' values.
---@param tokens lucid.Tensor    [n]
---@param first integer[]        where each answer begins, from 1; one more than there are answers
---@param index lucid.Tensor     the same from 0
---@return lucid.PairLogps
function M.of_pairs(tokens, first, index)
  local n = (#first - 1) / 2
  local sums = tokens:segment_sum(index):view(n, 2)
  local chosen, rejected = {}, {}
  for i = 1, n do
    chosen[i] = first[2 * i] - first[2 * i - 1]
    rejected[i] = first[2 * i + 1] - first[2 * i]
  end
  return {
    chosen = sums:slice(2, 1, 1):view(n),
    rejected = sums:slice(2, 2, 2):view(n),
    chosen_count = tensor(chosen),
    rejected_count = tensor(rejected),
    tokens = tokens,
    first = first,
  }
end

return M
