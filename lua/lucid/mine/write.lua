-- Stage 8: desc_data.json and pope_data.json, in the form that is published for the model, and the report.
local json = require "lucid.json"
local lines = require "lucid.mine.lines"
local pairfile = require "lucid.data.pairfile"
local report = require "lucid.mine.report"
local stage = require "lucid.mine.stage"
local file = require "lucid.file"

local M = { from = { "gate", "check", "questions", "rewrite", "correct", "describe", "select" }, options = { "form", "annotations" } }

--- The files that the stage makes.
---@param run lucid.Mining
---@return string[]
function M.outputs(run)
  local list = {}
  for _, name in ipairs { "desc_data.json", "pope_data.json", "report.json", "report.txt" } do list[#list + 1] = run.out .. "/" .. name end
  return list
end

-- Where pictures are that Visual Genome's image_data.json does not name: lines { image_id, image }.
local function write_pictures(run)
  local find, list, path = lines.ahead(run:file "select"), {}, run.out .. "/images.jsonl"
  file.write(path .. ".part", "")
  local function flush()
    lines.append(path .. ".part", list)
    list = {}
  end
  for r in lines.kept(run:file "gate") do
    list[#list + 1] = { image_id = r.image_id, image = find(r.image_id).image:sub(#run.opt.images + 2) }
    if #list == 1000 then flush() end
  end
  flush()
  file.rename(path .. ".part", path)
end

--- Writes HA-DPO's files from the gate's lines.
---@param run lucid.Mining
function M.finish(run)
  local form = run.opt.form ~= "" and run.opt.form or stage.stamp(run, "describe").facts.kind
  local out = pairfile.open(run.out, form)
  for r in lines.kept(run:file "gate") do
    for _, d in ipairs(r.descriptions) do
      out:description { image_id = r.image_id, chosen = d.chosen, rejected = d.rejected }
    end
    for _, q in ipairs(r.questions) do
      q.image_id = r.image_id
      out:question(q)
    end
  end
  local records = out:close()
  if run.opt.annotations ~= "" then write_pictures(run) end
  local numbers = report.of(run)
  numbers.form, numbers.records = form, records
  json.write(run.out .. "/report.json", numbers, { indent = 2 })
  file.write(run.out .. "/report.txt", report.text(numbers) .. "\n")
end

return M
