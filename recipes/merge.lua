-- An adapter into the weights of its base.
--   lucid merge --model llava-1.5-7b-hf --adapter runs/llava --out llava-hadpo
local lucid = require "lucid"

local opt = lucid.args {
  about = "Adds an adapter to its base's weights and writes a folder of the base's own layout, tensor by tensor.\n"
    .. "PyTorch's .bin files are read, safetensors are written. Of MiniGPT-4 and InstructBLIP in parts, --model is\n"
    .. "the language model's folder.",
  common = "model adapter out threads json quiet",
  required = { "model", "adapter", "out" },
  { "out", "", "folder to write; it must not be there yet" },
  { "dtype", "", "f32, bf16 or f16 for every tensor; empty: each keeps its file's", { choices = "f32 bf16 f16" } },
  { "numerics", "exact", "exact: in f32, rounded once; published: base and result in bf16, as the tool of MiniGPT-4 and InstructBLIP",
    { choices = "exact published" } },
}

lucid.threads(opt.threads)
local done = lucid.merge { model = opt.model, adapter = opt.adapter, out = opt.out, dtype = opt.dtype,
  published = opt.numerics == "published", progress = not opt.quiet }
done.out = opt.out
lucid.run.show(opt, done, ("%s: %d tensors, %s; %d with the adapter in them, %d replaced by it%s%s"):format(opt.out, done.tensors,
  lucid.inspect.size(done.bytes), done.merged, done.replaced,
  done.left_out > 0 and ("; %d integer buffers left out"):format(done.left_out) or "",
  done.converted and "; written as safetensors, the base is in PyTorch's files" or ""))
return done
