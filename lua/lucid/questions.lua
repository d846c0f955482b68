-- A model's training prompts by question, each made once: the same few instructions are asked again and again.

---@param model table
---@return fun(question: string): integer[]
return function(model)
  local known = {}
  return function(question)
    local ids = known[question]
    if not ids then
      ids = model.template:tokens(model.tokenizer, question, { train = true })
      known[question] = ids
    end
    return ids
  end
end
