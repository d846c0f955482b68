-- Folders of downloads as a researcher has them, small: the tiny model under the published names, and a small world
-- in the layout of Visual Genome, COCO, HA-DPO's pairs, POPE and SHR. examples/README.md shows the layout.
local bridged = require "tests.support.bridged"
local checkpoint = require "lucid.checkpoint"
local file = require "lucid.file"
local json = require "lucid.json"
local training = require "tests.support.training"

local M = {}

--- Copies a file or folder.
---@param from string
---@param to string      its folder is made
function M.copy(from, to) assert(os.execute(("mkdir -p '%s' && cp -R '%s' '%s'"):format(to:match "^(.*)/", from, to))) end

-- A folder's one file of weights as two shards with their index.
local function shard(path)
  local whole, map, shards = checkpoint(path .. "/model.safetensors"), {}, { {}, {} }
  local names = whole:names()
  for i, name in ipairs(names) do
    local part = 2 * i <= #names and 1 or 2
    shards[part][name], map[name] = whole:tensor(name), ("model-%05d-of-00002.safetensors"):format(part)
  end
  for i = 1, 2 do checkpoint.save(("%s/model-%05d-of-00002.safetensors"):format(path, i), shards[i]) end
  json.write(path .. "/model.safetensors.index.json", { metadata = {}, weight_map = map })
  file.remove(path .. "/model.safetensors")
end

-- LLaVA's form of the pairs: descriptions by the picture's id.
local function llava_pairs(raw, out)
  local desc = {}
  for _, r in ipairs(json.read(raw .. "/desc_data.json")) do
    desc[tostring(r.image_id)] = { chosen = r.chosen, rejected = r.rejected }
  end
  M.copy(raw, out)
  json.write(out .. "/desc_data.json", desc)
end

-- The pictures that POPE asks about, under COCO's names.
local function coco(world, out)
  for _, name in ipairs(file.list(world .. "/VG_100K")) do
    M.copy(world .. "/VG_100K/" .. name, ("%s/coco/val2014/COCO_val2014_000000%s"):format(out, name))
  end
  for _, name in ipairs(file.list(world .. "/pope")) do
    local text = file.read(world .. "/pope/" .. name):gsub("VG_100K/", "COCO_val2014_000000")
    file.mkdir(out .. "/POPE/output/coco")
    file.write(out .. "/POPE/output/coco/" .. name, text)
  end
end

--- What the walk of examples/README.md needs: LLaVA, its pairs, pictures and lists.
---@param out string     the folder of the downloads
---@param raw string     where what they are made of stays
function M.llava(out, raw)
  file.mkdir(raw)
  training.world(raw)
  M.copy(raw .. "/model", out .. "/llava-1.5-7b-hf")
  shard(out .. "/llava-1.5-7b-hf")
  llava_pairs(raw .. "/pairs", out .. "/hadpo/llava-v1.5")
  M.copy(raw .. "/world", out .. "/VG")
  coco(raw .. "/world", out)
  M.copy(raw .. "/world/shr", out .. "/shr")
  file.write(out .. "/shr/shr_factual_part2.jsonl", '{"300001": ["There is a car."]}\n')
  assert(os.execute(("rm -r '%s/VG/pope' '%s/VG/shr'"):format(out, out)))
end

--- The same with the parts of MiniGPT-4 and InstructBLIP.
---@param out string
---@param raw string
function M.all(out, raw)
  M.llava(out, raw)
  training.captions(raw)
  bridged.minigpt4(raw)
  bridged.instructblip(raw)
  M.copy(raw .. "/language", out .. "/Llama-2-7b-chat-hf")
  M.copy(bridged.TOWER, out .. "/eva_vit_g.pth")
  M.copy(raw .. "/bridge.safetensors", out .. "/projection.pth")
  M.copy(raw .. "/instructblip", out .. "/instructblip-vicuna-13b")
  M.copy(raw .. "/cap", out .. "/cc_sbu_align")
  for _, model in ipairs { "minigpt4", "instructblip" } do M.copy(raw .. "/pairs", out .. "/hadpo/" .. model) end
  local questions = file.read(raw .. "/pairs/pope_data.json"):gsub('"reject"', '"rejected"')
  file.write(out .. "/hadpo/instructblip/pope_data.json", questions)
end

return M
