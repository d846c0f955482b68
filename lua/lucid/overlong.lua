-- Samples that are longer than the model reads. Nothing is ever cut: a picture's rows, a question or an answer that is
-- not whole would be trained on in silence. Such samples stop the run by name, or are left out and counted.
local M = {}

M.OPTIONS = { title = "long samples",
  { "max-length", 0, "most positions of a sample, picture rows with them; 0: as many as the model has", { whole = true } },
  { "over-long", "error", "longer samples stop the run (error) or are left out and counted (skip)", { choices = "error skip" } },
}

local SHOWN = 5

-- The positions of one sequence: of a pair that of its longer answer.
local function length_of(model, sample)
  local ids = sample.ids and #sample.ids or #sample.prompt + math.max(#sample.chosen, #sample.rejected)
  return ids + (sample.image ~= nil and model.image_rows - 1 or 0)
end

--- The samples that fit, and how many do not. Raises their ids unless they are to be skipped.
---@param model lucid.Model
---@param samples table[]      encoded pairs or sequences
---@param opt table            { max_length, over_long }
---@param path string|nil      the data file, for the message
---@return table[] kept, integer left_out
function M.fit(model, samples, opt, path)
  local most = model.positions
  if opt.max_length > 0 then most = math.min(most, opt.max_length) end
  local kept, named, count = {}, {}, 0
  for _, s in ipairs(samples) do
    local n = length_of(model, s)
    if n <= most then
      kept[#kept + 1] = s
    else
      count = count + 1
      if count <= SHOWN then named[count] = ("%s (%d)"):format(tostring(s.id), n) end
    end
  end
  if count > 0 and (opt.over_long ~= "skip" or #kept == 0) then
    error(("%s%d of %d samples are longer than %d positions: %s%s%s"):format(path and path .. ": " or "", count, #samples,
      most, table.concat(named, ", "), count > SHOWN and ", ..." or "",
      #kept > 0 and ". --over-long skip leaves them out" or ""), 0)
  end
  return kept, count
end

return M
