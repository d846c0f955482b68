-- What a line of a stage's file has to hold where its picture is not left out: people edit these files, and what is
-- wrong there is said with the file, the line and the key.
local M = {}

-- Whether entries are texts, of whatever bytes: what a model says may hold any.
local function texts(r, name)
  for i, text in ipairs(r:find(name)) do
    if type(text) ~= "string" then r:wrong(name, "has an entry %d that is no text", i) end
  end
end

-- A list with an entry, at least.
local function some_texts(r, name)
  if #r:list(name) == 0 then r:wrong(name, "is an empty list") end
  texts(r, name)
end

local function questions(r)
  for _, q in r:parts("questions", "question") do
    q:answer "question"
    q:answer "chosen"
    q:answer "rejected"
    local answer = q:text "answer"
    if answer ~= "yes" and answer ~= "no" then q:wrong("answer", "is neither yes nor no") end
  end
end

local function pairs_of(r, name)
  for _, p in r:parts(name, "pair") do
    p:text "source"
    if not p:find "lost" then
      some_texts(p, "chosen")
      some_texts(p, "rejected")
    end
  end
end

local CHECKS = {
  select = function(r) r:text "image" end,     -- a path of this machine: --images may lead anywhere
  describe = function(r) r:answer "response" end,
  correct = function(r)
    r:answer "response"
    r:answer "corrected"
    r:count "faults"
    if type(r:find "made_up") ~= "table" then r:list "made_up" end        -- an empty one is written as an object
    texts(r, "made_up")
    for _, s in r:parts("sentences", "sentence") do
      s:answer "text"
      s:text "label"
    end
  end,
  rewrite = function(r) pairs_of(r, "pairs") end,
  questions = questions,
  check = questions,
  gate = function(r)
    pairs_of(r, "descriptions")
    questions(r)
  end,
}

--- The check of a stage's lines by its file's name: function(record), or nil.
---@param path string       .../3-correct.jsonl
---@return function
function M.of(path) return CHECKS[path:match("(%l+)%.jsonl$")] end

return M
