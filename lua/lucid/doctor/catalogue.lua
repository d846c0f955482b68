-- What lucid doctor knows of the published files: what a part is called, which files it has, where they come from, and
-- which recipe needs which part. Sizes and hashes stand here only where the published ones are known.
local M = {}

local EVA = "LAVIS's storage bucket, BLIP2/eva_vit_g.pth"
local HADPO = "huggingface.co/datasets/juliozhao/hadpo-data, hadpo/"
local MODEL = { "config.json", "tokenizer.model", "preprocessor_config.json" }

---@class lucid.DoctorPart
---@field title string
---@field from string            where it is published
---@field files string[]|nil     the small files or the data files that it must have; of one file its usual name
---@field pictures string|nil    beside them
---@field more string[]|nil      files that a recipe reads where they are there
---@field weights boolean|nil    a folder of weights: one file, or an index and its parts
---@field recipes string         the recipes that need it

---@type table<string, lucid.DoctorPart>
M.PARTS = {
  llava_hf = { title = "LLaVA-1.5, Hugging Face's layout", from = "huggingface.co/llava-hf/llava-1.5-7b-hf",
    files = MODEL, weights = true, recipes = "llava pope shr" },
  llava = { title = "LLaVA-1.5, its own layout", from = "huggingface.co/liuhaotian/llava-v1.5-7b",
    files = { "config.json", "tokenizer.model" }, weights = true, recipes = "llava pope shr" },
  clip = { title = "CLIP's tower", from = "huggingface.co/openai/clip-vit-large-patch14-336",
    files = { "config.json", "preprocessor_config.json" }, weights = true, recipes = "llava pope shr" },
  llama = { title = "LLaMA, Llama 2 or Vicuna", from = "huggingface.co/meta-llama/Llama-2-7b-chat-hf for MiniGPT-4, "
    .. "huggingface.co/lmsys/vicuna-13b-v1.1 for InstructBLIP",
    files = { "config.json", "tokenizer.model" }, weights = true, recipes = "minigpt4 instructblip pope shr" },
  instructblip_hf = { title = "InstructBLIP, Hugging Face's layout",
    from = "huggingface.co/Salesforce/instructblip-vicuna-13b",
    files = { "config.json", "tokenizer.model", "preprocessor_config.json", "qformer_tokenizer/vocab.txt" },
    weights = true, recipes = "instructblip pope shr" },
  eva = { title = "EVA's tower", from = EVA, files = { "eva_vit_g.pth" }, recipes = "minigpt4 instructblip pope shr" },
  joined = { title = "MiniGPT-4's projection", from = "MiniGPT-4's README, the checkpoint for Llama 2 Chat 7B",
    files = { "pretrained_minigpt4_llama2_7b.pth" }, recipes = "minigpt4 pope shr" },
  qformer = { title = "InstructBLIP's Q-Former and projection",
    from = "LAVIS's storage bucket, InstructBLIP/instruct_blip_vicuna13b_trimmed.pth",
    files = { "instruct_blip_vicuna13b_trimmed.pth" }, recipes = "instructblip pope shr" },
  bert = { title = "BERT's vocabulary", from = "huggingface.co/bert-base-uncased", files = { "vocab.txt" },
    recipes = "instructblip pope shr" },
  adapter = { title = "an adapter", from = "a run of lucid, or huggingface.co/juliozhao (hadpo-llava-1.5, "
    .. "hadpo-minigpt4, hadpo-instructblip)", files = { "adapter_config.json" }, recipes = "pope shr merge" },
  vg = { title = "Visual Genome", from = "visualgenome.org, version 2 of its API page: images (part 1 and 2), "
    .. "image meta data, region descriptions",
    files = { "image_data.json", "region_descriptions.json" }, more = { "objects.json" },
    pictures = "VG_100K/*.jpg, VG_100K_2/*.jpg", recipes = "llava minigpt4 instructblip shr mine" },
  coco = { title = "COCO's pictures of val2014", from = "cocodataset.org, 2014 Val images",
    pictures = "val2014/COCO_val2014_*.jpg", recipes = "pope" },
  hadpo = { title = "HA-DPO's pairs", from = HADPO .. "{llava-v1.5,minigpt4,instructblip}",
    files = { "desc_data.json", "pope_data.json" }, recipes = "llava minigpt4 instructblip" },
  pope = { title = "POPE's questions", from = "github.com/AoiDragon/POPE, output/coco",
    files = { "coco_pope_random.json", "coco_pope_popular.json", "coco_pope_adversarial.json" }, recipes = "pope" },
  shr = { title = "SHR's lists", from = "huggingface.co/datasets/juliozhao/SHR",
    files = { "val_images_final.json", "shr_factual_part1.jsonl", "shr_factual_part2.jsonl" }, recipes = "shr" },
  ccsbu = { title = "CC-SBU's captions", from = "MiniGPT-4's README, its data of the second stage (cc_sbu_align)",
    files = { "filter_cap.json" }, pictures = "image/*.jpg", recipes = "minigpt4" },
}

--- Where HA-DPO's pairs for a kind of model come from.
---@param model string
---@return string
function M.hadpo_from(model) return HADPO .. (model == "llava" and "llava-v1.5" or model) end

--- The published files by name: their part, and what is known of their bytes.
---@type table<string, { part: string, bytes: integer|nil, sha256: string|nil }>
M.KNOWN = {
  ["eva_vit_g.pth"] = { part = "eva" },
  ["pretrained_minigpt4_llama2_7b.pth"] = { part = "joined", bytes = 276957567,
    sha256 = "e2904bdc6ff4c95e5903d3c08cc0ad5b3f860be9cdbbd6fd05d99cd35b375096" },
  ["instruct_blip_vicuna13b_trimmed.pth"] = { part = "qformer",
    sha256 = "eea86b88e6165a642f58a6f5131308d0df518c599742527d18491fd8db584108" },
}

--- Files of which other versions are just as good: that one has the published bytes is worth a word, no more.
M.COMMON = {
  ["tokenizer.model"] = { what = "LLaMA's own", bytes = 499723,
    sha256 = "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347" },
  ["vocab.txt"] = { what = "bert-base-uncased's own",
    sha256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3" },
  ["coco_pope_random.json"] = { what = "the official file", bytes = 368166,
    sha256 = "ac25245170b975a5bdf9080b23fd431dfe6be458bc038259c1f4f09a6bef7994" },
  ["coco_pope_popular.json"] = { what = "the official file", bytes = 370190,
    sha256 = "72c1a8ad45d0c13514f5f22598261df41d3b533854d29682e924db50ed8aa753" },
  ["coco_pope_adversarial.json"] = { what = "the official file", bytes = 370401,
    sha256 = "420b3407db1fa9f1187a805dca41cb7b97fd91504e6c2179706188c107fb8ef8" },
}

--- What a kind of model is made of: each row is one way, parts with spaces between.
M.MODELS = {
  llava = { "llava_hf", "llava clip" },
  minigpt4 = { "llama eva joined" },
  instructblip = { "instructblip_hf", "llama eva qformer bert" },
}

--- The recipes that can be asked for, in order, and their data beside a model: HA-DPO's pairs are those of the kind.
M.RECIPES = {
  { name = "llava", kind = "llava", data = "hadpo vg" },
  { name = "minigpt4", kind = "minigpt4", data = "hadpo vg ccsbu" },
  { name = "instructblip", kind = "instructblip", data = "hadpo vg" },
  { name = "pope", data = "pope coco" },
  { name = "shr", data = "shr vg" },
  { name = "mine", data = "vg" },
}

return M
