-- The noun table: which words of a text name which kinds of things. Made from categories.json (a
-- list of { name, synonyms }, or an object { categories = that list, colours =, closed = }), from
-- COCO's category list, or from lines "name, synonym, synonym, ...". Plurals follow by rule.
-- lua/lucid/metric/coco.json is a whole one.
--
-- ignore: phrases that name none of the things though they hold their words: "train station".
-- before: a list of { words, of }: words that belong to the thing named behind them, to any or to those
-- in `of`: a "baby elephant" is no baby.
-- closed: the pictures hold nothing but these things, so a sentence that names none of them is made
-- up.
local file = require "lucid.file"
local json = require "lucid.json"
local native = require "lucid.native"

local M = {}
local Nouns = {}
Nouns.__index = Nouns

--- Colours that are told apart when a table names none.
M.COLOURS = { "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black",
  "white", "gray" }

local IRREGULAR = {
  man = "men", woman = "women", person = "people", mouse = "mice",
  sheep = "sheep", foot = "feet", tooth = "teeth", goose = "geese", knife = "knives",
  wife = "wives", leaf = "leaves", shelf = "shelves", half = "halves", calf = "calves",
  wolf = "wolves", loaf = "loaves", scarf = "scarves", fish = "fish", deer = "deer", ox = "oxen",
  bison = "bison", aircraft = "aircraft",
  human = "humans", ottoman = "ottomans", german = "germans", roman = "romans", talisman = "talismans",
}

-- The others: the first ending that fits, and what stands in place of it.
local RULES = {
  { "man$", "men" },
  { "child$", "children" },
  { "([sxz])$", "%1es" },
  { "([cs]h)$", "%1es" },
  { "([^aeiou])y$", "%1ies" },
  { "$", "s" },
}

--- The plural of a phrase: of its last word.
---@param phrase string
---@return string
function M.plural(phrase)
  local head, word = phrase:match("^(.-)(%S+)$")
  if not word then return phrase end
  if IRREGULAR[word] then return head .. IRREGULAR[word] end
  for _, rule in ipairs(RULES) do
    if word:find(rule[1]) then return head .. word:gsub(rule[1], rule[2], 1) end
  end
end

--- "a" or "an", by the letter.
---@param word string
---@return string
function M.article(word)
  return word:find("^[aeiouAEIOU]") and "an" or "a"
end

-- A phrase and its plural mean a thing; false: nothing. What was there before them stays.
local function add(self, phrase, name)
  phrase = phrase:lower():gsub("%s+", " "):match("^%s*(.-)%s*$")
  if phrase == "" then return end
  for _, form in ipairs { phrase, M.plural(phrase) } do
    if self.forms[form] == nil then self.forms[form] = name end
    local _, spaces = form:gsub(" ", "")
    self.longest = math.max(self.longest, spaces + 1)
  end
end

-- Puts words before the phrases of some categories, or of all.
local function add_before(self, categories, rule)
  local meant
  for _, name in ipairs(rule.of or {}) do
    meant = meant or {}
    meant[name] = self.known[name] or error(("noun table: before: there is no category '%s'"):format(name), 0)
  end
  for _, c in ipairs(categories) do
    for _, word in ipairs((not meant or meant[c.name]) and rule.words or {}) do
      add(self, word .. " " .. c.name, c.name)
      for _, synonym in ipairs(c.synonyms or {}) do add(self, word .. " " .. synonym, c.name) end
    end
  end
end

---@class lucid.Category
---@field name string
---@field synonyms string[]|nil

--- A noun table of categories.
---@param categories lucid.Category[]
---@param opt table|nil    closed: boolean; colours: string[]; ignore: string[]; before: { words, of }[]
---@return table
function M.new(categories, opt)
  opt = opt or {}
  local self = setmetatable({ names = {}, known = {}, forms = {}, longest = 1, colours = {},
    closed = opt.closed == true }, Nouns)
  for i, c in ipairs(categories) do
    if type(c) ~= "table" or type(c.name) ~= "string" then
      error(("noun table: category %d has no name"):format(i), 2)
    end
    self.names[i] = c.name
    self.known[c.name] = true
    add(self, c.name, c.name)
  end
  for _, c in ipairs(categories) do
    for _, synonym in ipairs(c.synonyms or {}) do add(self, synonym, c.name) end
  end
  for _, phrase in ipairs(opt.ignore or {}) do add(self, phrase, false) end
  for _, rule in ipairs(opt.before or {}) do add_before(self, categories, rule) end
  for _, colour in ipairs(opt.colours or M.COLOURS) do self.colours[colour] = colour end
  if self.colours.gray then self.colours.grey = "gray" end
  return self
end

local function from_lines(path)
  local categories = {}
  for line in file.read(path):gmatch("[^\r\n]+") do
    local c = { synonyms = {} }
    for word in line:gmatch("[^,]+") do
      word = word:match("^%s*(.-)%s*$")
      if not c.name then c.name = word else c.synonyms[#c.synonyms + 1] = word end
    end
    if c.name then categories[#categories + 1] = c end
  end
  return categories
end

-- nil, or a list of texts alone.
local function texts(list, what)
  local fits = list == nil or type(list) == "table"
  for _, text in ipairs(fits and list or {}) do fits = fits and type(text) == "string" end
  if not fits then error(what .. " are not a list of texts", 0) end
  return list
end

-- The rules of `before`.
local function rules_of(root, path)
  if root.before ~= nil and type(root.before) ~= "table" then error(path .. ": its 'before' is no list", 0) end
  for i, rule in ipairs(root.before or {}) do
    local what = ("%s: rule %d of 'before'"):format(path, i)
    if type(rule) ~= "table" then error(what .. " is no object", 0) end
    texts(rule.words, what .. ": its words")
    texts(rule.of, what .. ": its 'of'")
  end
  return root.before
end

--- Reads a table: .json as above, any other file as lines.
---@param path string
---@return table
function M.read(path)
  if not path:find("%.json$") then return M.new(from_lines(path)) end
  local root = json.read(path)
  if type(root) ~= "table" then error(path .. ": not a list of categories", 0) end
  local list = root.categories or root
  if type(list) ~= "table" then error(path .. ": its categories are not a list", 0) end
  if #list == 0 then error(path .. ": there are no categories in it", 0) end
  for i, c in ipairs(list) do
    if type(c) ~= "table" or type(c.name) ~= "string" then
      error(("%s: category %d has no 'name'"):format(path, i), 0)
    end
    texts(c.synonyms, ("%s: category %d: its synonyms"):format(path, i))
  end
  return M.new(list, { closed = root.closed == true, colours = texts(root.colours, path .. ": its colours"),
    ignore = texts(root.ignore, path .. ": its phrases to ignore"), before = rules_of(root, path) })
end

--- The table of COCO's 80 categories.
---@return table
function M.coco() return M.read(native.root .. "lua/lucid/metric/coco.json") end

--- The name that a word or phrase stands for, or nil.
---@param phrase string
---@return string|nil
function Nouns:lookup(phrase)
  return self.forms[(phrase:lower():gsub("%s+", " "))] or nil
end

--- The words of a text, without a genitive's "'s": a list of { text (lower case), first, last }.
---@param text string
---@return table[]
function M.words(text)
  local list = {}
  for first, word in text:gmatch("()(%a[%a'%-]*)") do
    word = word:lower():gsub("'s?$", "")
    list[#list + 1] = { text = word, first = first, last = first + #word - 1 }
  end
  return list
end

---@class lucid.Mention
---@field name string       of the category
---@field first integer     its first byte in the text
---@field last integer
---@field word integer      number of its first word
---@field words integer     how many it has

--- Every mention of a known thing in a text, the longest phrase first at each word.
---@param text string
---@return lucid.Mention[], table[] words
function Nouns:mentions(text)
  local words = M.words(text)
  local list, i = {}, 1
  while i <= #words do
    local found
    for n = math.min(self.longest, #words - i + 1), 1, -1 do
      local phrase = {}
      for k = i, i + n - 1 do phrase[#phrase + 1] = words[k].text end
      local name = self.forms[table.concat(phrase, " ")]
      if name then
        list[#list + 1] = { name = name, first = words[i].first, last = words[i + n - 1].last,
          word = i, words = n }
      end
      if name ~= nil then
        found = n
        break
      end
    end
    i = i + (found or 1)
  end
  return list, words
end

return M
