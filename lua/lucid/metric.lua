-- lucid.metric.NAME.score(records, opt) -> { NAME = { value, stderr, n } }: one file each in
-- metric/.
return require("lucid.plug")("metric")
