-- Published settings: what the programs of each kind of model hand to generate for a task. A further model or task
-- is a further entry. Names and meanings are those of lucid.GenerateOptions; what is not named has its
-- default. length_norm is "full" throughout: all of these programs ran on transformers before 4.36.
--
--   shr    a description, "Describe this image in detail."
--   pope   a yes/no question
local M = {}

-- MiniGPT-4's programs end an answer at these ids and cut its text at "###".
local HASHES = { stop_ids = { { 835 }, { 2277, 29937 } }, stop = { "###" } }

-- What becomes of MiniGPT-4's answers. The characters are meant to take "</s>" away and take more: of "Yes" they
-- leave "Ye". pope stops reading at the first full stop, as the scoring does, unless answers are to be whole.
local CLEAN = { after = "Assistant:", strip = "</s>" }

M.TASKS = "shr pope"

M.SETTINGS = {
  llava = {
    shr = { beams = 5, max_new_tokens = 512 },
    pope = { max_new_tokens = 512 },
  },
  minigpt4 = {
    shr = { beams = 5, max_new_tokens = 300, min_length = 1, stop_ids = HASHES.stop_ids, stop = HASHES.stop },
    pope = { max_new_tokens = 300, min_length = 1, stop_ids = HASHES.stop_ids, stop = HASHES.stop, clean = CLEAN },
  },
  instructblip = {
    shr = { beams = 5, max_length = 256, min_length = 1, repetition_penalty = 1.5 },
    pope = { beams = 5, max_length = 256, min_length = 1, repetition_penalty = 1.5 },
  },
}

--- A kind of model's settings for a task.
---@param kind string     "llava", "minigpt4", "instructblip"
---@param task string     "shr", "pope"
---@return lucid.GenerateOptions
function M.settings(kind, task)
  local known = M.SETTINGS[kind] and M.SETTINGS[kind][task]
    or error(("there are no published settings of %s for '%s'; tasks are %s"):format(kind, task,
      (M.TASKS:gsub(" ", " and "))), 0)
  local settings = { length_norm = "full" }
  for name, value in pairs(known) do settings[name] = value end
  return settings
end

return M
