-- lucid.loss.NAME(policy, reference, opt) -> loss, stats: one file each in loss/.
return require("lucid.plug")("loss")
