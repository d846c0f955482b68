-- HA-DPO training of LLaVA-1.5: preference pairs in, a PEFT adapter out.
--   lucid llava --model llava-1.5-7b-hf --data hadpo/llava-v1.5 --images VG --out runs/llava
--   lucid llava --model llava-v1.5-7b --vision clip-vit-large-patch14-336 ...       LLaVA's own folder
--   lucid llava --as-published ...                                                  with all that the paper's program did
local lucid = require "lucid"

local opt = lucid.args {
  about = "HA-DPO for LLaVA-1.5: DPO with LoRA; the defaults are the published hyper-parameters of one process.",
  common = lucid.hadpo.COMMON,
  required = lucid.hadpo.REQUIRED,
  processes = true,
  groups = lucid.hadpo.options "llava",
  defaults = {
    rank = 128, alpha = 256, targets = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
    lr = 2e-6, ["warmup-ratio"] = 0.03,
    batch = 16, accumulate = 1, epochs = 1, beta = 0.1,
    clip = 0,                                   -- asked for, but the published DeepSpeed settings do not pass it on
    ["repeat"] = "desc:2", ["max-length"] = 2048,
  },
}

lucid.hadpo.train("llava", opt)
