-- HA-DPO training of InstructBLIP with Vicuna: preference pairs in, a PEFT adapter out.
--   lucid instructblip --model vicuna-13b-v1.1 --vision eva_vit_g.pth --bridge instruct_blip_vicuna13b_trimmed.pth
--     --bert bert-base-uncased --data hadpo/instructblip --images VG --out runs/instructblip
--   lucid instructblip --model instructblip-vicuna-13b ...     Hugging Face's folder
--   lucid instructblip --as-published ...                      with all that the paper's program did
local lucid = require "lucid"

local opt = lucid.args {
  about = "HA-DPO for InstructBLIP: DPO with LoRA; the defaults are the published hyper-parameters of one process.\n"
    .. "The Q-Former reads the question, too, with BERT's vocabulary (--bert).",
  common = lucid.hadpo.COMMON .. " bert",
  required = lucid.hadpo.REQUIRED,
  processes = true,
  groups = lucid.hadpo.options "instructblip",
  defaults = {
    rank = 64, alpha = 16, targets = "q_proj,k_proj,v_proj",
    lr = 4e-6, clip = 1,
    batch = 1, accumulate = 4, epochs = 1, beta = 0.1,
    ["repeat"] = "pope:2",
  },
}

lucid.hadpo.train("instructblip", opt)
