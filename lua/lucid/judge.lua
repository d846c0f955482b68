-- lucid.judge.NAME{ ... }:ask(requests) -> replies: one file each in judge/.
return require("lucid.plug")("judge")
