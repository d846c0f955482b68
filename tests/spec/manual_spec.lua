-- Manual pages and completions: every command and option is in each, and the programs that read them take them.
local args = require "lucid.args"
local command = require "lucid.command"
local file = require "lucid.file"
local folder = require "tests.support.folder"
local manual = require "lucid.manual"

local BASH, ZSH, FISH = "bash-completion/completions/lucid", "zsh/site-functions/_lucid", "fish/vendor_completions.d/lucid.fish"
local dir, commands, files

local function here(program) return os.execute(("command -v %s >/dev/null"):format(program)) == 0 end

-- What a shell command writes to both streams.
local function said(line)
  local pipe = io.popen(line .. " 2>&1")
  local text = pipe:read "*a"
  pipe:close()
  return text
end

setup(function()
  dir = folder.folder()
  commands = command.of "recipes"
  files = manual.files(commands)
  for place, text in pairs(files) do
    file.mkdir((dir .. "/" .. place):match "^(.*)/")
    file.write(dir .. "/" .. place, text)
  end
end)
teardown(function() folder.remove(dir) end)

describe("the manual", function()
  it("has a page of every command, and in it every option with its default", function()
    for _, c in ipairs(commands) do
      local page = files[("man/man1/lucid-%s.1"):format(c.name)]
      assert.truthy(files["man/man1/lucid.1"]:find("lucid\\-" .. c.name, 1, true), c.name)
      for _, o in ipairs((args.options(c.spec))) do
        assert.truthy(page:find(".B " .. ("--" .. o.name):gsub("%-", "\\-"), 1, true), c.name .. " " .. o.name)
      end
    end
    assert.truthy(files["man/man1/lucid-demo.1"]:find("folder of everything that is made [runs/demo]", 1, true))
  end)

  it("tells the exit status on every page, and how a command is called", function()
    for place, page in pairs(files) do
      if place:find "^man/" then
        for _, status in ipairs(command.STATUS) do assert.truthy(page:find("\n.B " .. status[1], 1, true), place) end
      end
    end
    assert.truthy(files["man/man1/lucid-merge.1"]:find("lucid merge \\-\\-model llava\\-1.5\\-7b\\-hf", 1, true))
  end)

  it("is taken by groff without a warning", function()
    if not here "groff" then return pending "there is no groff" end
    for place in pairs(files) do
      if place:find "^man/" then assert.equal("", said(("groff -man -rLL=100n -ww -z %s/%s"):format(dir, place))) end
    end
  end)

  it("keeps roff's own signs from what options say", function()
    local page = require("lucid.manual.page").pages { { name = "x", about = ".it \\ is", examples = {},
      spec = { about = "one\n.so two", { "a", "", "'quoted" } } } }["lucid-x"]
    assert.truthy(page:find("\n\\&.so two", 1, true) and page:find("\\e is", 1, true) and page:find("\n\\&'quoted", 1, true), page)
  end)
end)

describe("completion", function()
  -- What bash offers for the last of some words.
  local function offered(...)
    local words = {}
    for i, word in ipairs { ... } do words[i] = ("'%s'"):format(word) end
    return said(([[bash -c '. %s/%s; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { echo files; }; _lucid; printf "%%s\n" "${COMPREPLY[@]}"' - %s]])
      :format(dir, BASH, table.concat(words, " ")))
  end

  it("offers bash commands, their options and what these can be", function()
    if not here "bash" then return pending "there is no bash" end
    assert.equal("files\npope\n", offered("lucid", "po"))
    assert.equal("llava\n", offered("lucid", "help", "ll"))
    assert.equal("--quant\n--quiet\n--questions\n", offered("lucid", "pope", "--qu"))
    assert.equal("--no-json\n", offered("lucid", "pope", "--no-js"))
    assert.equal("auto\nf32\nbf16\nf16\n", offered("lucid", "pope", "--dtype", ""))
    assert.equal("\n", offered("lucid", "pope", "--seed", ""))
    assert.equal("files\n\n", offered("lucid", "pope", "--model", ""))
    assert.equal("files\n\n", offered("lucid", "report", "ru"))
    assert.equal("files\n\n", offered("lucid", "./own.lua", "x"))
  end)

  it("is a program of each shell, with every option in it", function()
    for _, shell in ipairs { { "bash", BASH, "--%s" }, { "zsh", ZSH, "'--%s[" }, { "fish", FISH, "-l %s " } } do
      local program, place, form = unpack(shell)
      if here(program) then assert.equal("", said(("%s -n %s/%s"):format(program, dir, place))) end
      for _, c in ipairs(commands) do
        for _, o in ipairs((args.options(c.spec))) do assert.truthy(files[place]:find(form:format(o.name), 1, true), o.name) end
      end
    end
  end)

  it("offers fish the same", function()
    if not here "fish" then return pending "there is no fish" end
    local function fish(words) return said(("fish -c \"source %s/%s; complete -C '%s'\""):format(dir, FISH, words)) end
    assert.truthy(fish("lucid po"):find "^pope\tPOPE: ")
    assert.truthy(fish("lucid pope --qui"):find "^%-%-quiet\tno progress\n$")
    assert.truthy(fish("lucid pope --dtype b"):find "^bf16\t")
  end)
end)
