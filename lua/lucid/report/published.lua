-- What the HA-DPO paper publishes of its three models: SHR, and POPE by the confusion counts that its figures come
-- from. Of 1,500 questions with the answer yes and 1,500 with no, tp are found and fp are taken for a yes.
local M = {}

-- { tp, fp } of a set without and with HA-DPO; the rest follows.
M.MODELS = {
  { name = "MiniGPT-4-Llama2-7B", pattern = "minigpt%-?4", shr = { 47.3, 44.4 }, pope = {
    random = { { 1497, 1463 }, { 1175, 91 } },
    popular = { { 1493, 1449 }, { 1175, 290 } },
    adversarial = { { 1495, 1457 }, { 1175, 405 } } } },
  { name = "InstructBLIP-13B", pattern = "instructblip.*13b", shr = { 51.2, 49.1 }, pope = {
    random = { { 1409, 248 }, { 1291, 96 } },
    popular = { { 1409, 468 }, { 1291, 218 } },
    adversarial = { { 1409, 674 }, { 1291, 370 } } } },
  { name = "LLaVA-1.5-7B", pattern = "llava.*1%.5.*7b", shr = { 36.7, 34.0 }, pope = {
    random = { { 1360, 172 }, { 1315, 99 } },
    popular = { { 1360, 274 }, { 1315, 178 } },
    adversarial = { { 1360, 467 }, { 1315, 371 } } } },
}

local EACH = 1500     -- questions of either answer

M.NOTE = "Published: the HA-DPO paper's figures, from the confusion counts behind them, cut to two decimals as the "
  .. "paper does. Three of its figures (F1 67.72 and 87.81, yes ratio 50.03) do not fit its counts; here they are "
  .. "67.22, 87.87 and 50.30."

--- The published model that a folder's path names, or nil.
---@param path string
---@return table
function M.of(path)
  local text = path:lower():gsub("_", "-")
  for _, model in ipairs(M.MODELS) do
    if text:find(model.pattern) then return model end
  end
end

-- A percentage cut to two decimals. The counts are whole, so a hair more than nothing is rounding.
local function cut(a, b) return ("%.2f"):format(math.floor(1e4 * a / b + 1e-6) / 100) end

--- A set's figures as they are printed, and the counts.
---@param counts integer[]     tp, fp
---@return table<string, string>
function M.figures(counts)
  local tp, fp = counts[1], counts[2]
  local tn, fn = EACH - fp, EACH - tp
  return { accuracy = cut(tp + tn, 2 * EACH), precision = cut(tp, tp + fp), recall = cut(tp, EACH),
    f1 = cut(2 * tp, 2 * tp + fp + fn), yes_ratio = cut(tp + fp, 2 * EACH) }
end

return M
