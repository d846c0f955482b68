-- The browser that pages are opened in, where there is one.
local BROWSERS = { "chromium", "chromium-browser", "google-chrome" }

--- The path of a Chromium; nil: there is none.
return function()
  for _, name in ipairs(BROWSERS) do
    local pipe = io.popen("command -v " .. name .. " 2>/dev/null")
    local path = pipe:read "*l"
    pipe:close()
    if path then return path end
  end
end
