-- Judges: who labels, corrects, rewrites and answers. lucid.judge.NAME { ... }:ask(requests) -> replies, in the
-- requests' order: one file each in judge/. A recipe takes all their options as one group:
--
--   local opt = lucid.args { groups = { lucid.judge.options }, ... }
--   local judge = lucid.judge.open(opt, { nouns = nouns })
--   local replies = judge:ask { { kind = "judge", text = prompt, sentences = {...}, accept = parse } }
--
-- A request of any judge may carry, beside its fields (lucid.JudgeRequest):
--   accept    function(text) -> whether it can be read. A judge that may answer otherwise the next time is asked again,
--             `retries` times at most; then reply.accepted is false and its text the last one
--   retries   in place of --judge-retries
--   sample    a number that tells repeated requests apart: equal requests with equal numbers are asked once
--
-- A reply has text and, by the judge, labels, usage { prompt_tokens, completion_tokens }, attempts, and what went
-- otherwise than well: accepted = false, refused (with the reason as text), empty, too_long, cut (at the most tokens).
-- A judge that counts these has them in judge.counts, and what it is in judge.identity, for results.
--
-- In a job of several processes the judge is rank 0's: journal and budget are one.
local native = require "lucid.native"
local plug = require "lucid.plug"

local M = plug("judge")

local WHOLE = { whole = true }

-- Options are written into config.json.
local function no_secret(text)
  if text:find("@", 1, true) then error("a name or a password does not belong into the endpoint", 0) end
end

M.options = {
  title = "the judge",
  { "judge", "annotation", "annotation, openai, local, replay, or a .lua file", { check = plug.check("judge", "none") } },
  { "judge-model", "", "openai: the model's name, empty: gpt-4; local: a model folder" },
  { "judge-adapter", "", "local: an adapter folder, checkpoint or run of its model" },
  { "judge-retries", 2, "times that an answer which cannot be read is asked for again", WHOLE },
  { "judge-batch", 16, "local: requests answered together", { whole = true, min = 1 } },
  { "journal", "", "file of all answers, which are never asked for again; empty: OUT/judge.jsonl; replay: the recording" },
  { "base-url", "", "openai: the endpoint; empty: $OPENAI_BASE_URL, else https://api.openai.com/v1", { check = no_secret } },
  { "api-key-file", "", "openai: file of the key, its owner's alone; empty: $OPENAI_API_KEY" },
  { "ca-file", "", "openai: certificates that are trusted in place of the system's" },
  { "judge-parameters", "", "openai: JSON file of fields of the request's body; null takes one out" },
  { "concurrency", 8, "openai: requests in flight", { whole = true, min = 1, max = 1000 } },
  { "requests-per-minute", 0, "openai: most requests a minute; 0: any", WHOLE },
  { "tokens-per-minute", 0, "openai: most tokens a minute; 0: any", WHOLE },
  { "judge-tries", 6, "openai: tries of a request that meets faults", { whole = true, min = 1 } },
  { "judge-timeout", 300, "openai: seconds until an answer has to be whole", { min = 0.1 } },
  { "max-requests", 0, "openai: stop before the journal and this run have more requests; 0: any", WHOLE },
  { "max-cost", 0, "openai: stop before the journal's answers cost more dollars; 0: any" },
  { "price-in", 0, "openai: dollars for a million tokens of prompts; 0: the model's list price" },
  { "price-out", 0, "openai: dollars for a million tokens of answers; 0: the model's list price" },
  { "batch-file", "", "openai: ask by a batch file (half the price): written now, its answers read by the next run" },
}

-- What a judge's constructor calls an option; others keep their name.
local FIELD = { judge_model = "model", judge_adapter = "adapter", judge_retries = "retries", judge_batch = "batch", judge_tries = "tries",
  judge_timeout = "timeout", judge_parameters = "parameters" }

--- The settings that a recipe's parsed options ask of a judge: what was not given or is 0 or empty is nil.
---@param opt table
---@param more table|nil     what the recipe adds, as nouns
---@return table
function M.settings(opt, more)
  local settings = {}
  for _, o in ipairs(M.options) do
    local field = o[1]:gsub("-", "_")
    local value = opt[field]
    if value ~= "" and (value ~= 0 or field == "judge_retries") then settings[FIELD[field] or field] = value end
  end
  if not settings.journal and (opt.out or "") ~= "" then settings.journal = opt.out .. "/judge.jsonl" end
  settings.device, settings.dtype, settings.quiet = opt.device, opt.dtype, opt.quiet
  for name, value in pairs(more or {}) do settings[name] = value end
  return settings
end

-- What the other ranks have.
local elsewhere = { ask = function() error("judge: rank 0 alone asks it", 2) end }

--- Opens the judge that a recipe's parsed options name.
---@param opt table
---@param more table|nil       what the recipe adds, as nouns
---@return table|nil judge     judge:ask(requests) -> replies; nil for --judge none
function M.open(opt, more)
  if opt.judge == "none" then return nil end
  if native.C.lc_comm_rank() ~= 0 then return elsewhere end
  local settings = M.settings(opt, more)
  if opt.judge == "replay" then settings.path = opt.journal ~= "" and opt.journal or nil end
  return M[opt.judge].new(settings)
end

return M
