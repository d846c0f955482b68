-- What a file or folder of weights holds, and what it is.
--   lucid inspect llava-1.5-7b-hf [--tensors] [--json]
--   lucid inspect vicuna-13b --fit --vision eva_vit_g.pth --bridge instruct_blip_vicuna13b_trimmed.pth
local lucid = require "lucid"

local opt = lucid.args {
  about = "Lists the weights of a file or folder, safetensors or PyTorch's, and tells what they are of.\n"
    .. "Nothing of a file is run, and none is read as a whole without --check.",
  positional = "files or folders",
  common = "vision bridge json quiet",
  { "tensors", false, "list every tensor" },
  { "check", false, "read every byte: sums of PyTorch's zips, numbers that are NaN or infinite" },
  { "fit", false, "open the folder as a model: every name and shape is compared, no weights are read" },
}
if #opt == 0 then lucid.args.usage("inspect: name a file or a folder of weights") end

local list, texts = {}, {}
for i, path in ipairs(opt) do
  local found = lucid.inspect(path)
  if opt.check then lucid.inspect.check(found, not opt.quiet) end
  list[i] = lucid.inspect.plain(found, opt.tensors)
  local kind, parameters
  if opt.fit then
    kind, parameters = lucid.inspect.fit(found, { vision = opt.vision, bridge = opt.bridge })
    list[i].fits = kind
  end
  texts[#texts + 1] = lucid.inspect.text(found, opt.tensors)
  if kind then texts[#texts + 1] = ("  fits: a model of kind %s, %d parameters"):format(kind, parameters) end
end
lucid.run.show(opt, #list == 1 and list[1] or lucid.json.array(list), table.concat(texts, "\n"))
return list
