-- Makes the length lists of this folder: bin/lucid tests/bench/data/mix/make.lua
--
-- What is published: the LLaVA files have 1,736 description records and, of the questions that the model did not answer
-- right, 1,544 over 1,039 pictures. Which of these pictures have a description, too, is not published for LLaVA; of
-- MiniGPT-4's files it is 1,453 of 1,673, and the same share is taken. The paper's mix: 2,000 pictures with 2
-- descriptions and 5 questions each. Answers have 175 tokens in the mean in descriptions and 30 to questions. The
-- spread is that of MiniGPT-4's descriptions (66.6 words in the mean, 16 to 167): a log-normal of sigma 0.3, from 0.24
-- to 2.5 times the mean. (With sigma 0.2 padding costs less, and the ratios that mix.lua gives fall by a twentieth.)
--
-- A line a picture: its pairs as KIND CHOSEN/REJECTED, d a description, q a question, in tokens.
local lucid = require "lucid"
local native = require "lucid.native"

local MEAN, SIGMA, LEAST, MOST = { d = 175, q = 30 }, 0.3, 0.24, 2.5

local function lengths(r, kind)
  local function one()
    local normal = math.sqrt(-2 * math.log(1 - r:uniform())) * math.cos(2 * math.pi * r:uniform())
    local factor = math.exp(SIGMA * normal - SIGMA * SIGMA / 2)
    return math.floor(MEAN[kind] * math.min(MOST, math.max(LEAST, factor)) + 0.5)
  end
  return ("%s%d/%d"):format(kind, one(), one())
end

local function write(name, pictures)
  local r, lines = lucid.rng(1, name), {}
  for i, picture in ipairs(pictures) do
    local pairs_list = {}
    for kind in picture:gmatch(".") do pairs_list[#pairs_list + 1] = lengths(r, kind) end
    lines[i] = table.concat(pairs_list, " ") .. "\n"
  end
  lucid.file.write(("%stests/bench/data/mix/%s.txt"):format(native.root, name), table.concat(lines))
end

local DESCRIBED, ASKED, QUESTIONS = 1736, 1039, 1544
local both = math.floor(ASKED * 1453 / 1673 + 0.5)
local published, r = {}, lucid.rng(1, "questions")
for i = 1, DESCRIBED + ASKED - both do published[i] = i <= DESCRIBED and "d" or "" end
local asked = {}
for i = 1, ASKED do asked[i] = i <= both and i or DESCRIBED + i - both end
for i = 1, QUESTIONS do
  local picture = asked[i] or r:pick(asked)               -- one each, and the rest anywhere
  published[picture] = published[picture] .. "q"
end
write("published", published)

local paper = {}
for i = 1, 2000 do paper[i] = "ddqqqqq" end
write("paper", paper)
