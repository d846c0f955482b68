-- A model in its other layout, or an adapter as the published ones are.
--   lucid export --model llava-v1.5-7b --vision clip-vit-large-patch14-336 --layout hf --out llava-1.5-7b-hf
--   lucid export --model instructblip-vicuna-13b --layout original --out instructblip-parts
--   lucid export --adapter runs/llava --layout original --out hadpo-llava        for LLaVA's own programs
local lucid = require "lucid"

local opt = lucid.args {
  about = "Writes the same model in its other layout, tensor by tensor, as safetensors: LLaVA's own folder (CLIP's in\n"
    .. "vision_tower/) or Hugging Face's; InstructBLIP's parts (language/, eva_vit_g, instructblip, bert/) or Hugging\n"
    .. "Face's folder. Tensors keep their bytes; rows behind the vocabulary are left out or added.\n"
    .. "With --adapter: the adapter alone under the published names, a trained projector in non_lora_trainables.bin.",
  common = "model vision bridge bert adapter out json quiet",
  required = { "out", "layout" },
  { "out", "", "folder to write; it must not be there yet" },
  { "layout", "", "the layout to write: hf or original", { choices = "hf original" } },
}

if opt.adapter ~= "" then
  if opt.layout ~= "original" then
    lucid.args.usage "--adapter: original is the one layout to export to; PEFT reads a run's folder as it is"
  end
  local layers, beside = lucid.export.adapter(opt.adapter, opt.out)
  local written = { out = opt.out, tensors = layers, non_lora_trainables = beside }
  lucid.run.show(opt, written, ("%s: an adapter of %d tensors%s"):format(opt.out, layers,
    beside > 0 and (", the projector's %d in non_lora_trainables.bin"):format(beside) or ""))
  return written
end
if opt.model == "" then lucid.args.usage "--model is required, or --adapter; --help lists all options" end
local done = lucid.export { model = opt.model, vision = opt.vision, bridge = opt.bridge, bert = opt.bert, out = opt.out,
  layout = opt.layout, progress = not opt.quiet }
done.out, done.layout = opt.out, opt.layout
lucid.run.show(opt, done, ("%s: %s, %s layout, %s"):format(opt.out, done.kind,
  opt.layout == "hf" and "Hugging Face's" or "the original", lucid.inspect.size(done.bytes)))
return done
