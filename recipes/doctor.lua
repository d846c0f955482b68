-- What is missing or wrong in downloaded folders: models, pairs, pictures, questions.
--   lucid doctor models data                        what is there, and the commands that it is enough for
--   lucid doctor models data --for llava,pope,shr   whether all that these need is there
local lucid = require "lucid"

local opt = lucid.args {
  about = "Looks into folders of downloads: what each one is, what is missing from it and where that comes from, what\n"
    .. "is cut short, a web page or a Git LFS pointer, which pictures are not there, and whether names and shapes of\n"
    .. "weights fit their configuration. Ends with the commands that all of it is enough for; exit status 1 if\n"
    .. "something is missing or wrong.",
  positional = "folders or files",
  common = "cache json quiet",
  { "for", "", "recipes that are to work, separated by commas; empty: those of which a model or the data are there",
    { choices = "llava minigpt4 instructblip pope shr mine", list = true } },
  { "check", false, "read every byte: weights and their sums, and every picture that is needed" },
  { "hash", false, "SHA-256 of every file of weights, compared where the published one is known" },
}
if #opt == 0 then lucid.args.usage "doctor: name the folders of the downloads" end

local asked
for name in opt["for"]:gmatch "[^,]+" do
  asked = asked or {}
  asked[name] = true
end
local bar
local function progress(done, total)
  bar = bar or lucid.progress { total = total, label = "doctor", unit = "parts", quiet = opt.quiet }
  bar:step(done)
  if done == total then bar:done() end
end

local found = lucid.doctor({ unpack(opt) }, { ["for"] = asked, check = opt.check, hash = opt.hash, cache = opt.cache,
  progress = (opt.check or opt.hash) and progress or nil })
lucid.run.show(opt, lucid.doctor.plain(found), lucid.doctor.text(found))
if found.missing + found.wrong > 0 then
  error(("doctor: %d missing, %d wrong"):format(found.missing, found.wrong), 0)
end
return found
