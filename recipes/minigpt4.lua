-- HA-DPO training of MiniGPT-4 with Llama 2: preference pairs in, a PEFT adapter out.
--   lucid minigpt4 --model Llama-2-7b-chat-hf --vision eva_vit_g.pth --bridge pretrained_minigpt4_llama2_7b.pth
--     --data hadpo/minigpt4 --images VG --captions cc_sbu_align --out runs/minigpt4
--   lucid minigpt4 --as-published ...                          with all that the paper's program did, FP4 among it
local lucid = require "lucid"

local opt = lucid.args {
  about = "HA-DPO for MiniGPT-4: DPO with LoRA, held by a caption loss on CC-SBU (--captions; --gamma 0: without);\n"
    .. "the defaults are the published hyper-parameters of one process.",
  common = lucid.hadpo.COMMON,
  required = lucid.hadpo.REQUIRED,
  processes = true,
  groups = lucid.hadpo.options "minigpt4",
  defaults = {
    rank = 64, alpha = 16, targets = "q_proj,k_proj,v_proj",
    lr = 1e-4, warmup = 100, clip = 1,
    batch = 1, accumulate = 4, steps = 1000, beta = 0.1,
    gamma = 0.5, ["gamma-on"] = "captions",
  },
}

lucid.hadpo.train("minigpt4", opt)
