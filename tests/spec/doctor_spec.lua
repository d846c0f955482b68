-- lucid doctor on small made-up downloads: complete, and with each kind of defect.
local checkpoint = require "lucid.checkpoint"
local downloads = require "tests.support.downloads"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local lucid = require "lucid"
local program = require "tests.support.program"
local published = require "tests.support.published"
local training = require "tests.support.training"
local weights = require "tests.support.weights"

local LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
local PAGE = "<!DOCTYPE html><html><body>404</body></html>"
local made, dir

-- One download of everything, under the names that people have.
setup(function()
  made = folder.folder()
  downloads.all(made .. "/all", made .. "/raw")
end)
teardown(function() folder.remove(made) end)

before_each(function()
  dir = folder.folder()
  downloads.copy(made .. "/all", dir .. "/d")
end)
after_each(function()
  collectgarbage()
  folder.remove(dir)
end)

local function look(opt)
  opt = opt or {}
  opt.cache = "none"
  return lucid.doctor({ dir .. "/d" }, opt)
end

local function part_of(found, kind, ending)
  for _, p in ipairs(found.parts) do
    if p.kind == kind and (not ending or p.path:sub(-#ending) == ending) then return p end
  end
end

local function recipe_of(found, name)
  for _, r in ipairs(found.recipes) do
    if r.recipe == name then return r end
  end
end

describe("lucid doctor, where everything is there,", function()
  it("finds every part and no fault", function()
    local found = look()
    local kinds = {}
    for _, p in ipairs(found.parts) do kinds[#kinds + 1] = p.kind end
    table.sort(kinds)
    assert.same({ "ccsbu", "coco", "eva", "hadpo", "hadpo", "hadpo", "instructblip_hf", "joined", "llama", "llava_hf", "pope",
      "shr", "vg" }, kinds)
    assert.same({ 0, 0, {} }, { found.missing, found.wrong, found.strangers }, lucid.doctor.text(found))
    assert.same({ "config.json", "tokenizer.model", "preprocessor_config.json", "2 files of weights" },
      part_of(found, "llava_hf").there)
    assert.same({ "every name and shape fits: a model of kind llava" }, part_of(found, "llava_hf").notes)
    assert.same({ "every name and shape fits: a model of kind minigpt4" }, part_of(found, "llama").notes)
    for _, model in ipairs { "llava", "minigpt4", "instructblip" } do
      assert.equal(model, part_of(found, "hadpo", model == "llava" and "llava-v1.5" or model).model)
    end
  end)

  it("says which commands it is enough for, and they are taken", function()
    local found = look()
    local names = {}
    for i, r in ipairs(found.recipes) do names[i] = r.recipe end
    assert.same({ "llava", "minigpt4", "instructblip", "pope", "shr" }, names)
    for _, name in ipairs { "llava", "minigpt4", "instructblip" } do
      local words = recipe_of(found, name).command:gsub("^lucid ", "")
      local status, said = training.run(words .. " --dry-run --cache none", dir)
      assert.equal(0, status, said)
    end
    local words = recipe_of(found, "pope").command:gsub("^lucid ", "")
    assert.equal(0, (training.run(words .. " --limit 2 --quiet --cache none --out " .. dir .. "/pope", dir)))
    assert.truthy(recipe_of(found, "shr").command:find("--data " .. dir .. "/d/shr --judge openai --images " .. dir .. "/d/VG", 1, true))
  end)

  it("reads every byte when it is asked to, and takes hashes", function()
    local found = look { check = true, hash = true }
    assert.same({ 0, 0 }, { found.missing, found.wrong }, lucid.doctor.text(found))
    local path = dir .. "/d/eva_vit_g.pth"
    assert.equal(file.hash(path), part_of(found, "eva").hashes[path])
  end)
end)

-- What is done to the download, which part then says what, and whether it is missing or wrong.
local DEFECTS = {
  { "a shard that is not there", "llava_hf", "missing", "model-00002-of-00002.safetensors", "llava-hf/llava-1.5-7b-hf",
    function(d) file.remove(d .. "/llava-1.5-7b-hf/model-00002-of-00002.safetensors") end },
  { "a shard that is cut short", "llava_hf", "wrong", "model-00002-of-00002.safetensors", "are not within the file's",
    function(d)
      local path = d .. "/llava-1.5-7b-hf/model-00002-of-00002.safetensors"
      file.truncate(path, math.floor(file.size(path) / 2))
    end },
  { "a pointer in a shard's place", "llava_hf", "wrong", "model-00001-of-00002.safetensors", "it is a Git LFS pointer",
    function(d) file.write(d .. "/llava-1.5-7b-hf/model-00001-of-00002.safetensors", LFS) end },
  { "an index that is not there", "llava_hf", "missing", "model.safetensors.index.json", "llava-hf",
    function(d) file.remove(d .. "/llava-1.5-7b-hf/model.safetensors.index.json") end },
  { "an index that is a page", "llava_hf", "wrong", "model.safetensors.index.json", "it is an HTML page",
    function(d) file.write(d .. "/llava-1.5-7b-hf/model.safetensors.index.json", PAGE) end },
  { "no weights at all", "llava_hf", "missing", "model.safetensors (or pytorch_model.bin, or an index with its parts)", "llava-hf",
    function(d) assert(os.execute(("rm '%s'/llava-1.5-7b-hf/model*"):format(d))) end },
  { "a page in pytorch_model.bin's place", "llama", "wrong", "pytorch_model.bin", "it is an HTML page, not weights",
    function(d)
      file.remove(d .. "/Llama-2-7b-chat-hf/model.safetensors")
      file.write(d .. "/Llama-2-7b-chat-hf/pytorch_model.bin", PAGE)
    end },
  { "a configuration that is a page", "llava_hf", "wrong", "config.json", "it is an HTML page, not JSON",
    function(d) file.write(d .. "/llava-1.5-7b-hf/config.json", PAGE) end },
  { "a configuration that is not there", "llama", "missing", "config.json", "meta-llama",
    function(d) file.remove(d .. "/Llama-2-7b-chat-hf/config.json") end },
  { "a configuration of another depth", "llama", "wrong", "config.json", "num_hidden_layers is 31, and the weights have 3 blocks",
    function(d)
      local path = d .. "/Llama-2-7b-chat-hf/config.json"
      local config = json.read(path)
      config.num_hidden_layers = 31
      json.write(path, config)
    end },
  { "a configuration of other shapes", "llava_hf", "wrong", "config.json", "mlp",
    function(d)
      local path = d .. "/llava-1.5-7b-hf/config.json"
      local config = json.read(path)
      config.text_config.intermediate_size = config.text_config.intermediate_size + 1
      json.write(path, config)
    end },
  { "a tokenizer that is not there", "llava_hf", "missing", "tokenizer.model", "llava-hf",
    function(d) file.remove(d .. "/llava-1.5-7b-hf/tokenizer.model") end },
  { "a pointer in the tokenizer's place", "llava_hf", "wrong", "tokenizer.model", "it is a Git LFS pointer",
    function(d) file.write(d .. "/llava-1.5-7b-hf/tokenizer.model", LFS) end },
  { "a tokenizer of more pieces than the model has words", "llava_hf", "wrong", "tokenizer.model", "but the model's vocabulary has 16",
    function(d)
      for _, name in ipairs { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors" } do
        local path, tensors = d .. "/llava-1.5-7b-hf/" .. name, {}
        local from = checkpoint(path)
        for _, tensor in ipairs(from:names()) do
          local t = from:tensor(tensor)
          local cut = tensor:find "embed_tokens" or tensor:find "lm_head"
          tensors[tensor] = cut and t:slice(1, 1, 16):contiguous() or t
        end
        checkpoint.save(path, tensors)
      end
      local path = d .. "/llava-1.5-7b-hf/config.json"
      local config = json.read(path)
      config.text_config.vocab_size = 16
      json.write(path, config)
    end },
  { "no vocabulary for the Q-Former", "instructblip_hf", "missing", "qformer_tokenizer/vocab.txt", "Salesforce",
    function(d) file.remove(d .. "/instructblip-vicuna-13b/qformer_tokenizer/vocab.txt") end },
  { "a page in the tower's place", "eva", "wrong", "eva_vit_g.pth", "it is an HTML page, not weights",
    function(d) file.write(d .. "/eva_vit_g.pth", PAGE) end },
  { "a tower that is cut short", "eva", "wrong", "eva_vit_g.pth", "get it again",
    function(d) file.truncate(d .. "/eva_vit_g.pth", math.floor(file.size(d .. "/eva_vit_g.pth") / 2)) end },
  { "other weights under a published name", "eva", "wrong", "eva_vit_g.pth", "it holds MiniGPT-4 projection, not EVA's tower",
    function(d) file.write(d .. "/eva_vit_g.pth", file.read(d .. "/projection.pth")) end },
  { "a published file of another size", "joined", "wrong", "pretrained_minigpt4_llama2_7b.pth", "and the published file of this name 276957567",
    function(d) file.rename(d .. "/projection.pth", d .. "/pretrained_minigpt4_llama2_7b.pth") end },
  { "a list of pictures that is cut short", "vg", "wrong", "image_data.json", "the text ends",
    function(d) file.truncate(d .. "/VG/image_data.json", 300) end },
  { "a list of pictures that is not there", "vg", "missing", "image_data.json", "visualgenome.org",
    function(d) file.remove(d .. "/VG/image_data.json") end },
  { "no regions", "vg", "missing", "region_descriptions.json", "visualgenome.org",
    function(d) file.remove(d .. "/VG/region_descriptions.json") end },
  { "regions that are cut short", "vg", "wrong", "region_descriptions.json", "",
    function(d) file.truncate(d .. "/VG/region_descriptions.json", 1000) end },
  { "no pictures", "vg", "missing", "VG_100K/, VG_100K_2/", "images (part 1 and 2)",
    function(d) assert(os.execute(("rm -r '%s'/VG/VG_100K"):format(d))) end },
  { "a picture that is needed and not there", "shr", "missing", "1 of 6 pictures (VG_100K/300002.jpg)", "visualgenome.org",
    function(d) file.remove(d .. "/VG/VG_100K/300002.jpg") end },
  { "a picture of no bytes", "hadpo", "wrong", "VG_100K/300002.jpg", "it has 0 bytes",
    function(d) file.write(d .. "/VG/VG_100K/300002.jpg", "") end },
  { "a pointer in the pairs' place", "hadpo", "wrong", "desc_data.json", "it is a Git LFS pointer",
    function(d)
      for _, name in ipairs(file.list(d .. "/hadpo")) do file.write(("%s/hadpo/%s/desc_data.json"):format(d, name), LFS) end
    end },
  { "a pair without its question", "hadpo", "wrong", "pope_data.json", "record 1",
    function(d)
      for _, name in ipairs(file.list(d .. "/hadpo")) do
        local path = ("%s/hadpo/%s/pope_data.json"):format(d, name)
        file.write(path, (file.read(path):gsub('"question"', '"query"', 1)))
      end
    end },
  { "no questions beside the pairs", "hadpo", "missing", "pope_data.json", "juliozhao/hadpo-data",
    function(d) assert(os.execute(("rm '%s'/hadpo/*/pope_data.json"):format(d))) end },
  { "pictures of another list", "hadpo", "wrong", "pictures", "1 ids are not in",
    function(d)
      for _, name in ipairs(file.list(d .. "/hadpo")) do
        local path = ("%s/hadpo/%s/pope_data.json"):format(d, name)
        file.write(path, (file.read(path):gsub("300001", "7", 1)))
      end
    end },
  { "a question file that is not there", "pope", "missing", "coco_pope_popular.json", "AoiDragon/POPE",
    function(d) file.remove(d .. "/POPE/output/coco/coco_pope_popular.json") end },
  { "a question file that is cut short", "pope", "wrong", "coco_pope_random.json", "",
    function(d) file.truncate(d .. "/POPE/output/coco/coco_pope_random.json", 250) end },
  { "a picture that POPE asks about and that is not there", "pope", "missing", "1 of 5 pictures (COCO_val2014_000000300002.jpg)",
    "cocodataset.org", function(d) file.remove(d .. "/coco/val2014/COCO_val2014_000000300002.jpg") end },
  { "no pictures of COCO", "coco", "missing", "COCO_val2014_*.jpg", "cocodataset.org",
    function(d) assert(os.execute(("rm '%s'/coco/val2014/*"):format(d))) end },
  { "facts that are not there", "shr", "missing", "shr_factual_part1.jsonl", "juliozhao/SHR",
    function(d) file.remove(d .. "/shr/shr_factual_part1.jsonl") end },
  { "a captioned picture that is not there", "ccsbu", "missing", "1 pictures in image/", "cc_sbu_align",
    function(d) file.remove(d .. "/cc_sbu_align/image/2.jpg") end },
}

describe("lucid doctor tells", function()
  for _, row in ipairs(DEFECTS) do
    local name, kind, label, what, more, damage = unpack(row)
    it(name, function()
      damage(dir .. "/d")
      local found = look()
      local part = assert(part_of(found, kind), lucid.doctor.text(found))
      local told
      for _, entry in ipairs(part[label]) do
        if entry.file == what then told = entry end
      end
      assert.truthy(told, lucid.doctor.text(found))
      assert.truthy((told.from or told.reason):find(more, 1, true), lucid.doctor.text(found))
      assert.is_true(found.missing + found.wrong > 0)
      assert.truthy(lucid.doctor.text(found):find(("  %-8s %s"):format(label, what), 1, true))
    end)
  end

  it("a damaged picture, when every byte is read", function()
    local path = dir .. "/d/VG/VG_100K/300002.jpg"
    file.truncate(path, math.floor(file.size(path) / 2))
    file.write(dir .. "/d/VG/VG_100K/300003.jpg", PAGE)
    assert.equal(0, look().wrong)
    local wrong = part_of(look { check = true }, "shr").wrong
    assert.equal("VG_100K/300002.jpg", wrong[1].file)
    assert.truthy(wrong[2].reason:find("web page", 1, true))
  end)

  it("numbers that are none, when every byte is read", function()
    local path = dir .. "/d/projection.pth"
    local from, tensors = checkpoint(path), {}
    for _, name in ipairs(from:names()) do tensors[name] = from:tensor(name) * (0 / 0) end
    checkpoint.save(path, tensors)
    assert.equal(0, look().wrong)
    assert.truthy(part_of(look { check = true }, "joined").wrong[1].reason:find "NaN or infinite")
  end)

  it("another hash than the published one", function()
    file.rename(dir .. "/d/projection.pth", dir .. "/d/instruct_blip_vicuna13b_trimmed.pth")
    local golden = file.read "tests/golden/bridges/qformer.pth"
    file.write(dir .. "/d/instruct_blip_vicuna13b_trimmed.pth", golden)
    assert.equal(0, look().wrong)
    local part = part_of(look { hash = true }, "qformer")
    assert.truthy(part.wrong[1].reason:find("its SHA-256 is " .. lucid.cache.hash(golden), 1, true))
  end)

  it("an adapter without its weights, or its configuration", function()
    local path = dir .. "/d/hadpo-llava-1.5"
    file.mkdir(path)
    file.write(path .. "/adapter_config.json", "{}")
    assert.equal("adapter_model.safetensors or adapter_model.bin", part_of(look(), "adapter").missing[1].file)
    file.remove(path .. "/adapter_config.json")
    file.write(path .. "/adapter_model.bin", PAGE)
    local part = part_of(look(), "adapter")
    assert.equal("adapter_config.json", part.missing[1].file)
    assert.truthy(part.wrong[1].reason:find("HTML page", 1, true))
  end)

  it("archives, and what is no part", function()
    file.write(dir .. "/d/images2.zip", "PK\3\4")
    file.mkdir(dir .. "/empty")
    local found = lucid.doctor({ dir .. "/d", dir .. "/empty" }, { cache = "none" })
    assert.same({ dir .. "/d/images2.zip: an archive; unpack it, if what it holds is not there yet",
      dir .. "/empty: nothing in it is a part that lucid reads" }, found.strangers)
  end)

  it("weights of no part that cannot be read, and why", function()
    file.mkdir(dir .. "/empty")
    file.write(dir .. "/empty/some.safetensors", "hi\n")
    local said = dir .. "/empty/some.safetensors: it has 3 bytes: too short for safetensors"
    for _, path in ipairs { "/empty", "/empty/some.safetensors" } do
      assert.same({ said }, lucid.doctor({ dir .. path }, { cache = "none" }).strangers)
    end
  end)

  it("a part once, though a link leads back to the folder above it", function()
    local parts = #look().parts
    assert(os.execute(("ln -s . '%s/d/again' && ln -s .. '%s/d/hadpo/back'"):format(dir, dir)))
    assert.equal(parts, #look().parts)
  end)
end)

describe("lucid doctor of recipes", function()
  it("finds each data set's pictures where they are, of several copies of Visual Genome", function()
    assert(os.execute(("mkdir '%s/d/A' && cp '%s'/d/VG/*.json '%s/d/A'"):format(dir, dir, dir)))
    for _, name in ipairs { "image_data.json", "region_descriptions.json" } do
      local list = json.read(dir .. "/d/A/" .. name)
      json.write(dir .. "/d/A/" .. name, json.array { list[1] })
    end
    file.mkdir(dir .. "/d/A/VG_100K")
    local found = look()
    assert.same({}, part_of(found, "shr").wrong)
    for _, name in ipairs { "llava", "shr" } do
      assert.truthy((recipe_of(found, name).command or ""):find("--images " .. dir .. "/d/VG ", 1, true), lucid.doctor.text(found))
    end
  end)

  it("looks into the folder of a file of weights that is named", function()
    local path = dir .. "/d/llava-1.5-7b-hf"
    local found = lucid.doctor({ path .. "/model-00001-of-00002.safetensors", path .. "/model-00002-of-00002.safetensors" },
      { cache = "none", ["for"] = { pope = true } })
    assert.equal(1, #found.parts)
    assert.same({ path, {}, {} }, { found.parts[1].path, found.parts[1].missing, found.parts[1].wrong })
    found = lucid.doctor({ dir .. "/d/eva_vit_g.pth" }, { cache = "none" })
    assert.equal(dir .. "/d/eva_vit_g.pth", found.parts[1].path)
  end)

  it("says what one needs that is nowhere, by its files", function()
    assert(os.execute(("rm -r '%s/d/VG' '%s/d/hadpo/llava-v1.5'"):format(dir, dir)))
    local found = look { ["for"] = { llava = true } }
    assert.equal(1, #found.recipes)
    assert.is_nil(found.recipes[1].command)
    assert.same({ "HA-DPO's pairs (desc_data.json, pope_data.json)", "Visual Genome (image_data.json, region_descriptions.json, VG_100K/*.jpg, VG_100K_2/*.jpg)" },
      { found.recipes[1].lacks[1].what, found.recipes[1].lacks[2].what })
    assert.truthy(found.recipes[1].lacks[1].from:find("hadpo/llava-v1.5", 1, true))
  end)

  it("asks for a tower where LLaVA's own folder has none, and takes it", function()
    local root = dir .. "/original"
    lucid.export { model = made .. "/raw/model", out = root, layout = "original" }
    downloads.copy(root .. "/vision_tower", dir .. "/towers/clip")
    assert(os.execute(("rm -r '%s/vision_tower'"):format(root)))
    local function llava(paths)
      local found = lucid.doctor(paths, { cache = "none", ["for"] = { mine = true } })
      return recipe_of(found, "mine"), part_of(found, "llava")
    end
    assert.equal("CLIP's tower (config.json, preprocessor_config.json, weights)", (llava { root, dir .. "/d/VG" }).lacks[1].what)
    local recipe, part = llava { root, dir .. "/towers", dir .. "/d/VG" }
    assert.same({ "every name and shape fits: a model of kind llava" }, part.notes)
    assert.equal(("lucid mine --model %s --vision %s/towers/clip --images %s/d/VG --out runs/mine"):format(root, dir, dir),
      recipe.command)
  end)

  it("finds InstructBLIP in parts, its decoder by the width of its projection", function()
    local llama = { width = 24, mlp = 40, layers = 2, heads = 4, words = 512, positions = 64, eps = 1e-5 }
    weights.write(dir .. "/parts", published.instructblip { language = llama,
      vision = { width = 32, mlp = 48, layers = 2, heads = 16, size = 28, patch = 14 },
      qformer = { width = 24, mlp = 36, layers = 3, heads = 12, queries = 4, words = 40, positions = 16 } },
      { dtype = "f16", limit = 1e4 })
    file.rename(dir .. "/parts/instruct_blip_vicuna13b_trimmed.pth", dir .. "/parts/trimmed.pth")
    file.write(dir .. "/parts/vicuna/tokenizer.model", file.read(made .. "/raw/model/tokenizer.model"))
    downloads.copy(made .. "/all/Llama-2-7b-chat-hf", dir .. "/parts/Llama-2-7b-chat-hf")
    local function instructblip()
      local found = lucid.doctor({ dir .. "/parts", dir .. "/d/VG", dir .. "/d/hadpo" }, { cache = "none", ["for"] = { instructblip = true } })
      return found.recipes[1], found
    end
    assert.same({ what = "BERT's vocabulary (vocab.txt)", from = "huggingface.co/bert-base-uncased" }, instructblip().lacks[1])
    downloads.copy(made .. "/all/instructblip-vicuna-13b/qformer_tokenizer/vocab.txt", dir .. "/parts/bert/vocab.txt")
    local recipe, found = instructblip()
    local at = dir .. "/parts"
    assert.equal(("lucid instructblip --model %s/vicuna --vision %s/eva_vit_g.pth --bridge %s/trimmed.pth --bert %s/bert --data %s "
      .. "--images %s --out runs/instructblip"):format(at, at, at, at, dir .. "/d/hadpo/instructblip", dir .. "/d/VG"),
      recipe.command, lucid.doctor.text(found))
    assert.same({ "every name and shape fits: a model of kind instructblip" }, part_of(found, "llama", "vicuna").notes)
    file.remove(at .. "/vicuna/pytorch_model-00002-of-00005.bin")
    assert.equal("pytorch_model-00002-of-00005.bin", part_of(select(2, instructblip()), "llama", "vicuna").missing[1].file)
  end)

  it("names the part that is not whole", function()
    file.remove(dir .. "/d/llava-1.5-7b-hf/tokenizer.model")
    local recipe = recipe_of(look(), "llava")
    assert.is_nil(recipe.command)
    assert.same({ dir .. "/d/llava-1.5-7b-hf" }, recipe.broken)
  end)

  it("takes Visual Genome in part where that is all that is needed", function()
    local list = json.read(dir .. "/d/VG/image_data.json")
    list[#list + 1] = { image_id = 9, url = "https://example.org/VG_100K_2/9.jpg", width = 8, height = 8 }
    json.write(dir .. "/d/VG/image_data.json", list)
    local found = look()
    assert.equal(0, found.missing)
    assert.same({ "not there: 1 of 7 pictures (VG_100K_2/9.jpg)" }, part_of(found, "vg").notes)
    assert.equal(1, lucid.doctor({ dir .. "/d/VG" }, { cache = "none" }).missing)
  end)
end)

describe("the command", function()
  local function run(words)
    local status = os.execute(("%s doctor %s --cache none >%s/out 2>%s/err"):format(program, words, dir, dir))
    return status > 255 and status / 256 or status, file.read(dir .. "/out"), file.read(dir .. "/err")
  end

  it("ends with 0 where all is well, with 1 and one line where it is not, and with 2 without a folder", function()
    local status, out, err = run(dir .. "/d")
    assert.same({ 0, "" }, { status, err })
    assert.truthy(out:find("lucid llava\n  ready    lucid llava --model ", 1, true), out)
    file.remove(dir .. "/d/llava-1.5-7b-hf/config.json")
    status, out, err = run(dir .. "/d --for llava,pope")
    assert.same({ 1, "lucid: doctor: 1 missing, 0 wrong\n" }, { status, err })
    assert.truthy(out:find("  missing  config.json, from huggingface.co/llava-hf/llava-1.5-7b-hf\n", 1, true), out)
    for words, want in pairs { [""] = { 2, "name the folders of the downloads" },
      [dir .. "/nothing"] = { 1, "there is no such file or folder" }, [dir .. "/d --for llava,cat"] = { 2, "'cat' is none of" } } do
      local ending, _, said = run(words)
      assert.equal(want[1], ending)
      assert.truthy(said:find(want[2], 1, true), said)
    end
  end)

  it("shows how far it is where it reads every byte, unless it is to be quiet", function()
    local status, _, err = run(dir .. "/d --check")
    assert.equal(0, status)
    assert.truthy(err:find("doctor 13/13", 1, true), err)
    assert.same({ 0, "" }, { status, select(3, run(dir .. "/d --check --quiet")) })
  end)

  it("prints JSON", function()
    file.write(dir .. "/d/eva_vit_g.pth", LFS)
    local status, out = run(dir .. "/d --json")
    local t = json.decode(out)
    assert.same({ 1, 0, 1 }, { status, t.missing, t.wrong })
    for _, part in ipairs(t.parts) do
      if part.part == "eva" then assert.equal("eva_vit_g.pth", part.wrong[1].file) end
    end
    for _, recipe in ipairs(t.recipes) do
      if recipe.recipe == "minigpt4" then assert.same({ dir .. "/d/eva_vit_g.pth" }, { unpack(recipe.not_whole) }) end
    end
  end)
end)
