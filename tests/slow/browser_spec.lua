-- A report in a browser: nothing goes wrong in it, its pictures are there, it fits a screen, a phone and paper. What
-- the browser saw is kept in build/artifacts.
local file = require "lucid.file"
local folder = require "tests.support.folder"
local json = require "lucid.json"
local program = require "tests.support.program"
local written = require "tests.support.runs"

local ARTIFACTS = "build/artifacts"

local browser = require "tests.support.browser"()
local dir, page

-- Opens an address; the document that came of it, and what the browser said.
local function open(address, options)
  local command = ("HOME=%s timeout 100 %s --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage "
    .. "--no-first-run --user-data-dir=%s/profile --hide-scrollbars --enable-logging=stderr --v=0 %s 'file://%s' "
    .. ">%s/dom 2>%s/said"):format(dir, browser, dir, options, address, dir, dir)
  assert.equal(0, os.execute(command), command)
  return file.read(dir .. "/dom"), file.read(dir .. "/said")
end

local function console(said)
  local lines = {}
  for line in said:gmatch("[^\n]+") do
    if line:find("CONSOLE", 1, true) then lines[#lines + 1] = line end
  end
  return lines
end

-- Looks at a page from inside, in a frame of a width, for a window is never narrower than 500 pixels. The page forbids
-- scripts, so it is a copy without this rule that is looked at.
local PROBE = [[<script>addEventListener("load", () => {
  const images = [...document.images], root = document.documentElement
  const luminance = (text) => { const [r, g, b] = text.match(/[\d.]+/g).map(c => { c /= 255
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4 }); return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  const paper = luminance(getComputedStyle(document.body).backgroundColor)
  const contrast = [...document.querySelectorAll("p, td, th, a, h1, h2, h3, h4, li, summary, .why")].map(e => {
    const ink = luminance(getComputedStyle(e).color)
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05) })
  parent.postMessage(JSON.stringify({ width: innerWidth, content: root.scrollWidth, title: document.title,
    images: images.length, loaded: images.filter(i => i.naturalWidth > 0 && i.offsetWidth > 0).length,
    unnamed: images.filter(i => !i.alt).length, heads: document.querySelectorAll("th:not([scope])").length,
    tables: document.querySelectorAll("table").length, contrast: Math.min(...contrast) }), "*") })</script>]]
local FRAME = '<!doctype html><meta charset="utf-8"><style>body { margin: 0 } iframe { border: 0 }</style><script>'
  .. 'addEventListener("message", e => document.body.setAttribute("data-seen", encodeURIComponent(e.data)))</script>'
  .. '<body><iframe src="%s" width="%d" height="%d"></iframe></body>'

local function framed(source, width, height)
  file.write(dir .. "/frame.html", FRAME:format(source, width, height))
  return dir .. "/frame.html"
end

local function seen(html, width, options)
  file.write(dir .. "/probed.html", (html:gsub("<meta http%-equiv=[^>]*>", "", 1)) .. PROBE)
  local dom = open(framed("probed.html", width, 2000), "--dump-dom " .. (options or ""))
  local text = assert(dom:match('data%-seen="([^"]*)"'), "the page did not load")
  return json.decode((text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)))
end

local function shoot(source, name, width, height, options)
  file.mkdir(ARTIFACTS)
  local target = source
  if width < 500 then target = framed("page.html", width, height) end
  local path = ("%s/%s.png"):format(ARTIFACTS, name)
  open(target, ("--window-size=%d,%d --screenshot=%s %s"):format(width, height, path, options or ""))
  assert.is_true(file.size(path) > 20000, path)
end

describe("a report in a browser", function()
  if not browser then
    it("is looked at", function() pending("there is no chromium here; make deps-browser installs it") end)
    return
  end

  setup(function()
    dir = folder.folder()
    local runs = written.write(dir)
    page = dir .. "/page.html"
    local command = ("%s report %s --out %s --pictures 5 --pick changed >%s/out"):format(program, runs, page, dir)
    assert.equal(0, os.execute(command))
  end)
  teardown(function() folder.remove(dir) end)

  it("says nothing on the console", function()
    local dom, said = open(page, "--dump-dom")
    assert.same({}, console(said))
    assert.truthy(dom:find("<title>lucid report</title>", 1, true))
    -- The same ears hear what the page's own rule forbids, and a picture that is none.
    local bad = '<body><script>1</script><img src="http://127.0.0.1/x">'
    file.write(dir .. "/bad.html", (file.read(page):gsub("<body>", bad)))
    local _, complaints = open(dir .. "/bad.html", "--dump-dom")
    assert.is_true(#console(complaints) >= 2, complaints)
  end)

  for _, width in ipairs { 1280, 390 } do
    it(("has every picture and fits %d pixels"):format(width), function()
      local html = file.read(page)
      for _, scheme in ipairs { "", "--blink-settings=preferredColorScheme=0" } do
        local s = seen(html, width, scheme)
        assert.same({ width, width, 11, 11, 0, 0, "lucid report" },
          { s.width, s.content, s.images, s.loaded, s.unnamed, s.heads, s.title })
        assert.is_true(s.tables > 10)
        assert.is_true(s.contrast >= 4.5, ("contrast %.2f"):format(s.contrast))
      end
    end)
  end

  it("is not believed where it does not fit or a picture is broken", function()
    local html = file.read(page):gsub("<body>", '<body><div style="width:1400px">wide</div>')
    html = html:gsub("base64,....", "base64,", 1)
    local s = seen(html, 390)
    assert.is_true(s.content >= 1400 and s.loaded < s.images, json.encode(s))
  end)

  it("leaves pictures of itself: screen, dark, phone, paper", function()
    shoot(page, "report", 1280, 5600)
    shoot(page, "report-dark", 1280, 5600, "--blink-settings=preferredColorScheme=0")
    shoot(page, "report-phone", 390, 9000)
    open(page, ("--no-pdf-header-footer --print-to-pdf=%s/report.pdf"):format(ARTIFACTS))
    assert.equal("%PDF", file.read(ARTIFACTS .. "/report.pdf"):sub(1, 4))
  end)
end)
