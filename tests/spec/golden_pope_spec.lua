-- POPE's scoring beside the benchmark's own rule as Python divides and splits (tests/golden/pope), by the command line;
-- and the published table: its counts give its figures, and its figures its counts.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local native = require "lucid.native"
local pope = require "lucid.metric.pope"
local program = require "tests.support.program"

local RATIOS = { "accuracy", "precision", "recall", "f1", "yes_ratio" }
local COUNTS = { "tp", "fp", "tn", "fn" }

-- ---- synthetic answers -----------------------------------------------------------------------------

local IDS = {
  ["from 1"] = function(i) return i end,
  ["from 0"] = function(i) return i - 1 end,
  text = function(i) return "q-" .. i end,
  quoted = function(i) return tostring(i) end,
}
local CASE = {
  lower = string.lower, upper = string.upper,
  title = function(label) return label:sub(1, 1):upper() .. label:sub(2) end,
}

local function written(list, form)
  local parts = {}
  for i, record in ipairs(list) do parts[i] = json.encode(record) end
  if form == "array" then return "[" .. table.concat(parts, ",\n") .. "]" end
  return table.concat(parts, form == "lines" and "\n" or "") .. "\n"
end

describe("the official scoring", function()
  local dir = folder.folder()
  teardown(function() folder.remove(dir) end)

  it("is the benchmark's on every synthetic answer file, to the last bit", function()
    local cases = json.read(native.root .. "tests/golden/pope/cases.json")
    assert.is_true(#cases >= 20)
    for number, c in ipairs(cases) do
      local questions, answers = {}, {}
      for i, label in ipairs(c.labels) do
        local id = IDS[c.ids](i)
        questions[i] = { question_id = id, image = c.images[i], text = c.texts[i], label = CASE[c.case](label) }
        answers[i] = { question_id = id, answer = c.answers[i] }
      end
      file.write(dir .. "/q.json", written(questions, c.form))
      file.write(dir .. "/a.jsonl", written(answers, "lines"))
      assert.equal(0, os.execute(("%s pope --questions %s/q.json --answers %s/a.jsonl --bootstrap 0 --json --quiet >%s/out"):format(
        program, dir, dir, dir)))
      local scored = json.read(dir .. "/out")
      local keys = {}
      for key in pairs(scored.official) do keys[#keys + 1] = key end
      assert.equal(9, #keys)
      for _, name in ipairs(COUNTS) do assert.equal(c.expected[name], scored.official[name], ("%d: %s"):format(number, name)) end
      for _, name in ipairs(RATIOS) do
        local expected, undefined = c.expected[name], (scored.official_undefined or {})[name]
        if expected == json.null then
          assert.equal(0, scored.official[name])
          assert.is_true(undefined)
        else
          assert.equal(expected, scored.official[name], ("%d: %s"):format(number, name))
          assert.is_nil(undefined)
        end
      end
      assert.equal(#answers, scored.n)
    end
  end)
end)

-- ---- the published table ---------------------------------------------------------------------------

-- Accuracy, precision, recall, F1, yes ratio in percent, cut to two places; tp, fp, tn, fn.
local TABLE = {
  ["MiniGPT-4 random"] = { 51.13, 50.57, 99.80, 67.13, 98.66, 1497, 1463, 37, 3 },
  ["MiniGPT-4 random HA"] = { 86.13, 92.81, 78.33, 84.96, 42.20, 1175, 91, 1409, 325 },
  ["MiniGPT-4 popular"] = { 51.46, 50.74, 99.53, 67.72, 98.06, 1493, 1449, 51, 7 },
  ["MiniGPT-4 popular HA"] = { 79.50, 80.20, 78.33, 79.25, 48.83, 1175, 290, 1210, 325 },
  ["MiniGPT-4 adversarial"] = { 51.26, 50.64, 99.66, 67.16, 98.40, 1495, 1457, 43, 5 },
  ["MiniGPT-4 adversarial HA"] = { 75.66, 74.36, 78.33, 76.29, 52.66, 1175, 405, 1095, 325 },
  ["InstructBLIP random"] = { 88.70, 85.03, 93.93, 89.26, 55.23, 1409, 248, 1252, 91 },
  ["InstructBLIP random HA"] = { 89.83, 93.07, 86.06, 89.43, 46.23, 1291, 96, 1404, 209 },
  ["InstructBLIP popular"] = { 81.36, 75.06, 93.93, 83.44, 62.56, 1409, 468, 1032, 91 },
  ["InstructBLIP popular HA"] = { 85.76, 85.55, 86.06, 85.80, 50.03, 1291, 218, 1282, 209 },
  ["InstructBLIP adversarial"] = { 74.50, 67.64, 93.93, 78.64, 69.43, 1409, 674, 826, 91 },
  ["InstructBLIP adversarial HA"] = { 80.70, 77.72, 86.06, 81.68, 55.36, 1291, 370, 1130, 209 },
  ["LLaVA-1.5 random"] = { 89.60, 88.77, 90.66, 89.70, 51.06, 1360, 172, 1328, 140 },
  ["LLaVA-1.5 random HA"] = { 90.53, 92.99, 87.66, 90.25, 47.13, 1315, 99, 1401, 185 },
  ["LLaVA-1.5 popular"] = { 86.20, 83.23, 90.66, 86.79, 54.46, 1360, 274, 1226, 140 },
  ["LLaVA-1.5 popular HA"] = { 87.90, 88.07, 87.66, 87.81, 49.76, 1315, 178, 1322, 185 },
  ["LLaVA-1.5 adversarial"] = { 79.76, 74.43, 90.66, 81.75, 60.90, 1360, 467, 1033, 140 },
  ["LLaVA-1.5 adversarial HA"] = { 81.46, 77.99, 87.66, 82.54, 56.20, 1315, 371, 1129, 185 },
}

-- Figures that are none of their rows' and one digit away from what is.
local MISPRINTS = {
  ["MiniGPT-4 popular"] = { f1 = 67.22 },
  ["InstructBLIP popular HA"] = { yes_ratio = 50.30 },
  ["LLaVA-1.5 popular HA"] = { f1 = 87.87 },
}

local function cut(fraction) return math.floor(fraction * 1e4 + 1e-6) / 100 end

local function records(tp, fp, tn, fn)
  local list = {}
  for kind, n in pairs { ["Yes. yes"] = tp, ["Yes. no"] = fp, ["No. no"] = tn, ["No. yes"] = fn } do
    local answer, label = kind:match "^(%S+) (%S+)$"
    for _ = 1, n do list[#list + 1] = { answer = answer, label = label } end
  end
  return list
end

describe("the published table", function()
  it("follows from its counts, but for three misprints", function()
    local rows, misprints = 0, 0
    for name, row in pairs(TABLE) do
      local m = pope.score(records(unpack(row, 6, 9)))
      rows = rows + 1
      for i, ratio in ipairs(RATIOS) do
        local right = (MISPRINTS[name] or {})[ratio]
        if right then misprints = misprints + 1 end
        assert.equal(right or row[i], cut(m[ratio].value), name .. " " .. ratio)
        assert.equal(right ~= nil, cut(m[ratio].value) ~= row[i])
      end
      for i, count in ipairs(COUNTS) do assert.equal(row[5 + i], m[count].value, name) end
    end
    assert.same({ 18, 3 }, { rows, misprints })
  end)

  it("gives its counts back: of all that 1500 and 1500 questions allow, one has a row's figures", function()
    for name, row in pairs(TABLE) do
      local wrong, found = MISPRINTS[name] or {}, {}
      for tp = 0, 1500 do
        if cut(tp / 1500) == row[3] then
          for fp = 0, 1500 do
            local precision, recall = tp / (tp + fp), tp / 1500
            local figures = { (tp + 1500 - fp) / 3000, precision, recall, 2 * precision * recall / (precision + recall),
              (tp + fp) / 3000 }
            local fits = true
            for i, ratio in ipairs(RATIOS) do fits = fits and (wrong[ratio] ~= nil or cut(figures[i]) == row[i]) end
            if fits then found[#found + 1] = { tp, fp, 1500 - fp, 1500 - tp } end
          end
        end
      end
      assert.same({ { unpack(row, 6, 9) } }, found, name)
    end
  end)
end)
