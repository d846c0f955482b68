-- A model in its other layout.
--   lucid export --model llava-v1.5-7b --vision clip-vit-large-patch14-336 --layout hf --out llava-1.5-7b-hf
--   lucid export --model instructblip-vicuna-13b --layout original --out instructblip-parts
local lucid = require "lucid"

local opt = lucid.args {
  about = "Writes the same model in its other layout, tensor by tensor, as safetensors: LLaVA's own folder (CLIP's in\n"
    .. "vision_tower/) or Hugging Face's; InstructBLIP's parts (language/, eva_vit_g, instructblip, bert/) or Hugging\n"
    .. "Face's folder. Tensors keep their bytes; rows behind the vocabulary are left out or added.",
  common = "model vision bridge bert out",
  required = { "model", "out", "layout" },
  { "out", "", "folder to write; it must not be there yet" },
  { "layout", "", "the layout to write: hf or original", { choices = "hf original" } },
}

local done = lucid.export { model = opt.model, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, out = opt.out,
  layout = opt.layout }
print(("%s: %s, %s layout, %s"):format(opt.out, done.kind, opt.layout == "hf" and "Hugging Face's" or "the original",
  lucid.inspect.size(done.bytes)))
return done
