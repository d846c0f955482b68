-- lucid.data.NAME: readers and writers of published formats, one file each in data/.
return require("lucid.plug")("data")
