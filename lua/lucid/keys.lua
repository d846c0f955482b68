-- The keys of a table, sorted: pairs() has no order, and what is written or shown should have one.

---@param t table        its keys are texts, or numbers
---@return any[]
return function(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end
