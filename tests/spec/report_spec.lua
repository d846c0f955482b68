-- Pages of runs: the paper's tables, what tells runs apart, charts' axes, texts that are no HTML, what is missing.
local chart = require "lucid.report.chart"
local file = require "lucid.file"
local html = require "lucid.report.html"
local json = require "lucid.json"
local keys = require "lucid.keys"
local program = require "tests.support.program"
local published = require "lucid.report.published"
local report = require "lucid.report"
local rng = require "lucid.rng"
local source = require "lucid.report.source"
local statistics = require "lucid.statistics"
local folder = require "tests.support.folder"
local written = require "tests.support.runs"

local dir, runs

local function page_of(folders, opt) return report({ title = "runs" }):runs(folders, opt):html() end

local function count(text, plain)
  local n, at = 0, 1
  while true do
    local from, to = text:find(plain, at, true)
    if not from then return n end
    n, at = n + 1, to + 1
  end
end

-- The body rows of the table that has a head, as lists of cells' texts.
local function rows_below(page, head)
  local at = page:find(">" .. head .. "</th>", 1, true)
  assert.truthy(at, head)
  local body, rows = page:match("<tbody>(.-)</tbody>", at), {}
  for row in body:gmatch("<tr.->(.-)</tr>") do
    local cells = {}
    for cell in row:gmatch("<t[hd].->(.-)</t[hd]>") do cells[#cells + 1] = (cell:gsub("<.->", "")) end
    rows[#rows + 1] = cells
  end
  return rows
end

describe("a page of runs", function()
  setup(function()
    dir = folder.folder()
    runs = written.write(dir)
  end)
  teardown(function() folder.remove(dir) end)

  it("calls them by what tells them apart", function()
    assert.same({ "dpo", "control" }, source.names { "dpo", "control" })
    assert.same({ "before", "after" }, source.names { "eval/before/shr", "eval/after/shr" })
    assert.same({ "a/x", "b/x", "a/y" }, source.names { "a/x", "b/x", "a/y" })
    assert.same({ "alone" }, source.names { "alone" })
  end)

  it("shows a model without its adapter, with it, and as published", function()
    local shr = { runs .. "/after/shr", runs .. "/before/shr" }
    local rows = rows_below(page_of(shr), "HA-DPO")
    assert.same({ "llava-1.5-7b-hf", "–" }, { rows[1][1]:match("%S+"), rows[1][2] })
    assert.same({ "llava-1.5-7b-hf with dpo", "✓" }, { rows[2][1], rows[2][2] })
    assert.same({ "LLaVA-1.5-7B published", "–", "36.7" }, { unpack(rows[3], 1, 3) })
    assert.same({ "LLaVA-1.5-7B published", "✓", "34.0" }, { unpack(rows[4], 1, 3) })
    assert.equal(4, #rows)
    local own = json.read(runs .. "/before/shr/results.json").shr.shr
    assert.equal(("%.2f±%.2f"):format(100 * own.value, 100 * own.stderr), rows[1][3])
    assert.equal(2, #rows_below(page_of(shr, { published = false }), "HA-DPO"))
  end)

  it("has the three sets of POPE, the counts and what the adapter changed", function()
    local page = page_of { runs .. "/before/pope", runs .. "/after/pope" }
    local rows, sets = rows_below(page, "yes ratio"), {}
    for _, row in ipairs(rows) do sets[#sets + 1] = row[2] == nil and row[1] or nil end
    assert.same({ "random", "popular", "adversarial" }, sets)
    assert.equal(3 * 5, #rows)
    assert.same({ "89.60", "88.77", "90.66", "89.70", "51.06" }, { unpack(rows[4], 3, 7) })
    local after = json.read(runs .. "/after/pope/results.json").popular
    assert.truthy(page:find((">%d</td>"):format(after.tp.value), 1, true))
    assert.equal(6, count(page, '<div class="card">'))
    local changes = rows_below(page, "both right")
    assert.equal("llava-1.5-7b-hf, random", changes[1][1])
    assert.equal(written.PICTURES * 6, changes[1][3] + changes[1][4] + changes[1][5] + changes[1][6])
    assert.equal(json.read(runs .. "/before/pope/results.json").random.accuracy.value * written.PICTURES * 6,
      changes[1][3] + changes[1][4])
    local _, lost, won = unpack(changes[1], 3, 5)
    assert.equal(("%.4f"):format((statistics.mcnemar(tonumber(won), tonumber(lost)))), changes[1][7])
  end)

  it("compares answers to the same questions alone, whatever sets are called", function()
    local other = dir .. "/other/pope"
    file.mkdir(other)
    for _, name in ipairs { "config.json", "results.json" } do
      file.write(other .. "/" .. name, file.read(runs .. "/after/pope/" .. name))
    end
    -- Of the first set every second question is another one, of the second all are.
    local lines = {}
    for sample in json.each(runs .. "/after/pope/samples.jsonl") do
      local odd = sample.question_id % 2 == 1
      if sample.set == "random" and odd or sample.set == "popular" then sample.text = "Is there a dog?" end
      lines[#lines + 1] = json.encode(sample) .. "\n"
    end
    file.write(other .. "/samples.jsonl", table.concat(lines))
    local changes = rows_below(page_of { runs .. "/before/pope", other }, "both right")
    assert.equal(2, #changes)
    assert.equal(written.PICTURES * 3, changes[1][3] + changes[1][4] + changes[1][5] + changes[1][6])
    assert.equal("llava-1.5-7b-hf, adversarial", changes[2][1])
  end)

  it("marks the best of a model, and no yes ratio", function()
    local page = page_of { runs .. "/before/pope", runs .. "/after/pope" }
    assert.equal(3 * 4, count(page, 'class="n best"'))
    assert.equal(0, count(page_of { runs .. "/before/pope" }, 'class="n best"'))
    local twin = dir .. "/twin/pope"
    file.mkdir(twin)
    for _, name in ipairs { "config.json", "results.json", "samples.jsonl" } do
      file.write(twin .. "/" .. name, file.read(runs .. "/before/pope/" .. name))
    end
    assert.equal(0, count(page_of { runs .. "/before/pope", twin }, 'class="n best"'))
    local shr = page_of { runs .. "/before/shr", runs .. "/after/shr" }
    assert.truthy(shr:match('<td class="n best">([%d.]+)') + 0
      < 100 * json.read(runs .. "/before/shr/results.json").shr.shr.value)
  end)

  it("has no figure of what there was nothing to divide by for, least of all the best one", function()
    local lost = dir .. "/lost/shr"
    file.mkdir(lost)
    file.write(lost .. "/config.json", file.read(runs .. "/after/shr/config.json"))
    file.write(lost .. "/results.json", json.encode { shr = { shr = { value = 0, n = 10, undefined = true } } })
    local page = page_of({ runs .. "/before/shr", lost }, { published = false })
    local rows = rows_below(page, "HA-DPO")
    assert.same({ "✓", "–" }, { rows[2][2], rows[2][3] })
    assert.equal(0, count(page, 'class="n best"'))
  end)

  it("names the loss of an adapter that is none of DPO", function()
    file.mkdir(dir .. "/controlled")
    written.config(dir .. "/sft", "llava", { model = "m", loss = "sft" })
    written.config(dir .. "/controlled", "shr", { model = "m", adapter = dir .. "/sft/checkpoint-3" })
    file.mkdir(dir .. "/sft/checkpoint-3")
    assert.equal("sft", source.read({ dir .. "/controlled" })[1].method)
  end)

  it("takes nothing from texts and nothing from elsewhere", function()
    local page = page_of({ runs }, { pictures = 3 })
    assert.equal(0, count(page:lower(), "<script"))
    assert.equal(0, count(page, "<i>so"))
    assert.truthy(page:find("&lt;script&gt;", 1, true) and page:find("&lt;img src=&quot;http", 1, true))
    for tag in page:gmatch("<%a[^>]*>") do
      assert.is_nil(tag:find("%son%a+="), tag)
      local address = tag:match('src="([^"]*)"') or tag:match('href="([^"]*)"')
      assert.truthy(not address or address:find("^data:") or address:find("^#s%d+$"), tag)
    end
    assert.is_nil(page:find("[%z\1-\8\11\12\14-\31]"))
    assert.truthy(page:find("default-src 'none'", 1, true))
    assert.equal("a\239\191\189&lt;&amp;&#39;", html.escape("a\1<&'"))
  end)

  it("shows so many pictures, no larger than asked, and says where one is not", function()
    local shr = { runs .. "/before/shr", runs .. "/after/shr" }
    local page = page_of(shr, { pictures = 4, side = 200 })
    assert.equal(4, count(page, "<img "))
    assert.equal(2, count(page, 'width="200" height="67"'))
    assert.equal(2, count(page, 'width="64" height="48"'))
    assert.truthy(page:find("The first 4 of 10 pictures", 1, true))
    assert.equal(0, count(page_of(shr, { pictures = 0 }), "<img "))
    file.rename(dir .. "/pictures/1.jpg", dir .. "/pictures/away.jpg")
    page = page_of(shr, { pictures = 2 })
    file.rename(dir .. "/pictures/away.jpg", dir .. "/pictures/1.jpg")
    assert.equal(1, count(page, "<img "))
    assert.truthy(page:find("The picture cannot be shown: [^<]*1.jpg"))
  end)

  it("chooses the pictures that are worst, or changed most", function()
    local shr = { runs .. "/before/shr", runs .. "/after/shr" }
    local function order(pick)
      local ids = {}
      for id in page_of(shr, { pictures = 4, pick = pick }):gmatch('<p class="id">(%d+)</p>') do
        ids[#ids + 1] = tonumber(id)
      end
      return ids
    end
    assert.same({ 1, 2, 3, 4 }, order("first"))
    assert.same({ 7, 2, 6, 10 }, order("worst"))     -- i % 4 made up of 4; the third was not judged
    assert.same({ 2, 6, 7, 10 }, order("changed"))   -- against i % 2
  end)

  it("marks sentences by their verdict, the judge's reason below", function()
    local page = page_of({ runs .. "/before/shr" }, { pictures = 3 })
    assert.equal(1 + 2, count(page, '<li class="bad">'))
    assert.equal(1, count(page, '<li class="unsure">'))
    assert.equal(4, count(page, '<li class="none">'))
    assert.truthy(page:find('<span class="why" dir="auto">there is no such thing</span>', 1, true))
    assert.truthy(page:find("1. correct: &lt;i&gt;so&lt;/i&gt;", 1, true))
  end)

  it("marks the things that a caption names, and says why a description has no labels", function()
    local page = page_of({ runs .. "/chair", runs .. "/before/shr" }, { pictures = 3 })
    assert.equal(3, count(page, '<span class="bad"><span class="mark" role="img" aria-label="made up:">✗</span>dog</span>'))
    assert.equal(3, count(page, ">✓</span>cat</span> and &lt;b&gt;a <span"))
    assert.equal(3, count(page, "1 of 2 things made up, 5 words"))
    assert.equal(1, count(page, "The judge&#39;s reply could not be read."))
    assert.same({ { "chair i", "0.1250±0.0100" }, { "silent", "0" } },
      rows_below(page:match("CHAIR</h2>.*"), "llava-1.5-7b-hf"))
    assert.equal(0, count(page_of { runs .. "/amber" }, "Yes."))
  end)

  it("has shares and the published program's percentages in tables of their own", function()
    local page = page_of { runs .. "/amber" }
    local own, published_part = page:find("AMBER</h2>", 1, true), page:find("in percent</h2>", 1, true)
    assert.is_true(own < published_part)
    assert.same({ { "accuracy", "0.5000±0.1000" } }, rows_below(page:sub(own, published_part), "llava-1.5-7b-hf"))
    assert.same({ { "accuracy", "50" } }, rows_below(page:sub(published_part), "llava-1.5-7b-hf"))
  end)

  it("has what pope --compare found", function()
    local dir_of, compared = runs .. "/after/pope", json.read(runs .. "/after/pope/results.json")
    for name, v in pairs { accuracy = 0.25, better = 16, worse = 1, p = 0.0003 } do
      compared.random["compare_" .. name] = { value = v, n = 60 }
    end
    local before = file.read(dir_of .. "/results.json")
    json.write(dir_of .. "/results.json", compared)
    local rows = rows_below(page_of { dir_of }, "accuracy gained")
    file.write(dir_of .. "/results.json", before)
    assert.same({ { "llava-1.5-7b-hf with dpo, random", "25.00", "16", "1", "0.0003" } }, rows)
  end)

  it("holds a folder of any runs, and says what is missing", function()
    local page = page_of({ runs }, { pictures = 1 })
    assert.truthy(page:find("Things in descriptions: CHAIR", 1, true) and page:find("0.1250", 1, true))
    assert.same({ "prefills", "10", "–" }, { unpack(rows_below(page, "setting")[2], 1, 3) })
    assert.truthy(page:find("Mined pairs", 1, true) and page:find("passed over records", 1, true))
    assert.truthy(page:find("not there: results.json, samples.jsonl", 1, true))
    assert.truthy(page:find("9 runs; of 1 something is missing", 1, true))
    for _, name in ipairs { "rewards/margins", "grad_norm", "learning_rate" } do
      assert.truthy(page:find("<figcaption>" .. name, 1, true))
    end
    assert.truthy(page:find(("0a"):rep(32), 1, true))
  end)

  it("reads a log up to where it was cut off", function()
    file.mkdir(dir .. "/torn")
    file.write(dir .. "/torn/log.jsonl", '{"step": 1, "loss": 2}\n{"step": 2, "loss": 1}\n{"step": 3, "lo')
    local page = page_of { dir .. "/torn" }
    assert.truthy(page:find("log.jsonl ends after 2 steps", 1, true) and page:find("1.0000", 1, true))
  end)

  it("is made of what is whole of a damaged run, and says what is not", function()
    local torn = dir .. "/damaged"
    local function copy(name, bytes)
      file.mkdir(torn)
      file.write(torn .. "/" .. name, file.read(runs .. "/before/shr/" .. name):sub(1, bytes))
    end
    for _, name in ipairs { "config.json", "results.json", "samples.jsonl" } do copy(name) end
    local samples = file.read(torn .. "/samples.jsonl")
    copy("samples.jsonl", samples:find("\n", samples:find("\n") + 1, true) + 50)
    local page = page_of { torn, runs .. "/after/shr" }
    assert.truthy(page:find("samples.jsonl ends after 2 samples: samples.jsonl:3:", 1, true))
    assert.truthy(page:find("of 1 something is missing", 1, true))
    assert.equal(2, #rows_below(page, "unjudged") - 2)                   -- beside the published ones
    copy("results.json", 40)
    page = page_of { torn, runs .. "/after/shr" }
    assert.truthy(page:find("cannot be read: results.json:", 1, true))
    copy("config.json", 40)
    page = page_of { torn, runs .. "/after/shr" }
    assert.truthy(page:find("cannot be read: config.json:", 1, true))
    assert.truthy(page:find("Sentence 1 of picture 2.", 1, true))
  end)

  it("is made also of files with something odd in any place", function()
    local odd = { json.null, 1, -1e300, "x", true, json.array {}, {}, json.array { json.null, 3, "a" }, "" }
    local random = rng(7, "odd")
    local function changed(v, depth)
      local names = type(v) == "table" and v ~= json.null and keys(v) or {}
      if #names == 0 or depth > 0 and random:uniform() < 0.25 then return odd[random:integer(#odd)] end
      local name = names[random:integer(#names)]
      v[name] = changed(v[name], depth + 1)
      return v
    end
    local files = { "before/pope/results.json", "before/pope/config.json", "before/pope/samples.jsonl",
      "after/shr/results.json", "after/shr/config.json", "after/shr/samples.jsonl", "chair/results.json",
      "chair/samples.jsonl", "dpo/config.json", "dpo/log.jsonl", "mined/report.json", "mined/desc_data.json",
      "mined/pope_data.json" }
    for i = 1, 10 * #files do
      local path = runs .. "/" .. files[i % #files + 1]
      local text, lines = file.read(path), {}
      if path:find("jsonl$") then
        for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
      else
        lines[1] = text
      end
      local k = random:integer(#lines)
      lines[k] = json.encode(changed(json.decode(lines[k]), 0))
      file.write(path, table.concat(lines, "\n") .. "\n")
      local ok, fault = pcall(page_of, { path:match("^(.*)/"), runs .. "/before/shr" }, { pictures = 1 })
      file.write(path, text)
      assert.truthy(ok, ("%s: %s\n%s"):format(path, fault, lines[k]:sub(1, 500)))
    end
  end)

  it("is made by lucid report, and refuses what is no run in one line", function()
    local function lucid(words)
      return os.execute(("%s report %s >%s/out 2>%s/err"):format(program, words, dir, dir))
    end
    assert.equal(0, lucid(("%s/before --out %s/page.html --pictures 2 --pick worst"):format(runs, dir)))
    assert.equal(2, count(file.read(dir .. "/page.html"), "<img "))
    assert.not_equal(0, lucid(("%s/pictures --out %s/none.html"):format(dir, dir)))
    assert.truthy(file.read(dir .. "/err"):find("^lucid: [^\n]*no run's folder\n$"), file.read(dir .. "/err"))
    assert.falsy(file.exists(dir .. "/none.html"))
    for i = 1, 49 do written.config(("%s/many/%d"):format(dir, i), "pope", {}) end
    assert.not_equal(0, lucid(("%s/many --out %s/none.html"):format(dir, dir)))
    assert.truthy(file.read(dir .. "/err"):find("49 runs", 1, true))
  end)
end)

describe("the published figures", function()
  -- accuracy, precision, recall, F1, yes ratio as the paper prints them, without and with HA-DPO.
  local PRINTED = {
    ["MiniGPT-4-Llama2-7B"] = {
      random = { "51.13 50.57 99.80 67.13 98.66", "86.13 92.81 78.33 84.96 42.20" },
      popular = { "51.46 50.74 99.53 67.72 98.06", "79.50 80.20 78.33 79.25 48.83" },
      adversarial = { "51.26 50.64 99.66 67.16 98.40", "75.66 74.36 78.33 76.29 52.66" } },
    ["InstructBLIP-13B"] = {
      random = { "88.70 85.03 93.93 89.26 55.23", "89.83 93.07 86.06 89.43 46.23" },
      popular = { "81.36 75.06 93.93 83.44 62.56", "85.76 85.55 86.06 85.80 50.03" },
      adversarial = { "74.50 67.64 93.93 78.64 69.43", "80.70 77.72 86.06 81.68 55.36" } },
    ["LLaVA-1.5-7B"] = {
      random = { "89.60 88.77 90.66 89.70 51.06", "90.53 92.99 87.66 90.25 47.13" },
      popular = { "86.20 83.23 90.66 86.79 54.46", "87.90 88.07 87.66 87.81 49.76" },
      adversarial = { "79.76 74.43 90.66 81.75 60.90", "81.46 77.99 87.66 82.54 56.20" } },
  }
  local MISPRINTS = { ["67.72"] = "67.22", ["50.03"] = "50.30", ["87.81"] = "87.87" }

  it("are the paper's, but for its three misprints", function()
    local misprints, rows = 0, 0
    for _, model in ipairs(published.MODELS) do
      for set, pair in pairs(PRINTED[model.name]) do
        for i, printed in ipairs(pair) do
          local f = published.figures(model.pope[set][i])
          local own = table.concat({ f.accuracy, f.precision, f.recall, f.f1, f.yes_ratio }, " ")
          local corrected = printed:gsub("%S+", function(figure)
            if MISPRINTS[figure] and not own:find(figure, 1, true) then
              misprints = misprints + 1
              return MISPRINTS[figure]
            end
          end)
          assert.equal(corrected, own)
          rows = rows + 1
        end
      end
    end
    assert.same({ 18, 3 }, { rows, misprints })
  end)

  it("stand beside their own models alone", function()
    local function name(path) return (published.of(path) or {}).name end
    assert.equal("LLaVA-1.5-7B", name("models/llava-1.5-7b-hf"))
    assert.equal("LLaVA-1.5-7B", name("liuhaotian/llava-v1.5-7b"))
    assert.equal("InstructBLIP-13B", name("Salesforce/instructblip-vicuna-13b"))
    assert.equal("MiniGPT-4-Llama2-7B", name("minigpt4_llama2"))
    assert.is_nil(name("llava-1.5-13b-hf"))
    assert.is_nil(name("instructblip-vicuna-7b"))
    assert.is_nil(name("runs/demo/base"))
  end)
end)

describe("a chart", function()
  it("has no minus zero on its axes", function()
    local drawn = chart.lines { { name = "x", x = { 1, 2 }, y = { -1e-12, 0.0006 } } }
    assert.is_nil(drawn:find(">-0<", 1, true))
    assert.truthy(drawn:find(">0<", 1, true))
  end)

  it("of a long run is short and keeps its peaks", function()
    local x, y = {}, {}
    for i = 1, 20000 do x[i], y[i] = i, i == 777 and 50 or math.sin(i) end
    local drawn = chart.lines { { name = "long", x = x, y = y } }
    assert.is_true(#drawn < 12000)
    local top = math.huge
    for _, height in drawn:match('points="([^"]*)"'):gmatch("([%d.]+),([%d.]+)") do
      top = math.min(top, tonumber(height))
    end
    assert.equal(8, top)     -- the frame's upper edge
  end)

  it("of a distribution has shares that sum to 100", function()
    local drawn = chart.distributions({ { name = "d", values = { 0, 0, 50, 100 } } }, "d", { 0, 100 })
    assert.truthy(drawn:find(">50</text>", 1, true))
    assert.truthy(drawn:find('aria-label="d: d"', 1, true))
  end)
end)
