-- Step 0 of preference training: an adapter that begins at zero changes no bit, so the policy is the reference. Where
-- it is not, rewards would be measured from somewhere else than the start.
local M = {}

--- Has the first batch's policy compared with its reference; says why not where the adapter is not new.
---@param settings lucid.DpoOptions
---@param opt table        { adapter, reference_free, instruction_pairing, quiet }
---@param run lucid.TrainingRun
function M.watch(settings, opt, run)
  local reason = run.from and "the run goes on from a checkpoint" or opt.adapter ~= "" and "--adapter is not new"
    or opt.reference_free and "there is no reference"
    or opt.instruction_pairing == "independent" and "each reads an instruction of its own (--instruction-pairing)"
  settings.compare = not reason
  if reason and not opt.quiet then
    io.stderr:write(("step 0: policy and reference are not compared: %s\n"):format(reason))
  end
end

--- Raises where two scorings of the same pairs differ in a bit.
---@param policy lucid.PairLogps
---@param reference lucid.PairLogps
---@param batch lucid.EncodedPair[]
function M.compare(policy, reference, batch)
  local p, r, first = policy.tokens:tolist(), reference.tokens:tolist(), policy.first
  for i = 1, #p do
    if p[i] ~= r[i] then
      local answer = 1
      while first[answer + 1] <= i do answer = answer + 1 end
      local place = ("pair %s, token %d of its %s answer"):format(tostring(batch[math.ceil(answer / 2)].id),
        i - first[answer] + 1, answer % 2 == 1 and "chosen" or "rejected")
      if p[i] ~= p[i] and r[i] ~= r[i] then
        error(("step 0: the model gives no number before anything is trained: %s; lucid inspect --check finds "
          .. "weights that are none"):format(place), 0)
      end
      error(("step 0: policy and reference differ before anything is trained: %s, %.9g and %.9g; "
        .. "the reference is not the policy with its adapter off, or the numbers of this device depend on the batch"):format(
        place, p[i], r[i]), 0)
    end
  end
end

return M
