-- What a run trains, module by module: layers that differ by their number alone are one module.
local M = {}

-- "model.layers.3.self_attn.q_proj.lora_A.weight" -> "model.layers.*.self_attn.q_proj (adapter)"
local function module_of(name)
  local module = name:gsub("%.%d+%f[.]", ".*")
  local layer = module:match("^(.*)%.lora_[AB]%.weight$")
  return layer and layer .. " (adapter)" or (module:gsub("%.[^.]+$", ""))
end

---@class lucid.TrainedModule
---@field module string
---@field tensors integer
---@field numbers integer

--- The modules of a list of { name, tensor }, in its order.
---@param parameters table[]
---@return lucid.TrainedModule[]
function M.modules(parameters)
  local list, at = {}, {}
  for _, p in ipairs(parameters) do
    local name = module_of(p.name)
    if not at[name] then
      at[name] = { module = name, tensors = 0, numbers = 0 }
      list[#list + 1] = at[name]
    end
    at[name].tensors = at[name].tensors + 1
    at[name].numbers = at[name].numbers + p.tensor:count()
  end
  return list
end

--- The same as lines of a table, the sum last.
---@param parameters table[]
---@return string
function M.table(parameters)
  local list = M.modules(parameters)
  local sum = { module = "all", tensors = 0, numbers = 0 }
  for _, m in ipairs(list) do
    sum.tensors, sum.numbers = sum.tensors + m.tensors, sum.numbers + m.numbers
  end
  list[#list + 1] = sum
  local width, lines = #"trained", {}
  for _, m in ipairs(list) do width = math.max(width, #m.module) end
  local row = ("%%-%ds  %%8s  %%13s\n"):format(width)
  lines[1] = row:format("trained", "tensors", "numbers")
  for _, m in ipairs(list) do
    lines[#lines + 1] = row:format(m.module, ("%d"):format(m.tensors), ("%.0f"):format(m.numbers))
  end
  return table.concat(lines)
end

return M
