-- AMBER's files (Wang et al. 2023): query_*.json, a list of { id, image, query }; annotations.json, a list of
-- { id, type, truth, hallu }, where truth is "yes" or "no" of a question and for a description the things that
-- are there, with those that models tend to make up under hallu; relation.json, the words that may stand for
-- each thing; safe_words.txt, words that are never held against a description.
local file = require "lucid.file"
local json = require "lucid.json"
local record = require "lucid.data.record"
local responses = require "lucid.data.responses"

local M = {}

local GENERATIVE = "generative"

-- What a question of each type is about; a further type is a relation.
local KINDS = {
  ["discriminative-hallucination"] = "existence",
  ["discriminative-attribute-state"] = "state",
  ["discriminative-attribute-number"] = "number",
  ["discriminative-attribute-action"] = "action",
  ["discriminative-relation"] = "relation",
  relation = "relation",
}

local ANSWERS = { yes = "yes", no = "no" }

--- The annotations: by_id[id] = { kind, truth, hallu }, kind "description" or what a question is about.
---@param path string
---@return table[]
function M.annotations(path)
  local by_id, seen, number = {}, {}, 0
  for value in json.each(path) do
    number = number + 1
    local r = record.of(value, path, number)
    local id, kind = r:id("id"), r:text("type")
    r:once(seen, id, "id")
    if kind == GENERATIVE then
      by_id[id] = { kind = "description", truth = r:texts("truth"), hallu = #r:list("hallu") > 0 and r:texts("hallu") or {} }
    else
      local truth = r:text("truth")
      by_id[id] = { kind = KINDS[kind] or r:wrong("type", "is unknown: '%s'", kind),
        truth = ANSWERS[truth] or r:wrong("truth", "is '%s'; yes and no are possible", truth) }
    end
  end
  if number == 0 then error(path .. ": there are no records in it", 0) end
  return by_id
end

--- The words of the benchmark: related[thing] = words that may stand for it; safe[word].
---@param relations string      relation.json
---@param safe_words string     safe_words.txt
---@return table
function M.words(relations, safe_words)
  local words = { related = {}, safe = {} }
  local r = record.of(json.read(relations), relations, 1)
  for thing in pairs(r.value) do
    words.related[thing] = #r:list(thing) > 0 and r:texts(thing) or {}
  end
  for line in file.read(safe_words):gmatch("[^\r\n]+") do words.safe[line] = true end
  return words
end

-- Puts what is annotated about it into a record.
local function annotate(r, path, annotations)
  local a = annotations[r.id] or error(("%s: there is no annotation of query %d"):format(path, r.id), 0)
  r.kind, r.truth, r.hallu = a.kind, a.truth, a.hallu
  return r
end

--- The queries of a file: { id, image, question, kind, truth, hallu }.
---@param path string
---@param annotations table     of M.annotations
---@return table[]
function M.queries(path, annotations)
  local list, seen = {}, {}
  for value in json.each(path) do
    local r = record.of(value, path, #list + 1, "query")
    local id = r:id("id")
    r:once(seen, id, "id")
    list[#list + 1] = annotate({ id = id, image = r:picture("image"), question = r:text("query") }, path, annotations)
  end
  if #list == 0 then error(path .. ": there are no queries in it", 0) end
  return list
end

--- Records of a file of responses alone, as the benchmark's own program takes it: what is not in the file is
--- not asked.
---@param path string
---@param annotations table
---@param limit integer|nil
---@return table[]
function M.answered(path, annotations, limit)
  local texts, ids = responses.read(path)
  local list = {}
  for i, id in ipairs(ids) do
    list[i] = annotate({ id = id, response = texts[id] }, path, annotations)
    if i == limit then break end
  end
  if #list == 0 then error(path .. ": there are no responses in it", 0) end
  return list
end

--- Gives records what the queries of the same ids say: the picture and the question.
---@param list table[]
---@param queries table[]
function M.name(list, queries)
  local by_id = {}
  for _, q in ipairs(queries) do by_id[q.id] = q end
  for _, r in ipairs(list) do
    local q = by_id[r.id]
    if q then r.image, r.question = q.image, q.question end
  end
end

--- Gives records their pictures' files under a root; a picture that is not there is an error.
---@param root string
---@param list table[]
function M.locate(root, list)
  for _, r in ipairs(list) do
    local path = root .. "/" .. r.image
    if not file.exists(path) then error(("amber: there is no picture %s"):format(path), 0) end
    r.image = path
  end
end

return M
