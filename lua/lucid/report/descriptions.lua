-- Descriptions, picture by picture: how their numbers are distributed, and some pictures with what every run said of
-- them, sentence by sentence under the judge's verdict.
local file = require "lucid.file"
local html = require "lucid.report.html"
local json = require "lucid.json"
local keys = require "lucid.keys"
local picture = require "lucid.report.picture"
local source = require "lucid.report.source"

local M = {}

local escape, clip = html.escape, html.clip

-- ---- counting ---------------------------------------------------------------------------------------

local function words_of(text)
  local _, n = text:gsub("%S+", "")
  return n
end

-- AMBER's samples are questions, too; these are no descriptions.
local function is_described(sample)
  return type(sample) == "table" and type(sample.response) == "string"
    and (sample.kind == nil or sample.kind == "description")
end

-- The parts of a list that are objects; none where there is no list.
local function objects(list)
  local found = {}
  for _, v in ipairs(type(list) == "table" and list or {}) do
    if type(v) == "table" and v ~= json.null then found[#found + 1] = v end
  end
  return found
end

local function sentences_of(sample) return objects(sample.sentences) end

local VERDICTS = { hallucination = "bad", correct = "good", ["cannot judge"] = "unsure" }

local function verdict(sentence) return VERDICTS[sentence.label] or "none" end

-- { bad, judged, sentences, words } of a description, and { made_up, mentions } of the things that it names.
local function count(sample)
  local c = { bad = 0, judged = 0, sentences = 0, words = words_of(sample.response), made_up = 0, mentions = 0 }
  for _, m in ipairs(objects(sample.mentions)) do
    c.mentions = c.mentions + 1
    if m.there == false then c.made_up = c.made_up + 1 end
  end
  for _, s in ipairs(sentences_of(sample)) do
    local v = verdict(s)
    c.sentences = c.sentences + 1
    if v ~= "none" then c.judged = c.judged + 1 end
    if v == "bad" then c.bad = c.bad + 1 end
  end
  return c
end

local function key_of(sample, number) return tostring(sample.image_id or sample.image or sample.id or number) end

-- The first reading: a run's counts by picture, in the file's order; nothing else is kept.
local function counted(run)
  local list = { order = {}, by_key = {} }
  local number = 0
  for sample in source.samples(run) do
    number = number + 1
    if is_described(sample) then
      local key = key_of(sample, number)
      if not list.by_key[key] then list.order[#list.order + 1] = key end
      list.by_key[key] = count(sample)
    end
  end
  return list
end

-- ---- distributions ------------------------------------------------------------------------------------

local function quantile(sorted, q) return sorted[math.max(1, math.ceil(q * #sorted))] end

local function collected(list, number_of)
  local values = {}
  for _, key in ipairs(list.order) do values[#values + 1] = number_of(list.by_key[key]) end
  return values
end

local NUMBERS = {
  { "SHR of a picture", function(c) return c.judged > 0 and 100 * c.bad / c.judged or nil end, { 0, 100 } },
  { "sentences of a picture", function(c) return c.sentences > 0 and c.sentences or nil end },
  { "words of a picture", function(c) return c.words end },
}

local function distributions(page, described)
  local rows, charts = {}, {}
  for i, number in ipairs(NUMBERS) do
    charts[i] = {}
    for place, d in ipairs(described) do
      local values = collected(d.counts, number[2])
      if #values > 0 then table.insert(charts[i], { name = d.run.name, values = values, index = place }) end
      table.sort(values)
      rows[place] = rows[place] or { d.run.name, #d.counts.order }
      table.insert(rows[place], #values > 0 and ("%g"):format(math.floor(10 * quantile(values, 0.5) + 0.5) / 10) or "")
      if i == 1 then
        local clean = 0
        for _, v in ipairs(values) do clean = clean + (v == 0 and 1 or 0) end
        table.insert(rows[place], #values > 0 and ("%.1f"):format(100 * clean / #values) or "")
      end
    end
  end
  page:table({ "run", "pictures", "median SHR", "% of pictures without a made-up sentence", "median sentences",
    "median words" }, rows)
  local names = {}
  for i, d in ipairs(described) do names[i] = d.run.name end
  if #names > 1 then page:legend(names) end
  for i, number in ipairs(NUMBERS) do
    if #charts[i] > 0 then page:distributions(number[1] .. " (% of pictures)", charts[i], number[3]) end
  end
end

-- ---- choosing pictures --------------------------------------------------------------------------------

-- The made-up share of a description: of its sentences, else of the things that it names.
local function ratio(c)
  if not c then return nil end
  if c.judged > 0 then return c.bad / c.judged end
  return c.mentions > 0 and c.made_up / c.mentions or nil
end

-- How much a picture matters under a way of choosing.
local WEIGHTS = {
  worst = function(described, key)
    local most = -1
    for _, d in ipairs(described) do most = math.max(most, ratio(d.counts.by_key[key]) or -1) end
    return most
  end,
  changed = function(described, key)
    local first, last = ratio(described[1].counts.by_key[key]), ratio(described[#described].counts.by_key[key])
    return first and last and math.abs(first - last) or -1
  end,
}
M.PICKS = "first worst changed"

-- The pictures to show: those of the first run, in its order or by weight, then what only later runs have.
local function chosen(described, limit, pick)
  local list, place = {}, {}
  for _, d in ipairs(described) do
    for _, key in ipairs(d.counts.order) do
      if not place[key] then list[#list + 1], place[key] = key, #list + 1 end
    end
  end
  local total, weight = #list, {}
  if WEIGHTS[pick] then
    for _, key in ipairs(list) do weight[key] = WEIGHTS[pick](described, key) end
    table.sort(list, function(a, b)
      if weight[a] ~= weight[b] then return weight[a] > weight[b] end
      return place[a] < place[b]
    end)
  end
  for i = total, limit + 1, -1 do list[i] = nil end
  return list, total
end

-- ---- showing them ---------------------------------------------------------------------------------------

local TEXT, REASON, REPLY = 1500, 400, 4000     -- bytes of what a model or a judge wrote that a page shows
local SENTENCES = 60                            -- sentences of a description that it shows
local MARKS = { bad = { "✗", "made up" }, good = { "✓", "correct" }, unsure = { "?", "cannot be judged" },
  none = { "–", "not judged" } }

-- dir="auto" keeps what a model wrote from turning the text around it.
local function sentence_html(s)
  local v = verdict(s)
  local mark = MARKS[v]
  local why = v ~= "good" and type(s.reason) == "string" and s.reason ~= ""
    and ('<span class="why" dir="auto">%s</span>'):format(escape(clip(s.reason, REASON))) or ""
  return ('<li class="%s"><span class="mark" role="img" aria-label="%s:">%s</span>'
    .. '<span class="text" dir="auto">%s</span>%s</li>'):format(v, mark[2], mark[1],
    escape(clip(tostring(s.text), TEXT)), why)
end

-- A description without sentences of its own, the things that it names marked where they stand.
local function named_html(sample)
  local text, at, out = sample.response, 1, {}
  for _, m in ipairs(objects(sample.mentions)) do
    local from, to = text:find(tostring(m.word), at, true)
    if from and to <= TEXT and type(m.there) == "boolean" then
      local mark = MARKS[m.there and "good" or "bad"]
      out[#out + 1] = escape(text:sub(at, from - 1))
      out[#out + 1] = ('<span class="%s"><span class="mark" role="img" aria-label="%s:">%s</span>%s</span>'):format(
        m.there and "good" or "bad", m.there and "there" or "made up", mark[1], escape(text:sub(from, to)))
      at = to + 1
    end
  end
  out[#out + 1] = escape(clip(text:sub(at), TEXT))
  return table.concat(out)
end

-- Why a description has no labels, where the run says it.
local function lost_html(sample)
  local why = sample.too_long and "The prompt was too long for the judge."
    or type(sample.error) == "string" and "The judge failed: " .. clip(sample.error, REASON)
    or sample.unparsed and "The judge's reply could not be read."
  return why and ('<p class="id" dir="auto">%s</p>'):format(escape(why)) or nil
end

local function said_html(run, sample)
  local c, list = count(sample), sentences_of(sample)
  local about = ("%d words"):format(c.words)
  if c.mentions > 0 then about = ("%d of %d things made up, %s"):format(c.made_up, c.mentions, about) end
  if c.judged > 0 then about = ("SHR %.1f: %d of %d made up, %s"):format(100 * ratio(c), c.bad, c.judged, about) end
  local out = { ('<div><h4>%s <span class="count">%s</span></h4>'):format(escape(run.name), about) }
  local lost = lost_html(sample)
  if lost then out[#out + 1] = lost end
  if #list == 0 then
    out[#out + 1] = ('<p class="named" dir="auto">%s</p>'):format(named_html(sample))
  else
    out[#out + 1] = '<ul class="said">'
    for i = 1, math.min(#list, SENTENCES) do out[#out + 1] = sentence_html(list[i]) end
    out[#out + 1] = "</ul>"
    if #list > SENTENCES then out[#out + 1] = ("<p>… %d more sentences</p>"):format(#list - SENTENCES) end
  end
  if type(sample.judgement) == "string" and sample.judgement ~= "" then
    out[#out + 1] = ('<details><summary>the judge’s reply</summary><pre dir="auto">%s</pre></details>'):format(
      escape(clip(sample.judgement, REPLY)))
  end
  out[#out + 1] = "</div>"
  return table.concat(out)
end

-- Where a sample's picture is: samples name it as a path, or below the run's --images.
local function path_of(run, sample)
  local path = type(sample.image) == "string" and sample.image or nil
  if not path then return nil end
  local root = type(run.options.images) == "string" and run.options.images .. "/" .. path or path
  return file.kind(path) ~= "file" and file.kind(root) == "file" and root or path
end

local function image_html(path, key, side)
  local ok, p = pcall(picture.embed, path or "", side)
  if not ok then
    return ('<div class="lost">%s</div>'):format(escape(path and "The picture cannot be shown: " .. tostring(p)
      or "The samples do not say where the picture is."))
  end
  return ('<img src="%s" width="%d" height="%d" alt="picture %s"%s>'):format(p.url, p.width, p.height, escape(key),
    p.small and ' class="small"' or "")
end

local CHOSEN = { first = "The first", worst = "Those with the largest made-up share,",
  changed = "Those whose made-up share differs most between the first run and the last," }

local function pictures(page, described, opt)
  local ids, total = chosen(described, opt.pictures, opt.pick)
  if #ids == 0 then return end
  local wanted, said, path = {}, {}, {}
  for _, key in ipairs(ids) do wanted[key], said[key] = true, {} end
  for _, d in ipairs(described) do
    local number = 0
    for sample in source.samples(d.run) do
      number = number + 1
      local key = is_described(sample) and key_of(sample, number)
      if key and wanted[key] then
        path[key] = path[key] or path_of(d.run, sample)
        table.insert(said[key], said_html(d.run, sample))
      end
    end
  end
  page:subheading("Pictures and what was said of them")
  page:note(("%s %d of %d pictures. ✗ made up, ✓ correct, ? cannot be judged, – not judged; below a sentence the "
    .. "judge's reason."):format(CHOSEN[opt.pick], #ids, total))
  for _, key in ipairs(ids) do
    page:put(('<div class="shot"><div>%s<p class="id">%s</p></div><div class="told">%s</div></div>'):format(
      image_html(path[key], key, opt.side), escape(key), table.concat(said[key])))
  end
end

-- The runs that described pictures, by their recipe: each asks in its own way.
local function described_runs(runs)
  local by_command = {}
  for _, run in ipairs(source.by_model(runs)) do
    local counts, command = counted(run), run.command or ""
    if #counts.order > 0 then
      by_command[command] = by_command[command] or {}
      table.insert(by_command[command], { run = run, counts = counts })
    end
  end
  return by_command
end

local NAMES = { shr = "SHR", chair = "CHAIR", amber = "AMBER" }

--- The section of described pictures, a part a recipe.
---@param page lucid.Page
---@param runs lucid.ReportRun[]
---@param opt lucid.ReportOptions
function M.section(page, runs, opt)
  local by_command = described_runs(runs)
  local commands = keys(by_command)
  table.sort(commands, function(a, b)
    if (a == "shr") ~= (b == "shr") then return a == "shr" end
    return a < b
  end)
  for _, command in ipairs(commands) do
    local asked = #commands > 1 and ": " .. (NAMES[command] or command) or ""
    page:heading("Descriptions, picture by picture" .. asked)
    distributions(page, by_command[command])
    pictures(page, by_command[command], opt)
  end
end

return M
