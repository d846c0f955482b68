-- Published settings: what the programs of each kind of model hand to generate for a task. A further model or task
-- is a further entry. Names and meanings are those of lucid.GenerateOptions; what is not named has its
-- default. length_norm is "full" throughout: all of these programs ran on transformers before 4.36.
--
--   shr    a description, "Describe this image in detail."
--   pope   a yes/no question
--
-- What the programs make of the texts themselves is left out where it can turn an answer into its opposite, unless it is
-- asked for: TEXTS.
local M = {}

-- MiniGPT-4's programs end an answer at these ids and cut its text at "###".
local HASHES = { stop_ids = { { 835 }, { 2277, 29937 } }, stop = { "###" } }

-- Answers to yes/no questions are trimmed.
local TRIMMED = {}

M.TASKS = "shr pope"

M.SETTINGS = {
  llava = {
    shr = { beams = 5, max_new_tokens = 512 },
    pope = { max_new_tokens = 512, clean = TRIMMED },
  },
  minigpt4 = {
    shr = { beams = 5, max_new_tokens = 300, min_length = 1, stop_ids = HASHES.stop_ids, stop = HASHES.stop },
    pope = { max_new_tokens = 300, min_length = 1, stop_ids = HASHES.stop_ids, stop = HASHES.stop,
      clean = TRIMMED },
  },
  instructblip = {
    shr = { beams = 5, max_length = 256, min_length = 1, repetition_penalty = 1.5 },
    pope = { beams = 5, max_length = 256, min_length = 1, repetition_penalty = 1.5, clean = TRIMMED },
  },
}

-- What the programs make of their texts. LLaVA's leaves "</s>" behind an answer that has ended, and "No</s>" is no official
-- no. MiniGPT-4's takes characters away that are meant to be "</s>" and are more: of "Yes" they leave "Ye".
M.TEXTS = {
  llava = { pope = { ended = true } },
  minigpt4 = { pope = { ended = true, after = "Assistant:", strip = "</s>" } },
}

--- A kind of model's settings for a task.
---@param kind string        "llava", "minigpt4", "instructblip"
---@param task string        "shr", "pope"
---@param texts boolean|nil   the texts, too, are as the programs leave them
---@return lucid.GenerateOptions
function M.settings(kind, task, texts)
  local known = M.SETTINGS[kind] and M.SETTINGS[kind][task]
    or error(("there are no published settings of %s for '%s'; tasks are %s"):format(kind, task,
      (M.TASKS:gsub(" ", " and "))), 0)
  local settings = { length_norm = "full" }
  for name, value in pairs(known) do settings[name] = value end
  if texts then settings.clean = M.TEXTS[kind] and M.TEXTS[kind][task] or settings.clean end
  return settings
end

return M
