-- What the published training programs do beside the method, or against it: an option each, off unless asked for one by
-- one or, all that a model had, by --as-published. What is named here says in the report of a run's start what is on.
local M = {}

---@class lucid.Quirk
---@field option string
---@field of string              the models that were trained so
---@field value any              what the option is then
---@field default any            what it is otherwise; nil: an option that recipes have anyway
---@field help string
---@field choices string|nil

---@type lucid.Quirk[]
M.LIST = {
  { option = "train-projector", of = "llava", default = false, value = true,
    help = "the projector is trained, too, and saved with the adapter; the reference sees what becomes of it" },
  { option = "instruction-pairing", of = "minigpt4", default = "shared", value = "independent", choices = "shared independent",
    help = "policy and reference read a description's one instruction (shared) or each draws its own (independent)" },
  { option = "random-crops", of = "minigpt4 instructblip", default = false, value = true,
    help = "pictures are random parts: descriptions' every time anew" },
  { option = "quant", of = "minigpt4", value = "fp4" },
  { option = "train-ln-vision", of = "instructblip", default = false, value = true,
    help = "the norm behind the tower is trained, which the reference sees, and is not saved" },
  { option = "sync", of = "minigpt4 instructblip", value = "none" },
}

-- What no option can bring back.
local LOST = "the order of pairs and the crops (torch's generator), instructions after the first draw (Python's, as it then "
  .. "stood), half precision where policy and reference round differently, the cut of long texts (--over-long)"

local function quirks_of(model)
  local list = {}
  for _, q in ipairs(M.LIST) do
    if (" " .. q.of .. " "):find(" " .. model .. " ", 1, true) then list[#list + 1] = q end
  end
  return list
end

--- The options of a model's quirks (groups = { quirks.options "llava" }).
---@param model string           "llava", "minigpt4", "instructblip"
---@return table[]
function M.options(model)
  local list = { title = "as published" }
  local names = {}
  for _, q in ipairs(quirks_of(model)) do
    names[#names + 1] = "--" .. q.option .. (type(q.value) == "string" and " " .. q.value or "")
    if q.default ~= nil then list[#list + 1] = { q.option, q.default, q.help, { choices = q.choices } } end
  end
  table.insert(list, 1, { "as-published", false, ("all that the paper's program did: %s"):format(table.concat(names, ", ")) })
  return list
end

--- With --as-published, turns on what the user has not set.
---@param model string
---@param opt table              parsed options
function M.apply(model, opt)
  if not opt.as_published then return end
  for _, q in ipairs(quirks_of(model)) do
    if not opt.given[q.option] then opt[q.option], opt[q.option:gsub("%-", "_")] = q.value, q.value end
  end
end

--- Which are on and which are off, in lines.
---@param model string
---@param opt table
---@return string
function M.report(model, opt)
  local words = {}
  for i, q in ipairs(quirks_of(model)) do
    local value = opt[q.option]
    if type(value) == "boolean" then value = value and "on" or "off" end
    words[i] = ("--%s %s"):format(q.option, value)
  end
  return ("quirks: %s\n%s"):format(table.concat(words, ", "),
    opt.as_published and ("not as published, since it cannot be: %s\n"):format(LOST) or "")
end

return M
